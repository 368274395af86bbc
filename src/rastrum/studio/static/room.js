// What rooms with a model have in common: which model, which class of its classes, which seed.

import {field, make} from "./pictures.js";

export class Room {
  // connection: to the studio; models: as it describes them; memory: what was chosen in other rooms.
  // name: of the room; usual: its model where none was chosen; unknown: the option of no class, if there is one.
  constructor(connection, models, memory, {name, usual, unknown}) {
    Object.assign(this, {connection, models, memory, unknown});
    this.model = make("select", {name: "model"});
    for (const model of models.filter((each) => each.rooms.includes(name)))
      this.model.append(make("option", {value: model.name}, model.name.replace(/^rastrum\//, "")));
    const wanted = memory.model || usual;
    if ([...this.model.options].some((option) => option.value === wanted)) this.model.value = wanted;
    this.klass = make("select", {name: "class"});
    this.klassField = field("Class", this.klass);
    this.seed = make("input", {type: "number", name: "seed", min: 0, max: 2147483647, value: 0, required: true});
  }

  // The model that is chosen now, with its classes to choose from.
  chosen() {
    const spec = this.spec = this.models.find((each) => each.name === this.model.value);
    this.memory.model = spec.name;
    this.klassField.hidden = !spec.classes;
    this.klass.replaceChildren(...(this.unknown ? [make("option", {value: ""}, this.unknown)] : []),
      ...(spec.classes || []).map((name, value) => make("option", {value}, name)));
    return spec;
  }
}

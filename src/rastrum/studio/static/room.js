// What rooms with a model have in common: which model, which class, which seed, an image to begin with; and what was recorded of them.

import {GETS_READY, bytes, field, make} from "./pictures.js";
import {SpatialMap} from "./spatial.js";

const RECORDED_OPTIONS = ["class_number", "seed", "temperature", "particles", "times"];

export class Room {
  // connection: to the studio; models: as it describes them; memory: what was chosen in other rooms.
  // name: of the room; usual: its model where none was chosen; unknown: the option of no class, if there is one.
  constructor(connection, models, memory, {name, usual, unknown}) {
    Object.assign(this, {connection, models, memory, name, unknown, number: 3});
    this.model = make("select", {name: "model"});
    for (const model of models.filter((each) => each.rooms.includes(name)))
      this.model.append(make("option", {value: model.name}, model.name.replace(/^rastrum\//, "")));
    const wanted = memory.model || usual;
    if ([...this.model.options].some((option) => option.value === wanted)) this.model.value = wanted;
    this.klass = make("select", {name: "class_number"});
    this.klassField = field("Class", this.klass);
    this.mapField = make("div", {inert: !connection.live});
    this.seed = make("input", {type: "number", name: "seed", min: 0, max: 2147483647, value: 0, required: true});
  }

  // The model that is chosen now, with its classes to choose from; called when the room's form is there.
  chosen() {
    const spec = this.spec = this.models.find((each) => each.name === this.model.value);
    this.memory.model = spec.name;
    this.klassField.hidden = !spec.classes;
    this.klass.replaceChildren(...(this.unknown ? [make("option", {value: ""}, this.unknown)] : []),
      ...(spec.classes || []).map((name, value) => make("option", {value}, name)));
    this.map = spec.map && new SpatialMap(spec.map, spec.levels, () => this.start());
    this.mapField.hidden = !this.map;
    this.mapField.replaceChildren(...(this.map ? [make("span", {className: "note"}, this.map.label), this.map.element] : []));
    const walks = this.connection.recordings(this.name, spec.name);
    if (walks) for (const input of this.form.elements) if (RECORDED_OPTIONS.includes(input.name)) limit(input, walks);
    return spec;
  }

  // The condition that is chosen, as an option.
  given() {
    if (this.map) return {spatial_map: this.map.value};
    return this.spec.classes && this.klass.value !== "" ? {class_number: Number(this.klass.value)} : {};
  }

  about() {
    const {system, frames, height, width, levels, score, training} = this.spec;
    const size = `${height}×${width}, ${levels} levels`;
    return `${system}, ${frames > 1 ? `${frames} frames (shown row by row) of ${size}` : size}` +
      (score ? `. Held-out score ${score}` : "") + (training ? `, trained for ${training}` : "") + ".";
  }

  anotherSeed() {
    const button = make("button", {type: "button"}, "Another seed");
    button.onclick = () => { this.seed.value = (Number(this.seed.value) + 1) % (Number(this.seed.max) + 1); this.start(); };
    return button;
  }

  anotherExample() {
    const button = make("button", {type: "button"}, "Another example");
    button.onclick = () => {
      const walks = this.connection.recordings("example", this.spec.name), seeds = walks && walks.map((walk) => walk.seed);
      this.number = seeds ? seeds[(seeds.indexOf(this.number) + 1) % seeds.length] : this.number + 1;
      this.example();
    };
    return button;
  }

  // Asks for an image that the model draws, which show(levels) takes.
  example() {
    this.facts.textContent = GETS_READY;
    const map = this.map ? this.given() : {};
    this.connection.start("example", {model: this.spec.name, seed: this.number, ...map}, (message) => {
      if (message.error) this.facts.textContent = message.error;
      if (message.image) this.begin(bytes(message.image));
    });
  }
}

// Of a control, leaves the values that were recorded.
function limit(input, walks) {
  const values = new Set(walks.map((walk) => String(walk[input.name] ?? "")));
  if (input.tagName === "SELECT") {
    for (const option of [...input.options]) option.hidden = option.disabled = !values.has(option.value);
    if (!values.has(input.value)) input.value = [...values][0];
  } else if (input.type === "number") input.max = Math.max(...values);
  input.disabled = values.size < 2;
}

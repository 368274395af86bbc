// Complete: draw a part of an image, and see eight ways in which a model goes on; of a class-conditional model, also what it may become.

import {Easel} from "./easel.js";
import {base64, bytes, field, imageCanvas, make, paint, slider, sliderField} from "./pictures.js";
import {Room} from "./room.js";

const COUNT = 8;

export class Complete extends Room {
  static title = "Complete";
  static what = "Some of the image is unknown (chequered). The model fills it in eight times, and if it knows classes, it says which " +
    "class the image may be. With particles, what is known also steers the pixels that come before it.";
  static tools = "Draw, erase, and mark as unknown, as you like.";

  constructor(connection, models, memory) {
    super(connection, models, memory, {name: "complete", usual: "rastrum/row-lstm-mnist-classes", unknown: "unknown: weigh all"});
    this.particles = make("select", {name: "particles"}, ...[[0, "none: only what is above steers"], [16, "16"], [64, "64, slower"]]
      .map(([value, text]) => make("option", {value}, text)));
    this.particles.value = 16;
    this.temperature = slider("temperature", 0.2, 2, 0.05, 1);
    this.each = make("input", {type: "checkbox", checked: true});
    const once = make("label", {className: "live"}, make("span", {}, this.each, " Complete after every stroke"));
    const stop = make("button", {type: "button"}, "Stop");
    stop.onclick = () => { this.connection.cancel(); this.facts.textContent = "Stopped."; };
    this.form = make("form", {}, field("Model", this.model), this.klassField, this.mapField, field("Particles", this.particles),
      field("Seed", this.seed), sliderField("Temperature", this.temperature), once,
      make("div", {className: "buttons live"}, make("button", {className: "main"}, "Complete"), stop));
    this.form.onsubmit = (event) => { event.preventDefault(); this.start(); };
    this.model.onchange = () => { this.choose(); this.example(); };
    this.klass.onchange = this.particles.onchange = this.temperature.onchange = () => this.start();
    this.place = make("div", {inert: !connection.live});
    const button = (text, act, more = "") => {
      const made = make("button", {type: "button", className: more}, text);
      made.onclick = act;
      return made;
    };
    this.halves = [["last", "Last frames unknown"], ["lower", "Lower half unknown"], ["right", "Right half unknown"]]
      .map(([half, text]) => Object.assign(button(text, () => this.hide(half)), {value: half}));
    const starts = make("div", {className: "buttons"}, button("All unknown", () => this.clear(false), "live"),
      button("Blank paper", () => this.clear(true), "live"), ...this.halves, this.anotherExample());
    this.facts = make("p", {className: "facts", "aria-live": "polite"});
    this.results = make("div", {className: "grid"});
    this.posterior = make("div", {className: "bars"});
    this.posteriorPart = make("div", {}, make("h2", {}, "Which class it may be"), this.posterior);
    this.element = make("div", {className: "desk three"}, make("section", {className: "panel", "aria-label": "how to complete"}, this.form),
      make("section", {className: "panel", "aria-label": "what is known"}, make("h2", {}, "What is known"), this.place, starts,
        make("p", {className: "note live"}, "On blank paper, what you leave empty is known to be empty. With all unknown, only your strokes are " +
          "known.")),
      make("section", {className: "panel", "aria-label": "completions"}, make("h2", {}, "Completions"), this.results, this.facts,
        this.posteriorPart));
    this.choose();
  }

  choose() {
    const spec = this.chosen();
    this.posteriorPart.hidden = !spec.classes;
    this.easel = new Easel(spec, true, () => { if (this.each.checked) this.start(); });
    this.place.replaceChildren(this.easel.element);
    this.pictures = Array.from({length: COUNT}, (_, i) => imageCanvas(spec, `completion ${i + 1}`));
    this.captions = this.pictures.map(() => make("figcaption"));
    this.results.replaceChildren(...this.pictures.map((canvas, i) => make("figure", {}, canvas, this.captions[i])));
    this.results.classList.toggle("wide", spec.frames > 1);
    for (const canvas of this.pictures) paint(canvas, this.easel.values, spec, this.easel.known);
    this.posterior.replaceChildren();
    for (const button of this.halves) button.hidden = (button.value === "last") !== (spec.frames > 1);
    this.ready = false;
    this.image = this.easel.values.slice();
  }

  enter() { if (!this.ready) this.example(); }

  leave() { this.connection.cancel(); }

  clear(known) {
    this.image = new Uint8Array(this.easel.size);
    this.easel.set(this.image, () => known);
    this.connection.cancel();
    this.facts.textContent = "Draw something.";
  }

  begin(image) {
    this.ready = true;
    this.easel.set(image);
    this.hide(this.spec.frames > 1 ? "last" : "lower");
  }

  // Half of the image becomes unknown; in the other half, what was unknown is again what it was before.
  hide(half) {
    const {height, width} = this.spec, {values, known} = this.easel;
    this.image = this.image.map((value, i) => known[i] ? values[i] : value);
    const isKnown = {last: (i) => i < (this.spec.frames >> 1) * height * width, lower: (i) => i < (height >> 1) * width,
      right: (i) => i % width < width >> 1};
    this.easel.set(this.image, isKnown[half]);
    this.start();
  }

  start() {
    if (!this.form.reportValidity()) return;
    const options = {model: this.spec.name, image: base64(this.easel.values), known: base64(this.easel.known),
      particles: Number(this.particles.value), seed: Number(this.seed.value), temperature: Number(this.temperature.value), ...this.given()};
    this.element.setAttribute("aria-busy", true);
    this.facts.textContent = "Completing …";
    this.connection.start("complete", options, (message) => this.receive(message));
  }

  receive(message) {
    if (message.error || message.done) this.element.setAttribute("aria-busy", false);
    if (message.error) this.facts.textContent = message.error;
    if (message.fraction !== undefined) this.facts.textContent = `Completing … ${Math.round(100 * message.fraction)} %`;
    if (!message.images) return;
    const images = bytes(message.images), size = this.easel.size, decided = message.decided && bytes(message.decided);
    this.pictures.forEach((canvas, i) => {
      paint(canvas, images.subarray(i * size, (i + 1) * size), this.spec, decided && decided.subarray(i * size, (i + 1) * size));
      this.captions[i].textContent = message.classes ? this.spec.classes[message.classes[i]] : "";
    });
    if (message.bits !== undefined)
      this.facts.textContent = `What is known takes ${message.bits.toFixed(1)} bits under the model. ` +
        `${this.particles.value} whole images were tried and weighed by how well they fit it; about ${Math.round(message.effective)} of ` +
        "them count." + this.likeliest(message.posterior);
    else if (message.fraction === 1) this.facts.textContent = "Done.";
    if (message.posterior) this.weigh(message.posterior);
  }

  likeliest(posterior) {
    if (!posterior) return "";
    const most = posterior.indexOf(Math.max(...posterior));
    return ` Most likely it is ${this.spec.classes[most]}, with ${percentage(posterior[most])}.`;
  }

  weigh(posterior) {
    this.posterior.replaceChildren(...posterior.flatMap((share, i) => {
      const percent = percentage(share);
      return [make("span", {}, this.spec.classes[i]), make("meter", {value: share, "aria-label": this.spec.classes[i]}, percent),
        make("span", {}, percent)];
    }));
  }

  key() { return false; }
}

const percentage = (share) => share > 0.9995 ? "> 99.9 %" : share < 0.0005 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;

// Filters: DRAW's attention window by hand.

import {Easel} from "./easel.js";
import {base64, bytes, imageCanvas, make, paint, paintScene, slider, sliderField} from "./pictures.js";

const SPEC = {channels: 1, height: 28, width: 28, levels: 256};
const PARAMETERS = [
  ["count", "Filters along a side, N", 1, 28, 1, 8], ["column", "Centre g_X, column", 0, 27, 0.5, 13.5],
  ["row", "Centre g_Y, row", 0, 27, 0.5, 13.5], ["stride", "Stride δ, pixels", 0.1, 6, 0.1, 2], ["sigma", "Width σ, pixels", 0.1, 6, 0.1, 0.7],
  ["gamma", "Strength γ", 0.1, 3, 0.1, 1],
];
const FIRST = [[6, 7, 21, 7], [21, 7, 12, 23], [10, 15, 19, 15]];     // lines from column, row to column, row: a crossed seven

export class Filters {
  static title = "Filters";
  static anyModel = true;
  static what = "DRAW reads a part of an image through N × N Gaussian filters, and writes through such filters too. Move the sliders, or " +
    "draw on the image.";

  constructor(connection) {
    this.connection = connection;
    this.sliders = Object.fromEntries(PARAMETERS.map(([name, , ...range]) => [name, slider(name, ...range)]));
    this.form = make("form", {}, ...PARAMETERS.map(([name, label]) => sliderField(label, this.sliders[name])));
    this.form.oninput = () => this.start();
    this.form.onsubmit = (event) => event.preventDefault();
    this.easel = new Easel(SPEC, false, () => this.start());
    for (const [x0, y0, x1, y1] of FIRST)
      for (let i = 0; i <= 30; i++) this.easel.dab(Math.round(y0 + (y1 - y0) * i / 30), Math.round(x0 + (x1 - x0) * i / 30));
    this.easel.paint();
    const blank = make("button", {type: "button"}, "Blank paper");
    blank.onclick = () => { this.easel.set(new Uint8Array(this.easel.size)); this.start(); };
    this.scene = make("canvas", {className: "scene", role: "img"});
    this.written = make("canvas", {className: "scene", role: "img", "aria-label": "the patch written back to an empty image"});
    this.facts = make("p", {className: "facts", "aria-live": "polite"});
    this.places = Object.fromEntries(["patch", "rows", "columns"].map((name) => [name, make("div")]));
    const titled = (title, ...rest) => make("div", {}, make("h3", {}, title), ...rest);
    this.element = make("div", {className: "desk three"},
      make("section", {className: "panel", "aria-label": "parameters"}, this.form),
      make("section", {className: "panel", "aria-label": "the image"}, make("div", {className: "pair"},
        titled("The window", this.scene), titled("The image: draw here", this.easel.element, make("div", {className: "buttons"}, blank))),
        this.facts),
      make("section", {className: "panel", "aria-label": "what is read and written"}, make("div", {className: "pair"},
        titled("Patch that is read, γ F_Y x F_Xᵀ", this.places.patch), titled("Written back", this.written),
        titled("F_Y, a row per filter", this.places.rows), titled("F_X, a row per filter", this.places.columns))));
    new ResizeObserver(() => this.show()).observe(this.scene);
  }

  enter() { this.start(); }

  leave() { this.busy = null; this.connection.cancel(); }

  start() {
    const options = Object.fromEntries(Object.entries(this.sliders).map(([name, input]) => [name, Number(input.value)]));
    this.asked = {...options, image: base64(this.easel.values)};
    if (!this.busy) this.ask();
  }

  // One question at a time; the newest is asked when the one before is answered.
  ask() {
    const asked = this.busy = this.asked;
    this.connection.start("filters", asked, (message) => {
      if (message.window) { this.answer = message; this.show(); }
      if (message.error) this.facts.textContent = message.error;
      if (!message.done && !message.error) return;
      this.busy = null;
      if (this.asked !== asked && this.scene.isConnected) this.ask();
    });
  }

  show() {
    const found = this.answer, count = Number(this.sliders.count.value);
    if (!found || !this.scene.isConnected) return;
    paintScene(this.scene, this.easel.values, SPEC, [[found.window, "accent", false]]);
    paintScene(this.written, bytes(found.written), SPEC, []);
    const side = Math.sqrt(bytes(found.patch).length);
    for (const [name, width] of [["patch", side], ["rows", SPEC.height], ["columns", SPEC.width]]) {
      const spec = {...SPEC, width, height: side}, canvas = imageCanvas(spec, name);
      paint(canvas, bytes(found[name]), spec);
      this.places[name].replaceChildren(canvas);
    }
    const [row, column, tall] = found.window.map((value) => value.toFixed(1));
    this.facts.textContent = `${count} × ${count} filters on ${tall} × ${tall} pixels, centre at row ${row}, column ${column}.`;
    this.scene.setAttribute("aria-label", this.facts.textContent);
  }

  key() { return false; }
}

// Filters: DRAW's attention window by hand.

import {attend} from "./attention.js";
import {Easel} from "./easel.js";
import {imageCanvas, make, paint, paintScene, slider, sliderField} from "./pictures.js";

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

  constructor() {
    this.sliders = Object.fromEntries(PARAMETERS.map(([name, , ...range]) => [name, slider(name, ...range)]));
    this.form = make("form", {}, ...PARAMETERS.map(([name, label]) => sliderField(label, this.sliders[name])));
    this.form.oninput = () => this.show();
    this.form.onsubmit = (event) => event.preventDefault();
    this.easel = new Easel(SPEC, false, () => this.show());
    for (const [x0, y0, x1, y1] of FIRST)
      for (let i = 0; i <= 30; i++) this.easel.dab(Math.round(y0 + (y1 - y0) * i / 30), Math.round(x0 + (x1 - x0) * i / 30));
    this.easel.paint();
    const blank = make("button", {type: "button"}, "Blank paper");
    blank.onclick = () => { this.easel.set(new Uint8Array(this.easel.size)); this.show(); };
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
        titled("Read: γ F_Y x F_Xᵀ", this.places.patch), titled("Written back", this.written),
        titled("F_Y, a row per filter", this.places.rows), titled("F_X, a row per filter", this.places.columns))));
    new ResizeObserver(() => this.show()).observe(this.scene);
  }

  enter() { this.show(); }

  leave() {}

  show() {
    if (!this.scene.isConnected) return;
    const chosen = Object.fromEntries(Object.entries(this.sliders).map(([name, input]) => [name, Number(input.value)]));
    const {width, height, levels} = SPEC;
    const image = Array.from({length: height}, (_, row) => [...this.easel.values.subarray(row * width, (row + 1) * width)]
      .map((value) => value / (levels - 1)));
    const found = attend(image, chosen);
    paintScene(this.scene, this.easel.values, SPEC, [[found.window, "accent", false]]);
    paintScene(this.written, levelsOf(found.written, largest(found.written)), SPEC, []);
    for (const [name, most] of [["patch", 1], ["rows", largest(found.rows)], ["columns", largest(found.columns)]]) {
      const spec = {...SPEC, width: found[name][0].length, height: chosen.count}, canvas = imageCanvas(spec, name);
      paint(canvas, levelsOf(found[name], most), spec);
      this.places[name].replaceChildren(canvas);
    }
    const [row, column, tall] = found.window.map((value) => value.toFixed(1));
    const grid = `${chosen.count} × ${chosen.count} filters`;
    this.facts.textContent = `${grid} on ${tall} × ${tall} pixels, centre at row ${row}, column ${column}.`;
    this.scene.setAttribute("aria-label", this.facts.textContent);
  }

  key() { return false; }
}

const largest = (matrix) => Math.max(...matrix.flat(), 1e-12);

const levelsOf = (matrix, most) => Uint8Array.from(matrix.flat(), (value) => Math.round(255 * Math.max(0, Math.min(1, value / most))));

// An image to draw on: pixels are drawn, erased, or marked as unknown, with a pointer or with the arrow keys.

import {imageCanvas, make, paint, pixelAt, pixelCount, pixelOf, sheet, valueOf} from "./pictures.js";

const TOOLS = [["draw", "Draw"], ["erase", "Erase"], ["unknown", "Mark unknown"]];

export class Easel {
  // spec: of the image; unknown: whether pixels may be unknown; changed() is called after each stroke of the pointer.
  constructor(spec, unknown, changed) {
    Object.assign(this, {spec, changed, tool: "draw", cursor: null});
    this.size = spec.channels * pixelCount(spec);
    this.values = new Uint8Array(this.size);
    this.known = new Uint8Array(this.size).fill(unknown ? 0 : 1);
    this.canvas = imageCanvas(spec, "drawing: arrow keys move, space applies the tool", "draw");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    this.brush = make("select", {"aria-label": "brush"}, ...[1, 2, 3, 5].map((size) => make("option", {value: size}, `${size} px`)));
    this.brush.value = spec.width > 20 ? 2 : 1;
    this.buttons = TOOLS.filter(([name]) => unknown || name !== "unknown").map(([name, text]) => {
      const button = make("button", {type: "button", value: name}, text);
      button.onclick = () => this.choose(name);
      return button;
    });
    this.ink = spec.levels === 2 ? null : make("input", {type: "color", value: "#ffffff", "aria-label": "colour to draw with"});
    this.element = make("div", {className: "frame"}, this.canvas,
      make("div", {className: "buttons"}, ...this.buttons, this.brush, ...(this.ink ? [this.ink] : [])));
    this.canvas.onpointerdown = (event) => { this.canvas.setPointerCapture(event.pointerId); this.last = null; this.stroke(event); };
    this.canvas.onpointermove = (event) => { if (event.buttons) this.stroke(event); };
    this.canvas.onpointerup = () => this.changed();
    this.canvas.onkeydown = (event) => this.key(event);
    this.canvas.onblur = () => { this.cursor = null; this.paint(); };
    this.choose("draw");
    this.paint();
  }

  choose(tool) {
    this.tool = tool;
    for (const button of this.buttons) button.setAttribute("aria-pressed", button.value === tool);
  }

  // The levels of the colour that is drawn with, one per channel.
  levels() {
    const {channels, levels} = this.spec, most = levels - 1;
    if (this.tool === "erase" || !this.ink) return Array(channels).fill(this.tool === "erase" ? 0 : most);
    const rgb = [1, 3, 5].map((i) => parseInt(this.ink.value.slice(i, i + 2), 16) / 255);
    const grey = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2];
    return Array.from({length: channels}, (_, c) => Math.round((channels === 3 ? rgb[c] : grey) * most));
  }

  dab(row, column) {
    const size = Number(this.brush.value), first = Math.floor((size - 1) / 2), levels = this.levels();
    for (let y = row - first; y < row - first + size; y++)
      for (let x = column - first; x < column - first + size; x++) {
        const pixel = pixelOf(this.spec, y, x);
        if (pixel !== null) levels.forEach((level, c) => {
          const at = valueOf(this.spec, pixel, c);
          this.known[at] = this.tool === "unknown" ? 0 : 1;
          this.values[at] = this.tool === "unknown" ? 0 : level;
        });
      }
  }

  stroke(event) {
    const here = pixelAt(this.canvas, event, this.spec);
    if (!here) { this.last = null; return; }
    const from = this.last || here, steps = Math.max(1, Math.abs(here[0] - from[0]), Math.abs(here[1] - from[1]));
    for (let i = 0; i <= steps; i++)
      this.dab(...here.map((end, axis) => Math.round(from[axis] + (end - from[axis]) * i / steps)));
    this.last = here;
    this.paint();
  }

  key(event) {
    const by = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], " ": [0, 0]}[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    const {width, height} = this.spec, [row, column] = this.cursor || [height >> 1, width >> 1], [rows, columns] = sheet(this.spec);
    this.cursor = [Math.max(0, Math.min(rows - 1, row + by[0])), Math.max(0, Math.min(columns - 1, column + by[1]))];
    if (event.key === " ") { this.dab(...this.cursor); this.changed(); }
    this.paint();
  }

  // Takes an image; known(pixel) says which pixels of it are known.
  set(values, known = () => true) {
    for (let pixel = 0; pixel < pixelCount(this.spec); pixel++)
      for (let c = 0; c < this.spec.channels; c++) this.known[valueOf(this.spec, pixel, c)] = known(pixel) ? 1 : 0;
    this.values.set(values.map((value, i) => this.known[i] ? value : 0));
    this.paint();
  }

  paint() {
    const tint = this.cursor ? new Uint8Array(this.size) : null;
    if (tint) tint[pixelOf(this.spec, ...this.cursor)] = 1;
    paint(this.canvas, this.values, this.spec, this.known, tint);
  }
}

// Surprise: the bits of each pixel of an image that is dropped on the page, drawn there, or made by the model.

import {levelsOf, takeDrops} from "./dropped.js";
import {Easel} from "./easel.js";
import {array, base64, field, make, paintScene, pixelAt} from "./pictures.js";
import {Room} from "./room.js";

const STOPS = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];   // dark: expected, bright: surprising

function heat(share) {
  const at = Math.min(share, 0.9999) * (STOPS.length - 1), i = Math.floor(at);
  return STOPS[i].map((value, c) => Math.round(value + (STOPS[i + 1][c] - value) * (at - i)));
}

export class Surprise extends Room {
  static title = "Surprise";
  static what = "How many bits each pixel takes under the model, given those before it: dark where the model expected it, bright where it " +
    "is surprised. The ring marks the pixel that surprised it most.";
  static tools = "Drop an image, draw on it, and see what changes. The image goes to the studio alone, which does not keep it.";

  constructor(connection, models, memory) {
    super(connection, models, memory, {name: "surprise", unknown: "the likeliest"});
    this.file = make("input", {type: "file", accept: "image/*", name: "file"});
    this.fault = make("p", {className: "error", role: "alert"});
    this.invert = make("input", {type: "checkbox", name: "invert"});
    this.form = make("form", {}, field("Model", this.model), this.klassField, this.mapField,
      make("label", {className: "live"}, "Image file, or drop one on the page", this.file), this.fault,
      make("label", {className: "live"}, make("span", {}, this.invert, " Dark and bright change places (for dark ink on white paper)")));
    this.model.onchange = () => { this.choose(); this.example(); };
    this.klass.onchange = () => this.start();
    this.file.onchange = () => this.open(this.file.files[0]);
    this.invert.onchange = () => { if (this.opened) this.open(this.opened); };
    const blank = make("button", {type: "button", className: "live"}, "Blank paper");
    blank.onclick = () => { this.easel.set(new Uint8Array(this.easel.size)); this.start(); };
    this.place = make("div", {inert: !connection.live});
    this.picture = make("canvas", {className: "scene", role: "application", tabIndex: 0,
      "aria-label": "bits of each pixel: arrow keys move"});
    this.picture.onpointermove = (event) => this.point(pixelAt(this.picture, event, this.spec));
    this.picture.onkeydown = (event) => this.move(event);
    this.picture.onblur = this.picture.onpointerleave = () => this.point(null);
    this.facts = make("p", {className: "facts", "aria-live": "polite"});
    this.here = make("p", {className: "note", "aria-live": "polite"});
    this.most = make("span");
    this.ramp = make("canvas", {width: 256, height: 1, "aria-hidden": true});
    for (let i = 0; i < 256; i++) {
      const pen = this.ramp.getContext("2d");
      pen.fillStyle = `rgb(${heat(i / 255)})`;
      pen.fillRect(i, 0, 1, 1);
    }
    this.element = make("div", {className: "desk three"}, make("section", {className: "panel", "aria-label": "what to score"}, this.form),
      make("section", {className: "panel", "aria-label": "the image"}, make("h2", {}, "The image"), this.place,
        make("div", {className: "buttons"}, this.anotherExample(), blank)),
      make("section", {className: "panel", "aria-label": "its surprise"}, make("h2", {}, "Bits of each pixel"),
        make("div", {className: "frame"}, this.picture), make("div", {className: "ramp"}, "0", this.ramp, this.most), this.facts, this.here));
    if (connection.live) takeDrops(this.element, (file) => this.open(file));
    new ResizeObserver(() => this.show()).observe(this.picture);
    this.choose();
  }

  choose() {
    const spec = this.chosen();
    this.easel = new Easel(spec, false, () => this.start());
    this.place.replaceChildren(this.easel.element);
    this.picture.style.aspectRatio = `${spec.width} / ${spec.height}`;
    this.ready = this.bits = this.heat = null;
  }

  enter() { if (!this.ready) this.example(); else this.start(); }

  leave() { this.connection.cancel(); }

  begin(image) {
    this.ready = true;
    this.opened = null;
    this.easel.set(image);
    this.start();
  }

  async open(file) {
    if (!file) return;
    this.fault.textContent = "";
    try {
      this.begin(await levelsOf(file, this.spec, this.invert.checked));
      this.opened = file;
    } catch (error) {
      this.fault.textContent = error.message;
    }
  }

  start() {
    const options = {model: this.spec.name, image: base64(this.easel.values), ...this.given()};
    this.connection.start("surprise", options, (message) => this.receive(message));
  }

  receive(message) {
    if (message.error) this.facts.textContent = message.error;
    if (!message.bits) return;
    const bits = this.bits = array(Float32Array, message.bits), {width, channels} = this.spec, count = bits.length;
    const peak = bits.reduce((best, value, i) => value > bits[best] ? i : best, 0), most = Math.max(bits[peak], 0.1);
    const total = bits.reduce((a, b) => a + b, 0), at = this.peak = [Math.floor(peak / width), peak % width];
    this.heat = new Uint8Array(3 * count);
    bits.forEach((value, i) => heat(Math.max(0, value) / most).forEach((level, c) => { this.heat[c * count + i] = level; }));
    this.most.textContent = `${most.toFixed(1)} bits`;
    const named = message.class === null ? "" : `, as class ${this.spec.classes[message.class]}`;
    this.facts.textContent = `${total.toFixed(1)} bits in all${named}: ${(total / count / channels).toFixed(3)} per value. ` +
      `Most surprised at row ${at[0]}, column ${at[1]} (ringed): ${bits[peak].toFixed(2)} bits.`;
    this.point(null);
  }

  // Says the bits of a pixel, and shows where it is.
  point(pixel) {
    this.at = pixel;
    this.show();
    const bits = pixel && this.bits && this.bits[pixel[0] * this.spec.width + pixel[1]];
    this.here.textContent = pixel && this.bits ? `Row ${pixel[0]}, column ${pixel[1]}: ${bits.toFixed(2)} bits.` :
      "Point at a pixel, or go there with the arrow keys, for its bits. Rows and columns count from 0.";
  }

  show() {
    if (!this.heat || !this.picture.isConnected) return;
    const here = this.at ? [[[...this.at, 1.4, 1.4], "strong", false]] : [];
    paintScene(this.picture, this.heat, {...this.spec, channels: 3}, [[[...this.peak, 3, 3], "accent", false], ...here]);
  }

  move(event) {
    const by = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key], {width, height} = this.spec;
    if (!by || !this.bits) return;
    event.preventDefault();
    event.stopPropagation();
    const [row, column] = this.at || this.peak;
    this.point([Math.max(0, Math.min(height - 1, row + by[0])), Math.max(0, Math.min(width - 1, column + by[1]))]);
  }

  key() { return false; }
}

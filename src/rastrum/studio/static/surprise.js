// Surprise: the bits of each pixel of an image that is dropped on the page, drawn there, or made by the model.

import {Easel} from "./easel.js";
import {GETS_READY, array, base64, bytes, field, imageCanvas, make, pixelAt} from "./pictures.js";
import {Room} from "./room.js";

const STOPS = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];   // dark: expected, bright: surprising

function heat(share) {
  const at = Math.min(share, 0.9999) * (STOPS.length - 1), i = Math.floor(at);
  return STOPS[i].map((value, c) => Math.round(value + (STOPS[i + 1][c] - value) * (at - i)));
}

export class Surprise extends Room {
  static title = "Surprise";
  static what = "How many bits each pixel takes under the model, given those before it: dark where the model expected it, bright where it " +
    "is surprised. Drop an image, draw on it, and see what changes. The image goes to the studio alone, which does not keep it.";

  constructor(connection, models, memory) {
    super(connection, models, memory, {name: "surprise", unknown: "the likeliest"});
    this.file = make("input", {type: "file", accept: "image/*", name: "file"});
    this.invert = make("input", {type: "checkbox", name: "invert"});
    this.form = make("form", {}, field("Model", this.model), this.klassField, field("Image file, or drop one on the page", this.file),
      make("label", {}, make("span", {}, this.invert, " Dark and bright change places (for dark ink on white paper)")));
    this.model.onchange = () => { this.choose(); this.example(); };
    this.klass.onchange = () => this.start();
    this.file.onchange = () => this.open(this.file.files[0]);
    this.invert.onchange = () => { if (this.opened) this.open(this.opened); };
    const another = make("button", {type: "button"}, "Another example"), blank = make("button", {type: "button"}, "Blank paper");
    another.onclick = () => { this.number += 1; this.example(); };
    blank.onclick = () => { this.easel.set(new Uint8Array(this.easel.size)); this.start(); };
    this.place = make("div");
    this.heatPlace = make("div", {className: "frame"});
    this.facts = make("p", {className: "facts", "aria-live": "polite"});
    this.here = make("p", {className: "facts"});
    this.most = make("span");
    this.ramp = make("canvas", {width: 256, height: 1, "aria-hidden": true});
    for (let i = 0; i < 256; i++) {
      const pen = this.ramp.getContext("2d");
      pen.fillStyle = `rgb(${heat(i / 255)})`;
      pen.fillRect(i, 0, 1, 1);
    }
    this.element = make("div", {className: "desk three"}, make("section", {className: "panel", "aria-label": "what to score"}, this.form),
      make("section", {className: "panel", "aria-label": "the image"}, make("h2", {}, "The image"), this.place,
        make("div", {className: "buttons"}, another, blank)),
      make("section", {className: "panel", "aria-label": "its surprise"}, make("h2", {}, "Bits of each pixel"), this.heatPlace,
        make("div", {className: "ramp"}, "0", this.ramp, this.most), this.facts, this.here));
    this.element.ondragover = (event) => { event.preventDefault(); this.element.classList.add("dropping"); };
    this.element.ondragleave = () => this.element.classList.remove("dropping");
    this.element.ondrop = (event) => {
      event.preventDefault();
      this.element.classList.remove("dropping");
      this.open(event.dataTransfer.files[0]);
    };
    this.number = 5;
    this.choose();
  }

  choose() {
    const spec = this.chosen();
    this.easel = new Easel(spec, false, () => this.start());
    this.place.replaceChildren(this.easel.element);
    this.map = imageCanvas(spec, "bits of each pixel");
    this.map.onpointermove = (event) => this.point(pixelAt(this.map, event, spec));
    this.heatPlace.replaceChildren(this.map);
    this.ready = this.bits = null;
  }

  enter() { if (!this.ready) this.example(); else this.start(); }

  leave() { this.connection.cancel(); }

  example() {
    this.facts.textContent = GETS_READY;
    this.opened = null;
    this.connection.start("example", {model: this.spec.name, seed: this.number}, (message) => {
      if (message.error) this.facts.textContent = message.error;
      if (!message.image) return;
      this.ready = true;
      this.easel.set(bytes(message.image));
      this.start();
    });
  }

  // An image file, cut to the middle part of the model's shape and shrunk to its size and levels.
  async open(file) {
    if (!file) return;
    let picture;
    try {
      picture = await createImageBitmap(file);
    } catch {
      this.facts.textContent = `${file.name}: the browser cannot read it as an image; try a PNG or a JPEG.`;
      return;
    }
    this.opened = file;
    const {width, height, channels, levels} = this.spec, count = width * height;
    const scale = Math.min(picture.width / width, picture.height / height), cut = [width * scale, height * scale];
    const pen = make("canvas", {width, height}).getContext("2d");
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, width, height);
    pen.imageSmoothingQuality = "high";
    pen.drawImage(picture, (picture.width - cut[0]) / 2, (picture.height - cut[1]) / 2, ...cut, 0, 0, width, height);
    const found = pen.getImageData(0, 0, width, height).data, values = new Uint8Array(channels * count);
    for (let i = 0; i < count; i++)
      for (let c = 0; c < channels; c++) {
        const [r, g, b] = found.slice(4 * i, 4 * i + 3);
        const light = (channels === 3 ? [r, g, b][c] : 0.299 * r + 0.587 * g + 0.114 * b) / 255;
        values[c * count + i] = Math.round((this.invert.checked ? 1 - light : light) * (levels - 1));
      }
    this.ready = true;
    this.easel.set(values);
    this.start();
  }

  start() {
    const options = {model: this.spec.name, image: base64(this.easel.values)};
    if (this.spec.classes && this.klass.value !== "") options.class_number = Number(this.klass.value);
    this.connection.start("surprise", options, (message) => this.receive(message));
  }

  receive(message) {
    if (message.error) this.facts.textContent = message.error;
    if (!message.bits) return;
    const bits = this.bits = array(Float32Array, message.bits), {width, height, channels} = this.spec;
    const most = bits.reduce((a, b) => Math.max(a, b), 0.1), total = bits.reduce((a, b) => a + b, 0);
    const picture = new ImageData(width, height);
    bits.forEach((value, i) => picture.data.set([...heat(Math.max(0, value) / most), 255], 4 * i));
    this.map.getContext("2d").putImageData(picture, 0, 0);
    this.here.textContent = "";
    this.most.textContent = `${most.toFixed(1)} bits`;
    const named = message.class === null ? "" : `, as class ${this.spec.classes[message.class]}`;
    this.facts.textContent = `${total.toFixed(1)} bits in all${named}: ${(total / bits.length / channels).toFixed(3)} per value.`;
  }

  point(pixel) {
    if (pixel && this.bits)
      this.here.textContent = `Row ${pixel[0]}, column ${pixel[1]}: ${this.bits[pixel[0] * this.spec.width + pixel[1]].toFixed(2)} bits.`;
  }

  key() { return false; }
}

// Concept: a picture as a file that is cut at a byte, what the model makes of its beginning, and JPEG of the same size.

import {levelsOf, takeDrops} from "./dropped.js";
import {Easel} from "./easel.js";
import {GETS_READY, base64, bytes, colour, field, make, paintScene, plotting} from "./pictures.js";
import {Player} from "./player.js";
import {Room} from "./room.js";

const SCENES = [["boat", "a boat, drawn"], ["digits", "two digits"], ["leaves", "dead leaves"]];
const RESTS = [["mean", "leave it at the mean"], ["drawn", "draw it, with the seed"]];

const decibels = (psnr) => psnr === null ? "nothing is lost" : `${psnr.toFixed(1)} dB`;
const sized = (count) => `${count.toLocaleString("en")} bytes = ${(8 * count).toLocaleString("en")} bits`;

export class Concept extends Room {
  static title = "Concept";
  static what = "A picture becomes a file that says what matters first and detail later. The slider cuts the file: the model decodes what " +
    "is left and fills in the rest. How few bits do you need to see what it is? Beside it: JPEG of the same bits.";

  static tools = "Drop an image of your own, or draw on the picture.";

  constructor(connection, models, memory) {
    super(connection, models, memory, {name: "concept"});
    const choice = (name, options) => make("select", {name}, ...options.map(([value, text]) => make("option", {value}, text)));
    this.scene = choice("scene", SCENES);
    this.times = choice("times", []);
    this.rest = choice("rest", RESTS);
    this.file = make("input", {type: "file", accept: "image/*", name: "file"});
    this.fault = make("p", {className: "error", role: "alert"});
    this.note = make("p", {className: "note"});
    this.form = make("form", {}, field("Model", this.model), this.note, field("Picture", this.scene),
      make("label", {className: "live"}, "or an image file; you may also drop one on the page", this.file), this.fault, field("Size", this.times),
      this.klassField, field("What the file does not say", this.rest), field("Seed", this.seed));
    this.form.onsubmit = (event) => { event.preventDefault(); this.start(); };
    this.model.onchange = () => { this.choose(); this.enter(); };
    this.times.onchange = () => { this.renew(); this.enter(); };
    this.scene.onchange = () => { this.opened = null; this.begin(); };
    this.file.onchange = () => this.open(this.file.files[0]);
    this.rest.onchange = () => this.show(this.player.at);
    this.klass.onchange = this.seed.onchange = () => this.start();
    this.place = make("div", {inert: !connection.live});
    const picture = (label) => make("canvas", {className: "scene", role: "img", "aria-label": label});
    this.decoded = picture("what the model makes of the bytes");
    this.jpeg = picture("JPEG");
    this.modelFacts = make("p", {className: "facts", "aria-live": "polite"});
    this.jpegFacts = make("p", {className: "facts"});
    this.chart = make("canvas", {className: "chart", role: "img"});
    this.facts = make("p", {className: "facts", "aria-live": "polite"});
    this.player = new Player("bytes that are left of the file", (at) => this.show(at));
    this.element = make("div", {className: "desk"},
      make("section", {className: "panel", "aria-label": "what to code"}, this.form, make("h2", {}, "The picture"), this.place),
      make("section", {className: "panel", "aria-label": "the file so far"}, make("h2", {}, "Where the file is cut"), this.player.element,
        make("div", {className: "pair wide"}, make("div", {}, make("h2", {}, "What the model makes of these bits"), this.decoded, this.modelFacts),
          make("div", {}, make("h2", {}, "JPEG of the same bits"), this.jpeg, this.jpegFacts)),
        make("h2", {}, "Quality by bits: PSNR in dB"), this.chart, this.facts));
    if (connection.live) takeDrops(this.element, (file) => this.open(file));
    new ResizeObserver(() => this.show(this.player.at)).observe(this.chart);
    this.choose();
  }

  choose() {
    const {width, height, times} = this.models.find((each) => each.name === this.model.value);
    this.times.replaceChildren(...Array.from({length: times}, (_, i) =>
      make("option", {value: i + 1}, `${(i + 1) * width} × ${(i + 1) * height} pixels`)));
    this.times.value = Math.min(2, times);
    this.chosen();
    this.note.textContent = this.about();
    this.renew();
  }

  // Begins anew with an empty picture of the size that is chosen.
  renew() {
    const times = Number(this.times.value);
    this.shape = {...this.spec, width: times * this.spec.width, height: times * this.spec.height};
    this.easel = new Easel(this.shape, false, () => this.start());
    this.place.replaceChildren(this.easel.element);
    for (const canvas of [this.decoded, this.jpeg]) canvas.style.aspectRatio = `${this.shape.width} / ${this.shape.height}`;
    this.ready = false;
    this.cuts = [];
    this.player.reset(0);
  }

  enter() {
    if (this.ready) this.start();
    else if (this.opened) this.open(this.opened);
    else this.begin();
  }

  leave() { this.player.pause(); this.connection.cancel(); }

  begin() {
    this.facts.textContent = GETS_READY;
    const options = {model: this.spec.name, name: this.scene.value, times: Number(this.times.value)};
    this.connection.start("scene", options, (message) => {
      if (message.error) this.facts.textContent = message.error;
      if (message.image) this.take(bytes(message.image));
    });
  }

  take(image) {
    this.ready = true;
    this.easel.set(image);
    this.start();
  }

  async open(file) {
    if (!file) return;
    this.fault.textContent = "";
    try {
      this.take(await levelsOf(file, this.shape));
      this.opened = file;
    } catch (error) {
      this.fault.textContent = error.message;
    }
  }

  start() {
    if (!this.form.reportValidity()) return;
    this.cuts = [];
    this.facts.textContent = GETS_READY;
    const options = {model: this.spec.name, image: base64(this.easel.values), times: Number(this.times.value),
      seed: Number(this.seed.value), ...this.given()};
    this.connection.start("concept", options, (message) => this.receive(message));
  }

  receive(message) {
    if (message.error) { this.facts.textContent = message.error; this.player.pause(); return; }
    if (message.cuts) {
      this.whole = message;
      this.player.begin(message.cuts - 1);
      this.facts.textContent = `The whole file has ${sized(message.bytes)}, of which ${message.header} bytes are a header.`;
    }
    if (!message.mean) return;
    const before = this.cuts.at(-1), cut = {...message, jpeg: message.jpeg ? bytes(message.jpeg) : before.jpeg};
    for (const [name] of RESTS) cut[name] = bytes(message[name]);
    this.cuts.push(cut);
    this.player.grow(this.cuts.length - 1);
    if (!this.player.playing) this.show(this.player.at);
  }

  show(at) {
    const cut = this.cuts && this.cuts[at], rest = this.rest.value;
    if (!cut || !this.chart.isConnected) return;
    paintScene(this.decoded, cut[rest], this.shape, []);
    paintScene(this.jpeg, cut.jpeg, this.shape, []);
    this.modelFacts.setAttribute("aria-live", this.player.playing ? "off" : "polite");
    this.modelFacts.textContent = `${sized(cut.size)}: ${cut.strokes.toFixed(1)} of ${this.whole.steps} strokes, ` +
      `${decibels(cut[`${rest}_psnr`])}.`;
    this.jpegFacts.textContent = (cut.fits ? `At most these bits: ${sized(cut.jpeg_size)}, ` :
      `JPEG cannot be that small. Its smallest file: ${sized(cut.jpeg_size)}, `) +
      `of which ${cut.jpeg_header} bytes are header and tables, ${decibels(cut.jpeg_psnr)}.`;
    this.jpegFacts.classList.toggle("error", !cut.fits);
    this.plot(at);
  }

  // PSNR of the model and of JPEG over the bits of the cuts.
  plot(at) {
    const [context, width, height] = plotting(this.chart), left = 30, right = width - 4, top = 16, bottom = height - 18;
    const lines = [[this.cuts.map((cut) => cut[`${this.rest.value}_psnr`]), "strong", "this file"],
      [this.cuts.map((cut) => cut.fits ? cut.jpeg_psnr : NaN), "accent", "JPEG"],
      [this.cuts.map((cut) => cut.jpeg_bare_psnr ?? NaN), "quiet", "JPEG, if no header counted"]];
    const values = lines.flatMap(([line]) => line).filter(Number.isFinite), low = Math.min(...values) - 1, high = Math.max(...values) + 1;
    const x = (i) => left + (right - left) * this.cuts[i].size / this.whole.bytes;
    const y = (value) => bottom - (bottom - top) * (value - low) / (high - low);
    context.strokeStyle = colour("line");
    context.strokeRect(left, top, right - left, bottom - top);
    lines.forEach(([line, name, label], number) => {
      context.strokeStyle = context.fillStyle = colour(name);
      context.lineWidth = 2;
      context.beginPath();
      context.setLineDash(number === 2 ? [4, 4] : []);
      line.forEach((value, i) => { if (Number.isFinite(value)) context.lineTo(x(i), y(value)); });
      context.stroke();
      context.setLineDash([]);
      if (Number.isFinite(line[at])) context.fillRect(x(at) - 4, y(line[at]) - 4, 8, 8);
      context.fillText(label, left + number * 5 * parseFloat(context.font), 12);
    });
    context.fillStyle = colour("quiet");
    context.textAlign = "right";
    context.fillText(high.toFixed(0), left - 4, top + 9);
    context.fillText(low.toFixed(0), left - 4, bottom);
    context.fillText(`${8 * this.whole.bytes} bits`, right, height - 4);
    context.textAlign = "left";
    context.fillText("0", left, height - 4);
    const [ours, jpegs, bare] = lines.map(([line]) => Number.isFinite(line[at]) ? `${line[at].toFixed(1)} dB` : "none");
    this.chart.setAttribute("aria-label", `PSNR at ${8 * this.cuts[at].size} bits: this file ${ours}, JPEG ${jpegs}, ` +
      `JPEG if no header counted ${bare}`);
  }

  key(name) { return this.player.key(name); }
}

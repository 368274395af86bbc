// Watch: an image while it is drawn, the probabilities of the value that is drawn, its bits, and which pixels it was drawn from.

import {GETS_READY, array, bytes, colour, field, imageCanvas, make, paint, pixelAt, plotLine, plotting, slider, sliderField}
  from "./pictures.js";
import {Player} from "./player.js";
import {Room} from "./room.js";

const CHANNELS = {1: ["level"], 3: ["red", "green", "blue"]};

export class Watch extends Room {
  static title = "Watch";
  static what = "A model draws an image value by value. Each value is drawn from probabilities that depend on the values before it; the " +
    "bars show them. Point at a pixel to see which pixels its value depends on.";

  constructor(connection, models, memory) {
    super(connection, models, memory, {name: "watch"});
    this.temperature = slider("temperature", 0.2, 2, 0.05, 1);
    this.note = make("p", {className: "note"});
    this.form = make("form", {}, field("Model", this.model), this.note, this.klassField, field("Seed", this.seed),
      sliderField("Temperature", this.temperature),
      make("div", {className: "buttons"}, make("button", {className: "main"}, "Draw"), this.anotherSeed()));
    this.form.onsubmit = (event) => { event.preventDefault(); this.start(); };
    this.model.onchange = () => { this.choose(); this.start(); };
    this.klass.onchange = this.temperature.onchange = () => this.start();
    this.player = new Player("decision", (at) => this.show(at));
    this.facts = make("p", {className: "facts", "aria-live": "polite"});
    this.frame = make("div", {className: "frame"});
    this.bars = make("canvas", {className: "chart", role: "img"});
    this.curve = make("canvas", {className: "chart", role: "img"});
    this.sight = make("p", {className: "note"});
    this.element = make("div", {className: "desk three"}, make("section", {className: "panel", "aria-label": "what to draw"}, this.form),
      make("section", {className: "panel", "aria-label": "the image"}, this.frame, this.sight, this.player.element),
      make("section", {className: "panel", "aria-label": "the decision"}, make("h2", {}, "Probabilities of this value"), this.bars,
        this.facts, make("h2", {}, "Bits so far, −log₂ p"), this.curve));
    new ResizeObserver(() => this.show(this.player.at)).observe(this.bars);
    this.choose();
  }

  choose() {
    const spec = this.chosen();
    this.note.textContent = this.about();
    this.walk = null;
    this.image = imageCanvas(spec, "the image so far");
    this.image.onpointermove = (event) => this.look(pixelAt(this.image, event, spec));
    this.image.onpointerleave = () => this.look(null);
    this.frame.replaceChildren(this.image);
    this.player.reset(0);
  }

  enter() { this.start(); }

  leave() { this.player.pause(); this.connection.cancel(); }

  start() {
    if (!this.form.reportValidity()) return;
    const spec = this.spec, size = spec.channels * spec.height * spec.width;
    this.walk = {values: new Uint8Array(size), rank: new Int32Array(size).fill(size), bits: [], sum: [], drawn: [], chances: [], order: null};
    this.player.row = spec.channels * spec.width;
    this.player.begin(size);
    const options = {model: spec.name, seed: Number(this.seed.value), temperature: Number(this.temperature.value)};
    if (spec.classes) options.class_number = Number(this.klass.value);
    this.connection.start("watch", options, (message) => this.receive(message));
  }

  receive(message) {
    const walk = this.walk, spec = this.spec;
    if (message.error) { this.facts.textContent = message.error; this.player.pause(); return; }
    if (message.order) {
      walk.order = array(Uint32Array, message.order);
      walk.order.forEach((index, t) => { walk.rank[index] = t; });
      walk.seen = message.seen && bytes(message.seen);
    }
    if (!message.values) return;
    const values = bytes(message.values), bits = array(Float32Array, message.bits), chances = array(Uint16Array, message.probabilities);
    values.forEach((value, i) => {
      const t = walk.drawn.length;
      walk.values[walk.order[t]] = value;
      walk.drawn.push(value);
      walk.bits.push(bits[i]);
      walk.sum.push((t ? walk.sum[t - 1] : 0) + bits[i]);
      walk.chances.push(chances.subarray(i * spec.levels, (i + 1) * spec.levels));
    });
    this.player.grow(walk.drawn.length);
    if (!this.player.playing) this.show(this.player.at);
  }

  // The pixel that is decided at t as [row, column, channel].
  place(t) {
    const {width, height} = this.spec, index = this.walk.order[t], count = width * height;
    return [Math.floor(index % count / width), index % width, Math.floor(index / count)];
  }

  show(at) {
    const walk = this.walk, spec = this.spec;
    if (!this.bars || !this.bars.isConnected) return;
    if (!walk || !walk.order) {
      paint(this.image, new Uint8Array(3 * spec.width * spec.height), spec, []);
      if (walk) this.facts.textContent = GETS_READY;
      return;
    }
    const decided = walk.rank.map((t) => t < at ? 1 : 0);
    const tint = this.hover ? this.field(this.hover) : null;
    if (at && !tint) this.mark(decided, at);
    else paint(this.image, walk.values, spec, decided, tint);
    const t = at - 1;
    plotLine(this.curve, walk.sum.slice(0, at), walk.order.length, t, "bits");
    this.plotBars(t);
    if (t < 0) { this.facts.textContent = `${walk.order.length} values are to be drawn.`; return; }
    const [row, column, channel] = this.place(t), names = CHANNELS[spec.channels] || [];
    const text = `Value ${at} of ${walk.order.length}: row ${row}, column ${column}, ${names[channel] || `channel ${channel}`} ` +
      `${walk.drawn[t]}, ${walk.bits[t].toFixed(2)} bits. So far ${walk.sum[t].toFixed(1)} bits.`;
    this.facts.setAttribute("aria-live", this.player.playing ? "off" : "polite");
    this.facts.textContent = text;
    this.curve.setAttribute("aria-label", `running sum of bits, ${walk.sum[t].toFixed(1)} after ${at} values`);
    this.image.setAttribute("aria-label", `the image after ${at} of ${walk.order.length} values`);
  }

  // The image, and a tint on the pixel that was decided last.
  mark(decided, at) {
    const [row, column] = this.place(at - 1), tint = new Uint8Array(this.spec.width * this.spec.height);
    tint[row * this.spec.width + column] = at < this.walk.order.length ? 1 : 0;
    paint(this.image, this.walk.values, this.spec, decided, tint);
  }

  // Pixels that the conditionals at a pixel see, (H, W).
  field([row, column]) {
    const {width, height} = this.spec, count = width * height, here = row * width + column, seen = this.walk.seen;
    const tint = new Uint8Array(count);
    for (let i = 0; i < count; i++) {
      const bit = here * count + i;
      tint[i] = seen ? seen[bit >> 3] >> (7 - bit % 8) & 1 : this.walk.rank[i] < this.walk.rank[here];
    }
    return tint;
  }

  look(pixel) {
    if (!this.walk || !this.walk.order || String(pixel) === String(this.hover)) return;
    this.hover = pixel;
    this.sight.textContent = pixel === null ? "" : `Row ${pixel[0]}, column ${pixel[1]} depends on the ` +
      `${this.field(pixel).reduce((a, b) => a + b, 0)} pixels that are tinted${this.walk.seen ? "" : " (all before it)"}.`;
    this.show(this.player.at);
  }

  plotBars(t) {
    const [context, width, height] = plotting(this.bars), bottom = height - 18, top = 16, {levels} = this.spec;
    context.strokeStyle = colour("line");
    context.strokeRect(1, top, width - 2, bottom - top);
    if (t < 0) return;
    const chances = this.walk.chances[t], drawn = this.walk.drawn[t];
    const most = levels <= 16 ? 65535 : chances.reduce((a, b) => Math.max(a, b), 1), each = (width - 4) / levels;
    const text = colour("text"), accent = colour("accent");
    for (let level = 0; level < levels; level++) {
      const tall = (bottom - top) * chances[level] / most, gap = each > 8 ? each * 0.15 : 0;
      context.fillStyle = level === drawn ? accent : text;
      const wide = level === drawn ? Math.max(each - 2 * gap, 3) : Math.max(each - 2 * gap, 1);
      context.fillRect(2 + level * each + gap, bottom - Math.max(tall, level === drawn ? 2 : 0), wide, Math.max(tall, level === drawn ? 2 : 0));
    }
    context.fillStyle = colour("quiet");
    context.fillText(levels <= 16 ? "p = 1" : `p = ${(most / 65535).toPrecision(2)}`, 2, 11);
    const labels = levels <= 16 ? [...Array(levels).keys()] : [0, levels - 1];
    for (const level of labels) {
      context.textAlign = levels <= 16 ? "center" : level ? "right" : "left";
      context.fillText(level, levels <= 16 ? 2 + (level + 0.5) * each : level ? width - 2 : 2, height - 4);
    }
    context.textAlign = "left";
    const chance = chances[drawn] / 65535;
    this.bars.setAttribute("aria-label", `probabilities of ${levels} levels; ${drawn} was drawn, with probability ${chance.toPrecision(2)}`);
  }

  key(name) { return this.player.key(name); }
}

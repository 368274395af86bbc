// Watch: an image while it is drawn, the probabilities of the value that is drawn, its bits, and which pixels it was drawn from.

import {GETS_READY, array, bytes, colour, field, imageCanvas, make, paint, pixelAt, pixelCount, pixelOf, plotLine, plotting, slider,
  sliderField, valueOf} from "./pictures.js";
import {Player} from "./player.js";
import {Room} from "./room.js";

const CHANNELS = {1: ["level"], 3: ["red", "green", "blue"]};

export class Watch extends Room {
  static title = "Watch";
  static what = "A model draws an image value by value. Each value is drawn from probabilities that depend on the values before it; the " +
    "bars show them. Point at a pixel to see which pixels its value depends on; click it for its probabilities.";

  constructor(connection, models, memory) {
    super(connection, models, memory, {name: "watch"});
    this.temperature = slider("temperature", 0.2, 2, 0.05, 1);
    this.note = make("p", {className: "note"});
    this.form = make("form", {}, field("Model", this.model), this.note, this.klassField, this.mapField, field("Seed", this.seed),
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
    this.walk = this.hover = null;
    this.image = imageCanvas(spec, "the image so far");
    this.image.onpointermove = (event) => this.look(pixelAt(this.image, event, spec));
    this.image.onpointerleave = () => this.look(null);
    this.image.onclick = (event) => this.goTo(pixelAt(this.image, event, spec));
    this.frame.replaceChildren(this.image);
    this.player.reset(0);
  }

  enter() { this.start(); }

  leave() { this.player.pause(); this.connection.cancel(); }

  start() {
    if (!this.form.reportValidity()) return;
    const spec = this.spec, size = spec.channels * pixelCount(spec);
    this.walk = {values: new Uint8Array(size), rank: new Int32Array(size).fill(size), bits: [], sum: [], drawn: [], chances: [], order: null};
    this.player.row = spec.channels * spec.width;
    this.player.begin(size);
    const options = {model: spec.name, seed: Number(this.seed.value), temperature: Number(this.temperature.value), ...this.given()};
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

  // What is decided at t: [pixel, channel].
  decided(t) {
    const {width, height, channels} = this.spec, index = this.walk.order[t], count = width * height;
    const frame = Math.floor(index / count / channels);
    return [frame * count + index % count, Math.floor(index / count) % channels];
  }

  // A pixel in words.
  words(pixel) {
    const {width, height, frames} = this.spec, at = pixel % (width * height);
    return (frames > 1 ? `frame ${Math.floor(pixel / (width * height))}, ` : "") + `row ${Math.floor(at / width)}, column ${at % width}`;
  }

  show(at) {
    const walk = this.walk, spec = this.spec;
    if (!this.bars || !this.bars.isConnected) return;
    if (!walk || !walk.order) {
      paint(this.image, [], spec, []);
      if (walk) this.facts.textContent = GETS_READY;
      return;
    }
    const decided = walk.rank.map((t) => t < at ? 1 : 0);
    const tint = this.hover !== null ? this.field(this.hover) : null;
    if (at && !tint) this.mark(decided, at);
    else paint(this.image, walk.values, spec, decided, tint);
    const t = at - 1;
    plotLine(this.curve, walk.sum.slice(0, at), walk.order.length, t, "bits");
    this.plotBars(t);
    if (t < 0) { this.facts.textContent = `${walk.order.length} values are to be drawn.`; return; }
    const [pixel, channel] = this.decided(t), names = CHANNELS[spec.channels] || [];
    const text = `Value ${at} of ${walk.order.length}: ${this.words(pixel)}, ${names[channel] || `channel ${channel}`} ` +
      `${walk.drawn[t]}, p = ${(2 ** -walk.bits[t]).toPrecision(2)}, ${walk.bits[t].toFixed(2)} bits. So far ${walk.sum[t].toFixed(1)} bits.`;
    this.facts.setAttribute("aria-live", this.player.playing ? "off" : "polite");
    this.facts.textContent = text;
    this.curve.setAttribute("aria-label", `running sum of bits, ${walk.sum[t].toFixed(1)} after ${at} values`);
    this.image.setAttribute("aria-label", `the image after ${at} of ${walk.order.length} values`);
  }

  // The image, and a tint on the pixel that was decided last.
  mark(decided, at) {
    const tint = new Uint8Array(pixelCount(this.spec));
    tint[this.decided(at - 1)[0]] = at < this.walk.order.length ? 1 : 0;
    paint(this.image, this.walk.values, this.spec, decided, tint);
  }

  // Pixels that the conditionals at a pixel see.
  field(here) {
    const {rank, seen} = this.walk, count = pixelCount(this.spec), first = (i) => rank[valueOf(this.spec, i, 0)];
    const tint = new Uint8Array(count);
    for (let i = 0; i < count; i++) {
      const bit = here * count + i;
      tint[i] = seen ? seen[bit >> 3] >> (7 - bit % 8) & 1 : first(i) < first(here);
    }
    return tint;
  }

  look(place) {
    const pixel = place && pixelOf(this.spec, ...place);
    if (!this.walk || !this.walk.order || pixel === this.hover) return;
    this.hover = pixel;
    this.sight.textContent = pixel === null ? "" : `What is drawn at ${this.words(pixel)} depends on the ` +
      `${this.field(pixel).reduce((a, b) => a + b, 0)} pixels that are tinted${this.walk.seen ? "" : " (all before it)"}.`;
    this.show(this.player.at);
  }

  // To the decision about a pixel, the first one of its colours, if it is made.
  goTo(place) {
    if (!place || !this.walk || !this.walk.order) return;
    const t = this.walk.rank[valueOf(this.spec, pixelOf(this.spec, ...place), 0)];
    if (t < this.walk.drawn.length) { this.player.pause(); this.player.go(t + 1); }
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

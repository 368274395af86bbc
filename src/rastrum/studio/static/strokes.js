// Strokes: a canvas model draws or redraws an image: windows, glimpse, change of the canvas, and KL of each stroke.

import {Easel} from "./easel.js";
import {base64, bytes, field, imageCanvas, make, paint, paintScene, plotBars, slider, sliderField}
  from "./pictures.js";
import {Player} from "./player.js";
import {Room} from "./room.js";

export class Strokes extends Room {
  static title = "Strokes";
  static what = "A canvas model draws an image stroke by stroke. When it redraws an image, it reads a part of it before each stroke; KL is " +
    "what the stroke says about the image, in bits.";

  constructor(connection, models, memory) {
    super(connection, models, memory, {name: "strokes", usual: "rastrum/draw-binarized-mnist"});
    this.mode = make("select", {name: "mode"}, make("option", {value: "redraw"}, "redraw the image below"),
      make("option", {value: "draw"}, "draw a new image"));
    this.temperature = slider("temperature", 0.2, 2, 0.05, 1);
    this.temperatureField = sliderField("Temperature", this.temperature);
    this.note = make("p", {className: "note"});
    this.form = make("form", {}, field("Model", this.model), this.note, field("What to do", this.mode), this.klassField,
      field("Seed", this.seed), this.temperatureField, make("div", {className: "buttons"}, make("button", {className: "main"}, "Draw"),
        this.anotherSeed()));
    this.form.onsubmit = (event) => { event.preventDefault(); this.start(); };
    this.model.onchange = () => { this.choose(); this.enter(); };
    this.mode.onchange = this.klass.onchange = this.temperature.onchange = () => this.start();
    this.place = make("div", {inert: !connection.live});
    const blank = make("button", {type: "button", className: "live"}, "Blank paper");
    blank.onclick = () => this.easel.set(new Uint8Array(this.easel.size));
    this.own = make("div", {}, make("h2", {}, "Image to redraw"), this.place, make("div", {className: "buttons"}, this.anotherExample(), blank));
    this.scene = make("canvas", {className: "scene", role: "img"});
    this.player = new Player("stroke", (at) => this.show(at));
    this.facts = make("p", {className: "facts", "aria-live": "polite"});
    this.glimpsePlace = make("div");
    this.glimpsePart = make("div", {}, make("h3", {}, "What it reads"), this.glimpsePlace);
    this.changePlace = make("div");
    this.kl = make("canvas", {className: "chart", role: "img"});
    this.klPart = make("div", {}, make("h2", {}, "KL of each stroke"), this.kl);
    this.legend = make("p", {className: "note"}, "The window that it ", make("span", {className: "read"}, "reads (dashed)"), " and the one " +
      "that it ", make("span", {className: "write"}, "writes to (solid)"), ".");
    this.element = make("div", {className: "desk three"},
      make("section", {className: "panel", "aria-label": "what to draw"}, this.form, this.own),
      make("section", {className: "panel", "aria-label": "the canvas"}, make("div", {className: "frame"}, this.scene), this.legend,
        this.player.element),
      make("section", {className: "panel", "aria-label": "the stroke"}, this.facts, make("div", {className: "pair"}, this.glimpsePart,
        make("div", {}, make("h3", {}, "What it changes"), this.changePlace)), this.klPart));
    new ResizeObserver(() => this.show(this.player.at)).observe(this.scene);
    this.choose();
  }

  choose() {
    const spec = this.chosen();
    this.note.textContent = this.about();
    this.easel = new Easel(spec, false, () => this.start());
    this.place.replaceChildren(this.easel.element);
    this.change = imageCanvas(spec, "change of the canvas");
    this.changePlace.replaceChildren(this.change);
    this.moments = [];
    this.ready = false;
    this.player.reset(0);
  }

  enter() { if (this.ready) this.start(); else this.example(); }

  leave() { this.player.pause(); this.connection.cancel(); }

  begin(image) {
    this.ready = true;
    this.easel.set(image);
    this.start();
  }

  start() {
    if (!this.form.reportValidity()) return;
    const redraw = this.mode.value === "redraw";
    this.own.hidden = !redraw;
    this.temperatureField.hidden = redraw;
    this.moments = [];
    const options = {model: this.spec.name, seed: Number(this.seed.value), ...this.given()};
    if (redraw) options.image = base64(this.easel.values);
    else options.temperature = Number(this.temperature.value);
    this.connection.start("strokes", options, (message) => this.receive(message));
  }

  receive(message) {
    if (message.error) { this.facts.textContent = message.error; this.player.pause(); return; }
    if (message.strokes) this.player.begin(message.strokes);
    if (!message.picture) return;
    const moment = {...message, picture: bytes(message.picture)};
    for (const name of ["change", "glimpse"]) if (message[name]) moment[name] = bytes(message[name]);
    this.moments.push(moment);
    this.player.grow(this.moments.length - 1);
    if (!this.player.playing) this.show(this.player.at);
  }

  show(at) {
    const moment = this.moments && this.moments[at], spec = this.spec;
    if (!moment || !this.scene.isConnected) return;
    const count = this.player.count, grey = {...spec, levels: 256};
    paintScene(this.scene, moment.picture, spec, [[moment.read_window, "strong", true], [moment.write_window, "accent", false]]);
    this.scene.setAttribute("aria-label", `the canvas after ${at} of ${count} strokes`);
    this.legend.hidden = !this.moments.some((each) => each.write_window);
    paint(this.change, moment.change || new Uint8Array(this.easel.size).fill(128), grey);
    this.glimpsePart.hidden = !this.moments.some((each) => each.glimpse);
    if (moment.glimpse) {
      const patch = {...grey, width: moment.side, height: moment.side}, canvas = imageCanvas(patch, "the patch that is read");
      paint(canvas, moment.glimpse, patch);
      this.glimpsePlace.replaceChildren(canvas);
    } else this.glimpsePlace.replaceChildren();
    const bits = this.moments.slice(1).map((each) => each.bits).filter((value) => value !== undefined);
    this.klPart.hidden = !bits.length;
    if (bits.length) plotBars(this.kl, bits, count, at - 1, "bits");
    this.kl.setAttribute("aria-label", `KL of ${bits.length} strokes, ${bits.reduce((a, b) => a + b, 0).toFixed(1)} bits in all`);
    this.facts.setAttribute("aria-live", this.player.playing ? "off" : "polite");
    this.facts.textContent = at ? `Stroke ${at} of ${count}.` + (moment.bits === undefined ? "" :
      ` It says ${moment.bits.toFixed(1)} bits about the image; so far ${bits.slice(0, at).reduce((a, b) => a + b, 0).toFixed(1)}.`) :
      `The initial canvas; ${count} strokes follow.`;
  }

  key(name) { return this.player.key(name); }
}

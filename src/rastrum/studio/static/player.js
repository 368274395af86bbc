// Plays, steps and scrubs over moments 0 … count, some of which may not be there yet.

import {make, still} from "./pictures.js";

export class Player {
  // show(at) draws a moment; row: how many moments an arrow up or down moves.
  constructor(label, show) {
    this.show = show;
    this.row = 1;
    this.slider = make("input", {type: "range", min: 0, max: 0, value: 0, "aria-label": label});
    this.button = make("button", {type: "button", className: "main"}, "Play");
    const step = (text, label, by) => {
      const button = make("button", {type: "button", "aria-label": label, title: label}, text);
      button.onclick = () => this.step(by);
      return button;
    };
    this.speed = make("select", {"aria-label": "speed"}, ...[["slow", 40], ["medium", 12], ["fast", 3]]
      .map(([name, value]) => make("option", {value}, name)));
    this.speed.value = 12;                                     // seconds of a whole walk
    this.element = make("div", {}, this.slider,
      make("div", {className: "buttons"}, this.button, step("◀", "one step back", -1), step("▶", "one step on", 1), this.speed));
    this.slider.oninput = () => { this.pause(); this.go(Number(this.slider.value)); };
    this.button.onclick = () => this.toggle();
    this.reset(0);
  }

  // A new walk of count moments, none of which is there yet.
  reset(count) {
    this.count = count;
    this.ready = 0;
    this.at = 0;
    this.position = 0;
    this.slider.max = count;
    this.go(0);
  }

  get playing() { return this.timer !== undefined; }

  go(at) {
    this.at = Math.max(0, Math.min(Math.round(at), this.ready));
    this.slider.value = this.at;
    this.slider.setAttribute("aria-valuetext", `${this.at} of ${this.count}`);
    this.show(this.at);
  }

  step(by) { this.pause(); this.go(this.at + by); }

  toggle() { if (this.playing) this.pause(); else this.play(); }

  play() {
    if (this.at >= this.count) this.go(0);
    this.position = this.at;
    this.button.textContent = "Pause";
    let before = performance.now();
    const tick = (now) => {
      const by = this.count / Number(this.speed.value) * (now - before) / 1000;
      before = now;
      this.position = Math.min(this.position + Math.max(by, 0), this.ready);
      if (Math.floor(this.position) !== this.at) this.go(Math.floor(this.position));
      if (this.at >= this.count) this.pause();
      else this.timer = requestAnimationFrame(tick);
    };
    this.timer = requestAnimationFrame(tick);
  }

  pause() {
    if (!this.playing) return;
    cancelAnimationFrame(this.timer);
    this.timer = undefined;
    this.button.textContent = "Play";
    this.show(this.at);
  }

  // Begins a new walk: by itself, unless the reader wants no motion; then its end is shown once it is there.
  begin(count) {
    this.pause();
    this.reset(count);
    if (!still()) this.play();
  }

  grow(ready) {
    this.ready = ready;
    if (still() && ready >= this.count) this.go(this.count);
  }

  key(name) {
    const steps = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.row, ArrowDown: this.row, Home: -this.count, End: this.count};
    if (name === " ") this.toggle();
    else if (name in steps) this.step(steps[name]);
    else return false;
    return true;
  }
}

// A spatial map that a model takes: exemplars that are drawn, or cells of which each may hold one thing.

import {Easel} from "./easel.js";
import {array, base64, make} from "./pictures.js";

const ABSENT = -1;             // everywhere in a slot without an exemplar

export class SpatialMap {
  // map: as the studio describes it; levels: of exemplars; changed() is called after each change.
  constructor({shape: [channels, height, width], exemplar, names, first}, levels, changed) {
    this.first = array(Float32Array, first);
    this.read = exemplar ? this.exemplars({channels: exemplar, height, width, levels}, channels / exemplar, changed) :
      this.cells(height, width, names, changed);
  }

  // As base64 of float32, (C, h, w).
  get value() { return base64(new Uint8Array(this.read().buffer)); }

  exemplars(spec, slots, changed) {
    const size = this.first.length / slots, most = spec.levels - 1;
    const easels = Array.from({length: slots}, (_, slot) => {
      const easel = new Easel(spec, false, changed), blank = make("button", {type: "button"}, "No exemplar");
      easel.set(this.first.subarray(slot * size, (slot + 1) * size).map((value) => Math.max(0, value) * most));
      blank.onclick = () => { easel.set(new Uint8Array(size)); changed(); };
      easel.element.lastChild.append(blank);
      return easel;
    });
    this.label = slots > 1 ? "Exemplars: draw up to " + slots : "Exemplar: draw one";
    this.element = make("div", {className: "grid wide"}, ...easels.map((easel) => easel.element));
    return () => Float32Array.from(easels.flatMap(({values}) =>
      [...values].map((value) => values.some((each) => each) ? value / most : ABSENT)));
  }

  cells(height, width, names, changed) {
    const count = height * width;
    const cells = Array.from({length: count}, (_, cell) => {
      const select = make("select", {"aria-label": `row ${Math.floor(cell / width)}, column ${cell % width} of the map`},
        make("option", {value: -1}, "–"), ...names.map((name, value) => make("option", {value}, name)));
      select.value = names.findIndex((_, channel) => this.first[channel * count + cell]);
      select.onchange = changed;
      return select;
    });
    this.label = "Map: what lies where";
    this.element = make("div", {className: "cells"}, ...cells);
    this.element.style.gridTemplateColumns = `repeat(${width}, minmax(0, 1fr))`;
    return () => {
      const map = new Float32Array(this.first.length);
      cells.forEach((select, cell) => { if (select.value >= 0) map[select.value * count + cell] = 1; });
      return map;
    };
  }
}

// Training: curves and samples of runs, while they go on.

import {colour, field, make, plotting} from "./pictures.js";

const COLOURS = ["#3b82d0", "#d9542b", "#3a9a5b", "#a259c4", "#b8860b", "#1aa3a3", "#d14f8a", "#7a7a7a"];

export class Training {
  static title = "Training";
  static what = "Curves and samples of the runs in the folder that the studio was started with. They are read again every two seconds.";

  constructor(connection) {
    this.connection = connection;
    this.runs = new Map();
    this.over = make("select", {name: "over"}, make("option", {value: 1}, "minutes"), make("option", {value: 0}, "steps"));
    this.over.onchange = () => this.show();
    this.list = make("div", {className: "runs"});
    this.facts = make("p", {className: "facts", "aria-live": "polite"});
    this.chart = make("canvas", {className: "chart tall", role: "img", "aria-label": "learning curves"});
    this.sheets = make("div", {className: "sheets"});
    this.element = make("div", {className: "desk"},
      make("section", {className: "panel", "aria-label": "the runs"}, make("form", {}, field("Over", this.over)), make("h2", {}, "Runs"), this.list),
      make("section", {className: "panel", "aria-label": "curves"}, make("h2", {}, "Held-out score (line) and training loss (faint)"),
        this.chart, this.facts, this.sheets));
    new ResizeObserver(() => this.show()).observe(this.chart);
  }

  enter() {
    this.facts.textContent = "Reading the runs …";
    this.connection.start("training", {}, (message) => this.receive(message));
  }

  leave() { this.connection.cancel(); }

  receive(message) {
    if (message.error) this.facts.textContent = message.error;
    if (!message.runs) return;
    if (!message.count) this.facts.textContent = "The folder holds no runs yet; `rastrum train … --run.folder` makes them.";
    for (const run of message.runs) {
      const known = this.runs.get(run.name), box = known ? known.box : make("input", {type: "checkbox", checked: true});
      box.onchange = () => this.show();
      this.runs.set(run.name, {...run, box, colour: known ? known.colour : COLOURS[this.runs.size % COLOURS.length]});
    }
    if (message.runs.length) this.show();
  }

  show() {
    if (!this.chart.isConnected || !this.runs.size) return;
    const all = [...this.runs.values()], shown = all.filter((run) => run.box.checked && run.training.length), over = Number(this.over.value);
    this.list.replaceChildren(...all.map((run) => {
      const last = run.held_out.at(-1) || run.training.at(-1), mark = make("span", {className: "mark", "aria-hidden": true});
      mark.style.background = run.colour;
      return make("label", {}, make("span", {}, run.box, " ", mark, ` ${run.name}`), make("small", {}, last ?
        `${last[2].toFixed(3)} ${run.unit} after ${last[0]} steps, ${last[1].toFixed(1)} min` : "no line yet"));
    }));
    this.sheets.replaceChildren(...shown.filter((run) => run.sheet).map((run) => make("figure", {},
      make("img", {src: `data:image/png;base64,${run.sheet}`, alt: `samples of ${run.name} after ${run.sheet_step} steps`}),
      make("figcaption", {}, `${run.name} after ${run.sheet_step} steps`))));
    this.facts.textContent = `${shown.length} of ${all.length} runs.`;
    this.plot(shown, over);
  }

  plot(shown, over) {
    const [context, width, height] = plotting(this.chart), left = 52, right = width - 8, top = 14, bottom = height - 24;
    context.strokeStyle = colour("line");
    context.strokeRect(left, top, right - left, bottom - top);
    if (!shown.length) return;
    const lines = shown.flatMap((run) => [[run.training, run, 1, 0.35], [run.held_out, run, 2.5, 1]]);
    const values = lines.flatMap(([points]) => points.map((point) => point[2])).filter(Number.isFinite).sort((a, b) => a - b);
    const low = values[0], high = values[Math.floor(0.97 * (values.length - 1))], room = (high - low || 1) * 0.05;
    const most = Math.max(...lines.flatMap(([points]) => points.map((point) => point[over])), 1e-9);
    const x = (point) => left + (right - left) * point[over] / most;
    const y = (point) => Math.max(top, Math.min(bottom, bottom - (bottom - top) * (point[2] - low + room) / (high - low + 2 * room || 1)));
    for (const [points, run, thick, strong] of lines) {
      context.globalAlpha = strong;
      context.strokeStyle = context.fillStyle = run.colour;
      context.lineWidth = thick;
      context.beginPath();
      for (const point of points) context.lineTo(x(point), y(point));
      context.stroke();
      if (strong === 1) for (const point of points) context.fillRect(x(point) - 2, y(point) - 2, 4, 4);
    }
    context.globalAlpha = 1;
    context.fillStyle = colour("quiet");
    context.textAlign = "right";
    context.fillText((high + room).toFixed(2), left - 4, top + 9);
    context.fillText((low - room).toFixed(2), left - 4, bottom);
    context.fillText(`${over ? most.toFixed(1) : Math.round(most)} ${over ? "minutes" : "steps"}`, right, height - 6);
    context.textAlign = "left";
    context.fillText([...new Set(shown.map((run) => run.unit))].join(", "), left + 4, top + 13);
  }

  key() { return false; }
}

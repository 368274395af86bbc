// Elements, arrays and canvases, for every room.

export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export const colour = (name) => {
  const probe = make("span");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
};

export function bytes(text) {
  const found = atob(text), array = new Uint8Array(found.length);
  for (let i = 0; i < found.length; i++) array[i] = found.charCodeAt(i);
  return array;
}

export const array = (kind, text) => new kind(bytes(text).buffer);

export function base64(array) {
  let text = "";
  for (const value of array) text += String.fromCharCode(value);
  return btoa(text);
}

export const GETS_READY = "The model gets ready; the first time on a machine this takes up to a minute.";

export const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

// A video is shown as a sheet of its frames, about as many beside as below one another. Rows and columns below are those of the sheet.
function across({frames = 1}) {
  let count = Math.ceil(Math.sqrt(frames));
  while (frames % count) count++;
  return count;
}

export const sheet = (spec) => [(spec.frames || 1) / across(spec) * spec.height, across(spec) * spec.width];

// Where pixel number i lies, frame by frame and row by row.
export function placeOf(spec, i) {
  const {width, height} = spec, frame = Math.floor(i / (width * height)), at = i % (width * height);
  return [Math.floor(frame / across(spec)) * height + Math.floor(at / width), frame % across(spec) * width + at % width];
}

// The number of the pixel in a row and a column; null where there is none.
export function pixelOf(spec, row, column) {
  const {width, height} = spec, [rows, columns] = sheet(spec);
  if (row < 0 || column < 0 || row >= rows || column >= columns) return null;
  const frame = Math.floor(row / height) * across(spec) + Math.floor(column / width);
  return (frame * height + row % height) * width + column % width;
}

// The index of a value among all of an image (C, H, W) or a video (T, C, H, W): of pixel i and a channel.
export function valueOf({width, height, channels}, i, channel) {
  const count = width * height, frame = Math.floor(i / count);
  return (frame * channels + channel) * count + i % count;
}

export const pixelCount = (spec) => (spec.frames || 1) * spec.width * spec.height;

// A canvas with a point per pixel, enlarged by the page.
export function imageCanvas(spec, label, more = "") {
  const [height, width] = sheet(spec);
  return make("canvas", {className: `image ${more}`, width, height, role: "img", "aria-label": label});
}

const UNKNOWN = [[196, 205, 216], [214, 221, 229]];           // a chequered light blue: no grey level looks like it

// Draws levels; where decided is 0, the chequers of what is not known yet. tint: 1 for each pixel that is marked.
export function paint(canvas, values, spec, decided = null, tint = null) {
  const {channels, levels} = spec, [rows, columns] = sheet(spec), picture = new ImageData(columns, rows);
  for (let i = 0; i < pixelCount(spec); i++) {
    const [row, column] = placeOf(spec, i), point = 4 * (row * columns + column);
    let known = true;
    for (let c = 0; c < 3; c++) {
      const at = valueOf(spec, i, channels >= 3 ? c : 0);
      known = known && (!decided || decided[at]);
      picture.data[point + c] = Math.round(255 * values[at] / (levels - 1));
    }
    if (!known) picture.data.set(UNKNOWN[(row + column) % 2], point);
    if (tint && tint[i])
      [230, 120, 30].forEach((value, c) => { picture.data[point + c] = 0.5 * picture.data[point + c] + 0.5 * value; });
    picture.data[point + 3] = 255;
  }
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

// The pixel under a pointer, as [row, column], or null outside.
export function pixelAt(canvas, event, spec) {
  const box = canvas.getBoundingClientRect(), [rows, columns] = sheet(spec);
  const column = Math.floor((event.clientX - box.left - canvas.clientLeft) / canvas.clientWidth * columns);
  const row = Math.floor((event.clientY - box.top - canvas.clientTop) / canvas.clientHeight * rows);
  return pixelOf(spec, row, column) === null ? null : [row, column];
}

// A canvas in points of the screen, ready to draw on: [context, width, height].
export function plotting(canvas) {
  const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.font = `${0.75 * parseFloat(getComputedStyle(document.body).fontSize)}px system-ui, sans-serif`;
  return [context, width, height];
}

// Bytes (C, H, W) as a picture, enlarged to a side of the screen, with windows [centre row, centre column, height, width] on it.
export function paintScene(canvas, picture, spec, windows) {
  const small = make("canvas", {width: spec.width, height: spec.height}), [context, width, height] = plotting(canvas);
  paint(small, picture, {...spec, levels: 256});
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, width, height);
  const x = width / spec.width, y = height / spec.height;
  windows.forEach(([window, name, dash]) => {
    if (!window) return;
    const [row, column, tall, wide] = window, corner = [(column + 0.5 - wide / 2) * x, (row + 0.5 - tall / 2) * y];
    for (const [style, thick] of [["#fff", 5], [colour(name), 3]]) {      // a pale edge, so that it is seen on any picture
      context.strokeStyle = style;
      context.lineWidth = thick;
      context.setLineDash(dash ? [8, 5] : []);
      context.strokeRect(...corner, wide * x, tall * y);
    }
  });
}

// Bars over their index, the one at an index in another colour.
export function plotBars(canvas, values, total, at, unit) {
  const [context, width, height] = plotting(canvas), top = 16, bottom = height - 4, most = values.reduce((a, b) => Math.max(a, b), 1e-9);
  context.fillStyle = colour("quiet");
  context.fillText(`${most.toPrecision(3)} ${unit}`, 2, 11);
  context.strokeStyle = colour("line");
  context.strokeRect(1, top, width - 2, bottom - top);
  values.forEach((value, i) => {
    const tall = (bottom - top) * value / most, each = (width - 4) / total;
    context.fillStyle = colour(i === at ? "accent" : "strong");
    context.fillRect(2 + (i + 0.1) * each, bottom - tall, 0.8 * each, tall);
  });
}

// A line over its index, from 0, with a mark at one index.
export function plotLine(canvas, values, total, at, unit) {
  const [context, width, height] = plotting(canvas), top = 16, bottom = height - 4;
  const most = values.reduce((a, b) => Math.max(a, b), 1e-9);
  const x = (i) => 2 + (width - 4) * i / Math.max(1, total - 1), y = (v) => bottom - (bottom - top) * v / most;
  context.fillStyle = colour("quiet");
  if (values.length) context.fillText(`${most.toPrecision(3)} ${unit}`, 2, 11);
  context.strokeStyle = colour("line");
  context.strokeRect(1, top, width - 2, bottom - top);
  context.strokeStyle = colour("strong");
  context.lineWidth = 2;
  context.beginPath();
  for (let i = 0; i < values.length; i++) context.lineTo(x(i), y(values[i]));
  context.stroke();
  if (at >= 0 && at < values.length) {
    context.fillStyle = colour("accent");
    context.beginPath();
    context.arc(x(at), y(values[at]), 4, 0, 7);
    context.fill();
  }
}

export const field = (label, input) => make("label", {}, label, input);

export const slider = (name, min, max, step, value) => make("input", {type: "range", name, min, max, step, value});

// A slider with its value beside its label.
export function sliderField(label, input, shown = (value) => value) {
  const output = make("output", {}, shown(input.value));
  input.addEventListener("input", () => { output.value = shown(input.value); });
  return make("label", {}, make("span", {}, `${label}: `, output), input);
}

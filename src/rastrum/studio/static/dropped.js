// Image files, from a form or dropped on the page.

import {make} from "./pictures.js";

// Calls open(file) for a file that is dropped anywhere on the page while an element is on it: beside it a browser would leave the page.
export function takeDrops(element, open) {
  const listen = (kind, act) => document.addEventListener(kind, (event) => {
    if (!element.isConnected) return;
    event.preventDefault();
    element.classList.toggle("dropping", kind === "dragover");
    act(event);
  });
  listen("dragover", () => {});
  listen("dragleave", () => {});
  listen("drop", (event) => open(event.dataTransfer.files[0]));
}

// Levels (C, H, W) of an image file, cut to the middle part of a shape and shrunk to its size; an Error says what is wrong.
export async function levelsOf(file, {width, height, channels, levels}, invert = false) {
  let picture;
  try {
    picture = await createImageBitmap(file);
  } catch {
    throw new Error(`${file.name}: the browser cannot read it as an image; try a PNG or a JPEG.`);
  }
  const count = width * height, scale = Math.min(picture.width / width, picture.height / height), cut = [width * scale, height * scale];
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
      values[c * count + i] = Math.round((invert ? 1 - light : light) * (levels - 1));
    }
  return values;
}

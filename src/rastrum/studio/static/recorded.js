// In place of the studio's WebSocket, on a page that `rastrum studio --export` wrote: answers that were recorded, a script per room and
// model, which a page may also load where it lies in a folder. RECORDED, from recordings.js, says what there is.

import {bytes, make} from "./pictures.js";

const MISSING = "This was not recorded. To ask for anything, run the studio itself: pip install 'rastrum[studio]', then rastrum studio.";

export class Connection {
  constructor(onModels) {
    this.live = false;
    this.number = 0;
    this.loaded = {};
    document.documentElement.classList.add("recorded");
    setTimeout(() => onModels(RECORDED.models, false));
  }

  // What was asked of a room and a model: options, without images.
  recordings(room, model) { return RECORDED.rooms[room]?.[model]?.asked || []; }

  start(room, options, handler) {
    const number = ++this.number;
    this.walks(room, options.model).then((walks) => {
      const wanted = key(options), walk = walks.find((each) => key(each.asked) === wanted);
      for (const message of walk ? [...walk.answers, {done: true}] : [{error: MISSING}])
        if (this.number === number) handler(message);
    });
    return number;
  }

  cancel() { this.number += 1; }

  // All walks of a room and a model.
  async walks(room, model) {
    const name = RECORDED.rooms[room]?.[model]?.file;
    if (!name) return [];
    return this.loaded[name] ||= new Promise((resolve) => {
      const script = make("script", {src: name});
      script.onload = () => resolve(unzipped(WALKS));
      script.onerror = () => resolve([]);
      document.head.append(script);
    });
  }
}

const key = (options) => JSON.stringify(Object.entries(options).sort(([a], [b]) => a < b ? -1 : 1));

async function unzipped(text) {
  const stream = new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

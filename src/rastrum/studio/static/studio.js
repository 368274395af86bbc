// The page: the rooms, the keys that go to them, and what is said when the connection is lost.

import {Complete} from "./complete.js";
import {Concept} from "./concept.js";
import {Connection} from "./connection.js";
import {Filters} from "./filters.js";
import {make} from "./pictures.js";
import {Strokes} from "./strokes.js";
import {Surprise} from "./surprise.js";
import {Training} from "./training.js";
import {waits} from "./waiting.js";
import {Watch} from "./watch.js";

const ROOMS = {watch: Watch, complete: Complete, strokes: Strokes, filters: Filters, surprise: Surprise, concept: Concept, training: Training};
const main = document.getElementById("room"), notice = document.getElementById("notice"), tabs = document.getElementById("rooms");
const memory = {};
let opened = {}, here = null, models = [];

function enter(name) {
  if (!opened[name]) opened[name] = new ROOMS[name](connection, models, memory[name] ||= {});
  if (here) here.leave();
  here = opened[name];
  document.getElementById("player-keys").hidden = !here.player;
  main.replaceChildren(make("p", {className: "what"}, ROOMS[name].what, " ",
    make("span", {className: "live"}, ROOMS[name].tools || "")), here.element);
  for (const tab of tabs.children) tab.setAttribute("aria-current", tab.value === name ? "page" : "false");
  document.title = `${ROOMS[name].title} · Rastrum studio`;
  if (location.hash !== `#${name}`) history.replaceState(null, "", `#${name}`);
  here.enter();
}

function furnish(found, runs) {
  models = found;
  notice.hidden = true;
  opened = {};
  here = null;
  const names = Object.keys(ROOMS).filter((name) => name === "training" ? runs :
    ROOMS[name].anyModel || models.some((model) => model.rooms.includes(name)));
  tabs.replaceChildren(...names.map((name, i) => {
    const tab = make("button", {type: "button", value: name, title: `key ${i + 1}`}, ROOMS[name].title);
    tab.onclick = () => enter(name);
    return tab;
  }));
  document.getElementById("last-room").textContent = names.length;
  if (!names.length) return main.replaceChildren(make("p", {}, "No room can show the models that the studio was started with."));
  const wanted = location.hash.slice(1);
  enter(names.includes(wanted) ? wanted : names[0]);
}

const connection = new Connection(furnish, (reason) => {
  notice.textContent = reason || "The studio does not answer. Is `rastrum studio` still running? This page tries again.";
  notice.hidden = false;
  if (here) here.leave();
}, waits);

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !here) return;
  const {tagName, type} = event.target;
  if (tagName === "SELECT" || tagName === "TEXTAREA" || (tagName === "INPUT" && !["range", "checkbox", "file"].includes(type))) return;
  if (tagName === "INPUT" && !(type === "range" && event.key === " ") && !/^\d$/.test(event.key)) return;
  if (tagName === "BUTTON" && event.key === " ") return;
  const tab = /^[1-9]$/.test(event.key) ? tabs.children[event.key - 1] : null;
  if (tab) tab.click();
  else if (!here.key(event.key)) return;
  event.preventDefault();
});

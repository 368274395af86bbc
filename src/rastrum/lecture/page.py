"""The slides as a page: one file of HTML that loads nothing but the pictures beside it.

    → ↓ space Page-Down   next                F   full screen
    ← ↑ Page-Up           back                S   speaker's view in a window of its own: notes, command, clock, next slide
    Home, End             first, last         O   all slides at a glance
                                              ?   these keys

The two windows follow each other by messages, which also works for files that are opened from a disk. Without scripts all slides stand one
below another; on paper each has a page. Dark mode shows the dark drawing of each figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby


@dataclass(frozen=True)
class Slide:
    """What the page shows of a figure.

    name, section, title, caption, command, notes: as of ``Drawn`` and ``Figure``.
    film: file name of its animation, "" where it does not move.

    Beside the page lie NAME.svg and NAME-dark.svg, or of an animation NAME.png, its last picture.
    """

    name: str
    section: str
    title: str
    caption: str
    command: str
    notes: str
    film: str = ""

    def html(self, number: int) -> str:
        """The slide. number: of it, from 1."""
        alt = escape(self.caption)
        if self.film.endswith(".mp4"):
            shown = f'<video src="{self.film}" poster="{self.name}.png" muted loop playsinline controls aria-label="{alt}"></video>'
        elif self.film:
            shown = f'<img src="{self.film}" alt="{alt}">'
        else:
            dark = f'<source srcset="{self.name}-dark.svg" media="(prefers-color-scheme: dark)">'
            shown = f'<picture>{dark}<img src="{self.name}.svg" alt="{alt}" loading="lazy"></picture>'
        notes = f'<p class="notes">{escape(self.notes)}</p>' if self.notes else ""
        return (
            f'<section class="slide" id="{self.name}" aria-label="{number}: {escape(self.title)}"><header><p>{escape(self.section)}</p>'
            f'<h2>{escape(self.title)}</h2></header><div class="figure">{shown}</div>'
            f'<footer><p class="caption">{alt}</p>{notes}<p class="command"><code>{escape(self.command)}</code></p></footer></section>'
        )


STYLE = """
:root { color-scheme: light dark; --paper: #fff; --text: #212529; --soft: #5c636a; --line: #dee2e6; --mark: #0062aa; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181b; --text: #e9ecef; --soft: #a3abb3; --line: #343a40; --mark: #6cb6f0; } }
* { box-sizing: border-box; }
html { font: clamp(14px, 1.05vw + .35vh, 26px)/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
body { margin: 0; background: var(--paper); color: var(--text); }
a { color: var(--mark); }
h1, h2, p { margin: 0; }
.slide, .cover { max-width: 100rem; margin: 0 auto; padding: 1.25rem 1rem 2rem; }
.slide header p { color: var(--soft); font-size: .9rem; }
.slide h2 { font-size: 1.7rem; line-height: 1.2; letter-spacing: -.01em; }
.figure { margin: .75rem 0; }
.figure img, .figure video { display: block; width: 100%; height: auto; aspect-ratio: 16 / 9; object-fit: contain;
  background: var(--paper); }
.caption { font-size: .95rem; color: var(--soft); max-width: 75rem; }
.notes { margin-top: .6rem; max-width: 60rem; }
.command { margin-top: .6rem; overflow-x: auto; }
code { font: .9rem ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; color: var(--mark); white-space: nowrap; }
.cover h1 { font-size: 3rem; line-height: 1.15; letter-spacing: -.02em; margin-top: 1.5rem; }
.cover > p { color: var(--soft); margin: .8rem 0; max-width: 50rem; }
.cover h2 { font-size: 1.05rem; margin: 1.4rem 0 .3rem; }
.cover ol { margin: 0; padding: 0; list-style: none; display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr));
  gap: .15rem 1.5rem; }
kbd { font: .85em ui-monospace, monospace; border: 1px solid var(--line); border-radius: .25em; padding: 0 .35em; }
.bar, .speaker, .help { display: none; }
:focus-visible { outline: 3px solid var(--mark); outline-offset: 2px; }

.ready body { height: 100dvh; overflow: hidden; }
.ready main { height: 100%; }
.ready .slide, .ready .cover { display: none; }
.ready .slide.on { display: grid; grid-template-rows: auto minmax(0, 1fr) auto; height: 100dvh; max-width: none;
  padding: 1.2rem 2rem 2.6rem; }
.ready .cover.on { display: block; height: 100dvh; overflow-y: auto; padding-bottom: 3rem; }
.ready .slide.on .figure { margin: .4rem 0; min-height: 0; display: grid; place-items: center; }
.ready .slide.on picture { display: contents; } .figure source { display: none; }
.ready .slide.on .figure img, .ready .slide.on .figure video { width: auto; max-width: 100%; height: 100%; max-height: 100%;
  min-height: 0; }
.ready .slide .notes { display: none; }
.ready .slide .command { margin: .2rem auto 0; max-width: 90rem; font-size: .8rem; }
.ready .slide .caption { margin: 0 auto; max-width: 90rem; font-size: .85rem; max-height: 30dvh; overflow-y: auto; }
.ready .bar { position: fixed; inset: auto 0 0 0; display: flex; align-items: center; gap: .5rem; padding: .15rem .75rem; font-size: .8rem;
  color: var(--soft); background: var(--paper); }
.bar button { font: inherit; color: inherit; background: none; border: 1px solid transparent; border-radius: .3rem;
  padding: .1rem .55rem; cursor: pointer; min-height: 1.9rem; }
.bar button:hover { border-color: var(--line); }
.bar output { margin-left: auto; font-variant-numeric: tabular-nums; }
.bar::before { content: ""; position: absolute; inset: 0 auto auto 0; height: 2px; width: calc(100% * var(--done, 0));
  background: var(--mark); }
:fullscreen .bar { opacity: 0; } :fullscreen .bar:hover, :fullscreen .bar:focus-within { opacity: 1; }
:fullscreen .slide footer { display: none; }

.glance body { overflow: auto; }
.glance main { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(18rem, 100%), 1fr)); gap: 1rem;
  padding: 1rem 1rem 4rem; height: auto; }
.glance .slide, .glance .slide.on { display: block; height: auto; padding: .5rem; border: 1px solid var(--line); border-radius: .5rem;
  cursor: pointer; }
.glance .slide.on { border-color: var(--mark); }
.glance .cover.on { display: none; }
.glance .slide h2 { font-size: 1rem; }
.glance .slide footer { display: none; } .glance video::-webkit-media-controls { display: none; }
.glance .figure img, .glance .figure video { pointer-events: none; }

.speaks .speaker { display: grid; grid-template: "now next" auto "say say" 1fr / minmax(0, 3fr) minmax(0, 2fr); gap: 1rem 1.5rem;
  height: 100dvh;
  padding: 1rem 1.5rem 3rem; overflow-y: auto; }
.ready.speaks main { display: none; }
.speaker > div { min-width: 0; } .speaker h2 { font-size: 1.1rem; margin-bottom: .4rem; }
.speaker img, .speaker video { width: 100%; aspect-ratio: 16 / 9; object-fit: contain; border: 1px solid var(--line);
  border-radius: .4rem; }
.speaker .say { grid-area: say; font-size: 1.2rem; } .speaker .say p + p { margin-top: .7rem; }
.speaker time { font-size: 2.4rem; font-variant-numeric: tabular-nums; } .speaker .clock { display: flex; gap: 1.5rem;
  align-items: baseline; }
@media (max-aspect-ratio: 1) { .ready .slide.on .figure { place-items: start center; }
  .ready .slide.on .figure img, .ready .slide.on .figure video { width: 100%; height: auto; } }
@media (max-width: 40rem) {
  .speaks .speaker { grid-template: "now" auto "next" auto "say" auto / minmax(0, 1fr); }
  .ready .slide.on { padding: .8rem .8rem 2.8rem; } .slide h2 { font-size: 1.25rem; } .cover h1 { font-size: 2rem; } }

.ready .help[open] { display: block; border: 1px solid var(--line); border-radius: .6rem; padding: 1.25rem 1.5rem;
  background: var(--paper); color: var(--text); }
.help dl { display: grid; grid-template-columns: auto 1fr; gap: .35rem 1rem; margin: 0; } .help dd { margin: 0; }
@media print {
  @page { size: landscape; margin: 8mm; }
  :root { --paper: #fff; --text: #000; --soft: #444; --line: #ccc; --mark: #004a80; }
  html.ready body { height: auto; overflow: visible; } .ready main { height: auto; }
  .ready .slide, .ready .slide.on, .ready .cover { display: block; height: auto; break-after: page; break-inside: avoid; padding: 0; }
  .bar, .help, .speaker { display: none !important; }
  .figure img, .figure video { max-height: 150mm; } }
@media (prefers-reduced-motion: no-preference) { .ready .bar::before { transition: width .2s; } }
""".strip()

SCRIPT = """
const root = document.documentElement, pages = [...document.querySelectorAll(".cover, .slide")];
const speaks = new URLSearchParams(location.search).has("speaker"), still = matchMedia("(prefers-reduced-motion: reduce)");
const [bar, help, desk] = [".bar", ".help", ".speaker"].map(name => document.querySelector(name));
let at = 0, other = speaks ? window.opener : null, began = Date.now();

const films = page => page.querySelectorAll("video");
function copy(page) {
  const found = page?.querySelector(".figure > *");
  if (!found) return "";
  const twin = found.cloneNode(true);
  if (twin.tagName == "VIDEO") { twin.controls = false; }
  return twin;
}
function show(next, silent = false) {
  next = Math.min(Math.max(next, 0), pages.length - 1);
  if (next != at) for (const film of films(pages[at])) film.pause();
  at = next;
  pages.forEach((page, i) => page.classList.toggle("on", i == at));
  const page = pages[at];
  for (const image of pages[at + 1]?.querySelectorAll("img") ?? []) image.loading = "eager";
  if (!speaks && !still.matches) for (const film of films(page)) { film.currentTime = 0; film.play().catch(() => {}); }
  bar.style.setProperty("--done", pages.length > 1 ? at / (pages.length - 1) : 1);
  bar.querySelector("output").value = `${at} / ${pages.length - 1}`;
  document.title = (page.querySelector("h1, h2")?.textContent ?? "") + " · Rastrum";
  history.replaceState(null, "", "#" + (page.id || ""));
  if (root.classList.contains("speaks")) speak(page);
  if (!silent && other && !other.closed) other.postMessage({ slide: at }, "*");
}
function speak(page) {
  desk.querySelector(".now").replaceChildren(copy(page));
  const next = pages[at + 1];
  desk.querySelector(".next").replaceChildren(copy(next));
  desk.querySelector(".titles").textContent = page.querySelector("h1, h2").textContent;
  desk.querySelector(".then").textContent = next ? "Next: " + next.querySelector("h2").textContent : "The end";
  desk.querySelector(".say").replaceChildren(...[".notes", ".caption", ".command"].flatMap(part => {
    const found = page.querySelector(part);
    return found ? [found.cloneNode(true)] : [];
  }));
}
function clock() {
  const passed = Math.floor((Date.now() - began) / 1000), two = n => String(n).padStart(2, "0");
  desk.querySelector(".passed").textContent = `${two(Math.floor(passed / 60))}:${two(passed % 60)}`;
  desk.querySelector(".hour").textContent = new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}
function speaker() {
  if (speaks) return;
  if (other && !other.closed) { other.focus(); return; }
  other = open(location.pathname + "?speaker" + location.hash, "speaker", "width=1200,height=800");
  if (!other) { root.classList.toggle("speaks"); if (root.classList.contains("speaks")) { began = Date.now(); speak(pages[at]); } }
}
function glance(on = !root.classList.contains("glance")) {
  root.classList.toggle("glance", on);
  if (on) for (const image of document.querySelectorAll(".figure img")) image.loading = "eager";
  pages[at].scrollIntoView({ block: "center" });
}
const full = () => document.fullscreenElement ? document.exitFullscreen() : root.requestFullscreen?.();
const act = {
  next: () => show(at + 1), back: () => show(at - 1), first: () => show(0), last: () => show(pages.length - 1), full, speaker,
  glance: () => glance(), help: () => help.open ? help.close() : help.showModal(),
};
const keys = { ArrowRight: "next", ArrowDown: "next", PageDown: "next", " ": "next", n: "next", ArrowLeft: "back", ArrowUp: "back",
  PageUp: "back", Backspace: "back", p: "back", Home: "first", End: "last", f: "full", s: "speaker", o: "glance", h: "help", "?": "help" };
addEventListener("keydown", event => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key == "Escape" && root.classList.contains("glance")) return glance(false);
  const key = event.key.length == 1 ? event.key.toLowerCase() : event.key;
  if (help.open && key != "?" && key != "h") return;
  if (key == " " && event.target.closest("button, video, a, summary")) return;
  if (key == "Enter" && root.classList.contains("glance") && !event.target.closest("button, a")) return glance(false);
  const name = key == " " && event.shiftKey ? "back" : keys[key];
  if (name && !(event.target.tagName == "VIDEO" && key.startsWith("Arrow"))) { event.preventDefault(); act[name](); }
});
bar.addEventListener("click", event => { const name = event.target.closest("button")?.dataset.do; if (name) act[name](); });
document.querySelector("main").addEventListener("click", event => {
  const page = event.target.closest(".slide");
  if (root.classList.contains("glance") && page) { glance(false); show(pages.indexOf(page)); }
});
let touch = null;
addEventListener("touchstart", event => { touch = event.touches.length == 1 ? event.touches[0].clientX : null; }, { passive: true });
addEventListener("touchend", event => {
  const moved = touch === null ? 0 : event.changedTouches[0].clientX - touch;
  if (Math.abs(moved) > 60 && !event.target.closest("video") && !root.classList.contains("glance")) moved < 0 ? act.next() : act.back();
});
addEventListener("message", event => {
  if (other && event.source == other && Number.isInteger(event.data?.slide)) show(event.data.slide, true);
});
addEventListener("hashchange", () => show(Math.max(0, pages.findIndex(page => "#" + page.id == location.hash))));
root.classList.add("ready");
if (speaks) root.classList.add("speaks");
setInterval(clock, 1000); clock();
show(Math.max(0, pages.findIndex(page => "#" + page.id == location.hash)), speaks);
""".strip()

KEYS = (
    ("→ ↓ Space", "next slide"), ("← ↑", "back"), ("Home, End", "first, last"), ("F", "full screen"), ("S", "speaker's view"),
    ("O", "all slides"), ("H", "these keys"),
)  # fmt: skip
BUTTONS = (
    ("back", "Back", "←"), ("next", "Next", "→"), ("glance", "All slides", "Overview"), ("speaker", "Speaker's view", "Speaker"),
    ("full", "Full screen", "Full screen"), ("help", "Keys", "?"),
)  # fmt: skip


def page(title: str, lead: str, slides: Sequence[Slide]) -> str:
    """The page as HTML text.

    title: of the cover.
    lead: a sentence below it.
    slides: in order.
    """
    numbers = {slide.name: number for number, slide in enumerate(slides, 1)}
    contents = "".join(
        f"<h2>{escape(section)}</h2><ol>"
        + "".join(f'<li><a href="#{each.name}">{numbers[each.name]} · {escape(each.title)}</a></li>' for each in part)
        + "</ol>"
        for section, part in groupby(slides, lambda each: each.section)
    )
    keys = "".join(f"<dt><kbd>{escape(key)}</kbd></dt><dd>{escape(what)}</dd>" for key, what in KEYS)
    buttons = "".join(
        f'<button type="button" data-do="{do}" aria-label="{name}" title="{name}">{text}</button>' for do, name, text in BUTTONS
    )
    desk = (
        '<div class="speaker" aria-live="polite"><div><h2 class="titles"></h2><div class="now"></div></div>'
        '<div><h2 class="then"></h2><div class="next"></div><p class="clock"><time class="passed"></time>'
        '<span class="hour"></span></p></div><div class="say"></div></div>'
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n<main>\n"
        f'<div class="cover"><h1>{escape(title)}</h1><p>{escape(lead)}</p>{contents}</div>\n'
        + "\n".join(slide.html(number) for number, slide in enumerate(slides, 1))
        + f'\n</main>\n{desk}\n<nav class="bar" aria-label="Slides">{buttons}<output aria-label="Slide"></output></nav>\n'
        f'<dialog class="help" aria-label="Keys"><dl>{keys}</dl></dialog>\n<script>\n{SCRIPT}\n</script>\n</body>\n</html>\n'
    )

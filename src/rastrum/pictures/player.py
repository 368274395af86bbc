"""An animation as a fragment of HTML: it can be paused, stepped and scrubbed, in a page, a notebook or on a projector.

The fragment loads nothing. It holds each picture once, as a lossless WebP. Where scripts do not run, and on paper, the last picture
stands alone; for readers who want no motion it does not start by itself. It takes the width of what it stands in.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable
from html import escape

from PIL import Image

from .films import check_rate, rgb_frames
from .formats import Picture, encode

STYLE = """
.rastrum-player { max-width: 100%; }
.rastrum-player img { display: block; width: 100%; height: auto; margin: 0; }
.rastrum-player .bar { display: none; gap: .4rem; align-items: center; margin-top: .5rem; color: inherit; }
.rastrum-player[data-ready] .bar { display: flex; }
.rastrum-player button { flex: none; width: 2.25rem; height: 2.25rem; padding: 0; border: 1px solid currentColor; border-radius: .35rem;
  background: transparent; color: inherit; cursor: pointer; }
.rastrum-player button:disabled { opacity: .35; cursor: default; }
.rastrum-player svg { display: block; margin: auto; width: 1rem; height: 1rem; fill: currentColor; }
.rastrum-player input { flex: 1; min-width: 3rem; }
.rastrum-player output { flex: none; font-variant-numeric: tabular-nums; font-size: .875rem; }
@media print { .rastrum-player .bar { display: none !important; } }
""".strip()

# Runs once for each player on the page, however often the fragment is shown: a player that is ready says so.
SCRIPT = """
for (const player of document.querySelectorAll(".rastrum-player:not([data-ready])")) {
  const [image, bar] = player.children, [back, play, next] = bar.querySelectorAll("button");
  const slider = bar.querySelector("input"), count = bar.querySelector("output");
  const frames = JSON.parse(player.dataset.frames).map(data => "data:image/webp;base64," + data);
  const last = frames.length - 1, wait = 1000 / player.dataset.fps, hold = Math.max(wait, 1000 * player.dataset.hold);
  let at = last, timer = null;
  const show = frame => {
    at = Math.min(Math.max(frame, 0), last);
    image.src = frames[at]; slider.value = at; count.value = `${at + 1} / ${frames.length}`;
    back.disabled = at == 0; next.disabled = at == last;
  };
  const state = playing => {
    play.setAttribute("aria-label", playing ? "Pause" : "Play"); play.title = playing ? "Pause" : "Play";
    play.querySelector("path").setAttribute("d", playing ? "M3 2h4v12H3zM9 2h4v12H9z" : "M4 2l10 6-10 6z");
  };
  const tick = () => {
    if (!player.isConnected) return;
    show(at == last ? 0 : at + 1);
    timer = setTimeout(tick, at == last ? hold : wait);
  };
  const pause = () => { clearTimeout(timer); timer = null; state(false); };
  const start = () => { state(true); tick(); };
  back.onclick = () => { pause(); show(at - 1); };
  next.onclick = () => { pause(); show(at + 1); };
  play.onclick = () => timer === null ? start() : pause();
  slider.oninput = () => { pause(); show(+slider.value); };
  addEventListener("beforeprint", () => { if (player.isConnected) { pause(); show(last); } });
  player.dataset.ready = ""; slider.max = last; show(last); state(false);
  if (last > 0 && !matchMedia("(prefers-reduced-motion: reduce)").matches) start();
}
""".strip()


def player_html(pictures: Iterable[Picture], fps: float = 8, title: str = "", hold: float = 2.0) -> str:
    """Pictures of one size as a fragment of HTML that plays them, in a loop.

    pictures: one per frame.
    fps: frames per second, up to 50; 8 by default.
    title: what it shows, for readers who cannot see it; "" by default.
    hold: seconds that the last picture stays, 2 by default.

    Raises ``ValueError`` as ``encode_animation`` does.
    """
    return f"<style>{STYLE}</style>{player(pictures, fps, title, hold)}<script>{SCRIPT}</script>"


def player(pictures: Iterable[Picture], fps: float = 8, title: str = "", hold: float = 2.0) -> str:
    """The player alone, for a page that has ``STYLE``, and ``SCRIPT`` at its end, once for all its players.

    pictures, fps, title, hold: as for ``player_html``, with its errors.
    """
    check_rate(fps, hold)
    frames = [b64encode(encode(Image.fromarray(frame), ".webp")).decode() for frame in rgb_frames(pictures)]
    last, name = len(frames) - 1, escape(title or "animation")

    def button(name: str, path: str) -> str:
        return f'<button type="button" aria-label="{name}" title="{name}"><svg viewBox="0 0 16 16"><path d="{path}"/></svg></button>'

    controls = (
        button("Step back", "M12 2L6 8l6 6zM3 2h2v12H3z"),
        button("Play", "M4 2l10 6-10 6z"),
        button("Step forward", "M4 2l6 6-6 6zM11 2h2v12h-2z"),
        f'<input type="range" min="0" max="{last}" value="{last}" aria-label="Frame"><output></output>',
    )
    data = f"data-fps=\"{fps:g}\" data-hold=\"{hold:g}\" data-frames='{json.dumps(frames)}'"
    picture = f'<img src="data:image/webp;base64,{frames[-1]}" alt="{name}">'
    return f'<div class="rastrum-player" role="group" aria-label="{name}" {data}>{picture}<div class="bar">{"".join(controls)}</div></div>'

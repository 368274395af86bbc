// A sign that a model gets ready, once an answer takes longer than a moment: a moving bar, and how long it has been.

const MOMENT = 1.5;            // seconds
const sign = document.getElementById("wait");
let timer = null;

export function waits(now) {
  clearInterval(timer);
  sign.hidden = true;
  if (!now) return;
  const began = performance.now();
  timer = setInterval(() => {
    const seconds = (performance.now() - began) / 1000;
    if (seconds < MOMENT) return;
    sign.hidden = false;
    sign.querySelector("span").textContent = `${Math.round(seconds)} s`;
  }, 500);
}

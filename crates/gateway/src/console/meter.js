// Events per second: a number for the last five seconds and a line for the last minute.

import { byId, setText } from "./dom.js";

const STEP_MS = 500;
const STEPS = 120;
const SHORT = 5_000 / STEP_MS;

export class Meter {
  constructor() {
    this.counts = [0];
    this.line = byId("spark").firstElementChild;
  }

  count() {
    this.counts[this.counts.length - 1] += 1;
  }

  /** Called every `Meter.step` milliseconds. */
  tick(paint) {
    this.counts.push(0);
    if (this.counts.length > STEPS + 1) this.counts.shift();
    if (!paint) return;
    const full = this.counts.slice(0, -1);
    const short = full.slice(-SHORT);
    const rate = short.reduce((sum, n) => sum + n, 0) / ((short.length * STEP_MS) / 1000);
    setText(byId("rate"), rate < 10 ? rate.toFixed(1) : String(Math.round(rate)));
    const top = Math.max(4, ...full);
    const left = STEPS - full.length;
    this.line.setAttribute("points", full.map((n, i) => `${left + i},${27 - (n / top) * 25}`).join(" "));
  }
}

Meter.step = STEP_MS;

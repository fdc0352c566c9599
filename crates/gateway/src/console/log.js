// The last 200 messages of all sockets, with a filter by type.

import { brief, briefObject, byId, clock, el, seconds, setText, soon, text } from "./dom.js";

const MOST_ROWS = 200;
/** Producers choose types freely; the filter offers only the first ones, up to this number. */
const MOST_TYPES = 40;
/** An event may have a megabyte, which is too long to read here. */
const MOST_RAW = 8_000;

export class Log {
  constructor() {
    this.list = byId("log");
    this.bar = byId("types");
    this.types = new Map();
    this.rows = [];
    this.fresh = [];
    this.crew = null;
  }

  /** `socket`: "mission", "graph" or "run". */
  event(socket, event, raw) {
    const type = text(event.type);
    if (!this.types.has(type) && this.types.size < MOST_TYPES) this.offer(type);
    const row = { socket, type, crew: crewOf(event), when: clock(event.timestamp), about: about(event), raw: cut(raw) };
    for (const rows of [this.rows, this.fresh]) {
      rows.push(row);
      if (rows.length > MOST_ROWS) rows.shift();
    }
    soon(this.paint);
  }

  /** Creates a button that hides or shows a type. */
  offer(type) {
    this.types.set(type, true);
    const chip = el("button", "chip", type);
    chip.type = "button";
    chip.setAttribute("aria-pressed", "true");
    chip.addEventListener("click", () => {
      const on = !this.types.get(type);
      this.types.set(type, on);
      chip.setAttribute("aria-pressed", String(on));
      this.again();
    });
    this.bar.append(chip);
  }

  /** Shows only this crew's events, or all with `null`. */
  narrow(crew) {
    this.crew = crew;
    this.again();
  }

  clear() {
    this.rows = [];
    this.again();
  }

  /** Paints all rows again after a change of the filter. */
  again() {
    this.list.replaceChildren();
    this.fresh = [...this.rows];
    soon(this.paint);
  }

  shown(row) {
    return this.types.get(row.type) !== false && (this.crew === null || row.crew === "" || row.crew === this.crew);
  }

  paint = () => {
    byId("events-empty").hidden = this.rows.length > 0;
    const fresh = this.fresh.filter((row) => this.shown(row)).reverse();
    this.fresh = [];
    this.list.prepend(...fresh.map(rowOf));
    while (this.list.childElementCount > MOST_ROWS) this.list.lastChild.remove();
    const hidden = [...this.types.values()].filter((on) => !on).length;
    const notes = [];
    if (this.crew !== null) notes.push(`only ${this.crew}`);
    if (hidden > 0) notes.push(`${hidden} ${hidden === 1 ? "type" : "types"} hidden`);
    setText(byId("events-note"), notes.join(", "));
  };
}

function rowOf(row) {
  const item = el("li");
  const details = el("details");
  const summary = el("summary");
  const type = el("span", "type", row.type);
  type.dataset.socket = row.socket;
  summary.append(el("span", "when", row.when), el("span", "socket", row.socket), type, el("span", "about", row.about));
  details.append(summary);
  // Most lines are never opened, so their JSON is formatted only on opening.
  details.addEventListener("toggle", () => {
    if (details.open && details.childElementCount === 1) details.append(el("pre", "", row.raw));
  });
  item.append(details);
  return item;
}

function crewOf(event) {
  const crew = event.crew_id ?? event.payload?.crewId;
  return typeof crew === "string" ? crew : "";
}

function about(event) {
  const who = [crewOf(event), event.run_id, event.agent_id].filter((part) => typeof part === "string" && part !== "");
  const what = [event.tool, event.task, event.payload?.status, event.status, event.message, event.reason]
    .filter((part) => typeof part === "string" && part !== "");
  if (typeof event.progress === "number") what.push(`${Math.round(event.progress * 100)} %`);
  if (typeof event.duration_s === "number") what.push(seconds(event.duration_s));
  const rest = briefObject(event.params ?? event.inputs ?? {}, 100);
  return brief([who.join(" / "), what.join(" · "), rest].filter((part) => part !== "").join("  "), 300);
}

const cut = (raw) => (raw.length > MOST_RAW ? `${raw.slice(0, MOST_RAW)}… (${raw.length} characters)` : raw);

// The crews of the mission socket, and the one that the user has selected.

import { bound, byId, el, setText, soon } from "./dom.js";

const MOST_CREWS = 200;
const STATUS = new Set(["busy", "available", "offline"]);

export class Crews {
  /** `onPick(crew | null)` is called with the crew that the other panels should show. */
  constructor(onPick) {
    this.list = byId("crews");
    this.crews = new Map();
    this.picked = null;
    this.onPick = onPick;
  }

  /** Handles a signal: `{"payload":{"status","crewId"}}`. */
  signal(event) {
    const crew = event.payload?.crewId;
    const status = event.payload?.status;
    if (typeof crew !== "string" || !STATUS.has(status)) return;
    const entry = this.crews.get(crew) ?? this.add(crew);
    if (entry.status !== status) {
      entry.status = status;
      entry.since = performance.now();
    }
    soon(this.paint);
  }

  add(crew) {
    const entry = { crew, status: "offline", since: performance.now() };
    this.crews.set(crew, entry);
    bound(this.crews, MOST_CREWS, (old) => old.row?.remove());
    return entry;
  }

  row(entry) {
    const row = el("li");
    const button = el("button", "crew");
    button.type = "button";
    button.append(el("span", "dot"), el("span", "name", entry.crew), el("span", "status"), el("span", "age"));
    button.addEventListener("click", () => this.pick(entry.crew));
    row.append(button);
    // Sorted by name, so that a crew keeps its place while its status changes.
    const next = [...this.list.children].find((other) => other.dataset.crew > entry.crew);
    row.dataset.crew = entry.crew;
    this.list.insertBefore(row, next ?? null);
    return row;
  }

  pick(crew) {
    this.picked = this.picked === crew ? null : crew;
    soon(this.paint);
    this.onPick(this.picked);
  }

  clear() {
    this.crews.clear();
    if (this.picked !== null) this.pick(this.picked);
    this.list.replaceChildren();
    soon(this.paint);
  }

  paint = () => {
    byId("crews-empty").hidden = this.crews.size > 0;
    for (const entry of this.crews.values()) {
      entry.row ??= this.row(entry);
      const button = entry.row.firstChild;
      button.dataset.status = entry.status;
      button.setAttribute("aria-pressed", String(this.picked === entry.crew));
      setText(button.children[2], entry.status);
      setText(button.children[3], `for ${age(performance.now() - entry.since)}`);
    }
  };
}

/** Whole seconds, then minutes, then hours: a crew can be offline for a long time. */
function age(ms) {
  const seconds = Math.floor(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h`;
}

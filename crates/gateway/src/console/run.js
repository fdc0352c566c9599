// The life of one run, from its first event to `done`.

import { bound, brief, briefObject, byId, clock, el, entry, seconds, setText, soon, text } from "./dom.js";

const MOST_ROWS = 200;
const MOST_RUNS = 60;

export class Run {
  constructor() {
    this.list = byId("timeline");
    this.choices = byId("runs");
    this.runs = new Map();
    this.pending = [];
    this.id = null;
    this.endedAt = null;
  }

  /** Records that the run exists, so that it can be selected. */
  seen(run, crew) {
    if (this.runs.has(run)) return;
    this.runs.set(run, crew);
    bound(this.runs, MOST_RUNS);
    soon(this.paintChoices);
  }

  /** Starts an empty timeline. */
  show(id) {
    this.id = id;
    this.restart();
    byId("run-id").value = id;
  }

  /** Clears the timeline: the same events may arrive again, and must not be shown twice. */
  restart(note) {
    this.pending = note ? [note] : [];
    this.endedAt = null;
    this.list.replaceChildren();
    soon(this.paint);
  }

  /** Milliseconds since the run or its socket ended; 0 while it is active. */
  endedFor() {
    return this.endedAt === null ? 0 : performance.now() - this.endedAt;
  }

  event(event) {
    if (event.type === "reset") {
      const why = event.reason === "trimmed" ? "the log no longer reaches back that far" : "the log was rewritten";
      this.restart({ kind: "note", title: `shown again from what the log holds: ${why}` });
      return;
    }
    this.add(describe(event));
    if (event.type === "done") this.endedAt = performance.now();
  }

  /** Handles the final close of the socket. */
  closed(words) {
    this.endedAt ??= performance.now();
    this.add({ kind: "note", title: words });
  }

  add(row) {
    this.pending.push(row);
    if (this.pending.length > MOST_ROWS) this.pending.shift();
    soon(this.paint);
  }

  paint = () => {
    if (this.pending.length === 0) {
      byId("run-empty").hidden = this.list.childElementCount > 0;
      if (this.id !== null) setText(byId("run-empty"), "Nothing has happened in this run yet.");
      return;
    }
    byId("run-empty").hidden = true;
    // Follows the end unless the user has scrolled up.
    const box = this.list;
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    box.append(...this.pending.map(rowOf));
    this.pending = [];
    while (box.childElementCount > MOST_ROWS) box.firstChild.remove();
    if (atEnd) box.scrollTop = box.scrollHeight;
  };

  paintChoices = () => {
    const options = [...this.runs].reverse().map(([run, crew]) => {
      const option = el("option", "", text(crew));
      option.value = run;
      return option;
    });
    this.choices.replaceChildren(...options);
  };
}

function rowOf(row) {
  const item = el("li", row.kind);
  item.append(el("span", "when", row.when ?? ""), el("span", "title", row.title));
  if (row.took) item.append(el("span", "took", row.took));
  if (row.detail) item.append(el("div", "detail", row.detail));
  return item;
}

/** The style and text of the line for an ended agent or task. */
const ENDS = { success: ["good", "done"], completed_with_errors: ["warn", "done with errors"], error: ["bad", "failed"] };

/** An event as a line of the timeline: its kind, title and details. */
function describe(event) {
  const when = clock(event.timestamp);
  const took = seconds(event.duration_s);
  const agent = text(event.agent ?? event.agent_id);
  const task = text(event.task ?? event.task_id);
  const [mood, end] = entry(ENDS, event.status) ?? ENDS.success;
  switch (event.type) {
    case "boot":
      return { kind: "boot", when, title: `boot of ${text(event.crew_id)}`, detail: briefObject(event.inputs, 300) };
    case "agent_start":
      return { kind: "agent", when, title: `${agent} starts` };
    case "agent_end":
      return { kind: `agent ${mood}`, when, took, title: `${agent}: ${end}`, detail: brief(event.output, 300) };
    case "task_start":
      return { kind: "task", when, title: task, detail: text(event.agent_id) };
    case "task_end":
      return { kind: `task ${mood}`, when, took, title: `${task}: ${end}`, detail: brief(event.output, 300) };
    case "error": {
      const code = event.code ? ` (${text(event.code)})` : "";
      return { kind: "bad", when, title: `${event.fatal === true ? "fatal error" : "error"}${code}`, detail: brief(event.message, 300) };
    }
    case "done":
      return { kind: `done ${endOf(event.status)}`, when, took, title: `done: ${text(event.status)}`, detail: brief(event.output, 300) };
    default:
      return { kind: "other", when, title: text(event.type), detail: brief(event.message ?? event.reason, 300) };
  }
}

const endOf = (status) => (status === "success" ? "good" : status === "error" ? "bad" : "warn");

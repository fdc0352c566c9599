// One card for each agent, with its latest tool calls.

import { bound, brief, briefObject, byId, el, entry, seconds, setText, soon, text } from "./dom.js";

const MOST_AGENTS = 30;
const CALLS_PER_AGENT = 3;
/** An agent may have more calls than that running in parallel. */
const MOST_CALLS = 12;
/** A call without an end event is not shown as running forever. */
const FORGET_AFTER_MS = 15 * 60_000;

const ENDS = { success: "done", error: "failed", completed_with_errors: "with errors" };

export class Agents {
  constructor() {
    this.list = byId("agents");
    this.agents = new Map();
    this.crew = null;
  }

  /** Handles a tool event of any crew. */
  tool(event) {
    if (typeof event.type !== "string" || !event.type.startsWith("tool_")) return;
    const agent = this.agent(text(event.crew_id), text(event.agent_id));
    agent.run = text(event.run_id);
    agent.changed = true;
    const name = text(event.tool);
    if (event.type === "tool_start") this.start(agent, name, event);
    else if (event.type === "tool_progress") this.progress(agent, name, event);
    else if (event.type === "tool_end") this.end(agent, name, event);
    soon(this.paint);
  }

  /** Shows only this crew's agents, or all with `null`. */
  narrow(crew) {
    this.crew = crew;
    for (const agent of this.agents.values()) agent.changed = true;
    soon(this.paint);
  }

  clear() {
    this.agents.clear();
    this.list.replaceChildren();
    soon(this.paint);
  }

  agent(crew, name) {
    const key = `${crew}\n${name}`;
    const agent = this.agents.get(key) ?? { key, crew, name, calls: [], done: 0, failed: 0 };
    // Newest last: the limit drops the agents that were silent for longest.
    this.agents.delete(key);
    this.agents.set(key, agent);
    bound(this.agents, MOST_AGENTS, (old) => old.card?.remove());
    return agent;
  }

  start(agent, tool, event) {
    const call = {
      id: callId(event), tool, run: agent.run, params: briefObject(event.params), begun: performance.now(), state: "running",
    };
    agent.calls.unshift(call);
    while (agent.calls.length > CALLS_PER_AGENT) {
      const ended = agent.calls.findLastIndex((old) => old.state !== "running");
      if (ended === -1 && agent.calls.length <= MOST_CALLS) break;
      const [old] = agent.calls.splice(ended === -1 ? -1 : ended, 1);
      old.row?.remove();
    }
    return call;
  }

  /**
   * The call of an event: the one with its `call_id`. Where the start or this event has none, the latest running call of
   * this tool and run. A page that opened late has not seen the start.
   */
  call(agent, tool, event) {
    const id = callId(event);
    const same = id && agent.calls.find((c) => c.id === id && c.run === agent.run);
    if (same) return same;
    const running = agent.calls.filter((c) => c.state === "running" && c.tool === tool && c.run === agent.run);
    return running.find((c) => c.id === null) ?? (id ? undefined : running[0]) ?? this.start(agent, tool, event);
  }

  progress(agent, tool, event) {
    const call = this.call(agent, tool, event);
    call.message = brief(event.message, 160);
    if (typeof event.progress === "number") call.progress = Math.min(1, Math.max(0, event.progress));
  }

  end(agent, tool, event) {
    const call = this.call(agent, tool, event);
    call.state = entry(ENDS, event.status) ? event.status : "success";
    call.duration = event.duration_s;
    call.exit = event.exit_code;
    agent.done += 1;
    if (call.state === "error") agent.failed += 1;
  }

  paint = () => {
    byId("agents-empty").hidden = this.agents.size > 0;
    for (const agent of this.agents.values()) {
      if (!agent.card) this.build(agent);
      if (agent.changed) this.update(agent);
    }
  };

  /** Updates the clocks of running calls. */
  tick() {
    const now = performance.now();
    for (const agent of this.agents.values()) {
      for (const call of agent.calls) {
        if (call.state !== "running" || !call.row) continue;
        if (now - call.begun > FORGET_AFTER_MS) {
          call.state = "unknown";
          agent.changed = true;
          soon(this.paint);
        } else {
          setText(call.row.time, seconds((now - call.begun) / 1000));
        }
      }
    }
  }

  build(agent) {
    const card = el("article", "card");
    const title = el("h3", "", agent.name);
    const crew = el("span", "of", agent.crew);
    const run = el("span", "run-of");
    const tally = el("span", "tally");
    const head = el("div", "card-head");
    head.append(title, crew, tally, run);
    const calls = el("ul", "calls");
    card.append(head, calls);
    card.dataset.key = agent.key;
    Object.assign(agent, { card, calls_list: calls, run_label: run, tally, changed: true });
    // Sorted by crew and agent, so that cards keep their place while their content changes.
    const next = [...this.list.children].find((other) => other.dataset.key > agent.key);
    this.list.insertBefore(card, next ?? null);
  }

  update(agent) {
    agent.changed = false;
    agent.card.hidden = this.crew !== null && agent.crew !== this.crew;
    agent.card.classList.toggle("working", agent.calls.some((call) => call.state === "running"));
    setText(agent.run_label, agent.run);
    const failed = agent.failed > 0 ? `, ${agent.failed} failed` : "";
    setText(agent.tally, `${agent.done} ${agent.done === 1 ? "call" : "calls"}${failed}`);
    for (let i = agent.calls.length - 1; i >= 0; i -= 1) {
      const call = agent.calls[i];
      if (!call.row) {
        call.row = callRow(call);
        agent.calls_list.prepend(call.row);
      }
      updateCall(call);
    }
  }
}

/** The id of the event's call; null where its producer writes none. */
const callId = (event) => (typeof event.call_id === "string" && event.call_id !== "" ? event.call_id : null);

function callRow(call) {
  const row = el("li", "call");
  if (call.id !== null) row.title = `call ${call.id}`;
  row.mark = el("span", "state");
  row.time = el("span", "time");
  row.detail = el("div", "detail");
  row.bar = el("progress");
  row.bar.max = 1;
  row.bar.setAttribute("aria-label", `progress of ${call.tool}`);
  const line = el("div", "line");
  line.append(el("span", "tool", call.tool), row.mark, row.time);
  row.append(line, row.bar, row.detail);
  return row;
}

function updateCall(call) {
  const { row, state } = call;
  const running = state === "running";
  row.dataset.state = state;
  row.bar.hidden = !running;
  if (running && call.progress !== undefined) row.bar.value = call.progress;
  setText(row.detail, running && call.message ? call.message : call.params);
  row.detail.title = call.params;
  const percent = running && call.progress !== undefined ? `${Math.round(call.progress * 100)} %` : "";
  const exit = state === "error" && Number.isInteger(call.exit) ? ` (exit ${call.exit})` : "";
  setText(row.mark, running ? percent : state === "unknown" ? "no end seen" : `${ENDS[state]}${exit}`);
  if (!running) setText(row.time, seconds(call.duration));
}

// A socket that stays open: it reconnects with backoff, resumes, and describes its state in words.

/** What a close code means and what to do. `again`: "never", "soon" (at once, jittered) or "later" (backoff). */
const CODES = {
  1000: { again: "never", words: "completed" },
  1003: { again: "never", words: "a binary frame was sent: fix the client" },
  1007: { again: "never", words: "text that is not UTF-8 was sent: fix the client" },
  1008: { again: "never", words: "not authenticated as this endpoint requires" },
  1009: { again: "never", words: "the message was too large" },
  1011: { again: "later", words: "internal error of the gateway" },
  1012: { again: "soon", words: "this replica is going away" },
  1013: { again: "later", words: "overloaded, or the broker is away" },
  4400: { again: "never", words: "malformed message: fix the client" },
  4401: { again: "never", words: "the token is missing, wrong, expired or revoked: paste a new one" },
  4403: { again: "never", words: "the token does not grant this: ask for access" },
  4404: { again: "never", words: "no such endpoint, or the id is malformed" },
  4408: { again: "later", words: "this page read too slowly, or was silent" },
  4409: { again: "never", words: "replaced by a newer socket of the same client" },
  4429: { again: "later", words: "too many connections: backing off" },
};
const UNKNOWN = { again: "later", words: "the connection broke" };

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 30_000;
/** After a connection that lasted this long, the next failure starts with the shortest delay. */
const GOOD_AFTER_MS = 5_000;

/** How long to wait before attempt number `attempt` (from 0), in milliseconds, with jitter. */
export function delayMs(again, attempt, random = Math.random()) {
  if (again === "soon" && attempt === 0) return random * 1000;
  const ceiling = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** attempt);
  return ceiling / 2 + random * (ceiling / 2);
}

const EVENT_ID = /^[1-9][0-9]{0,15}-[0-9a-z]{12}$/;

/** Opens `path` under the gateway's `/ws/` and keeps it open. */
export class Socket {
  /**
   * `path`: for example "graph". `resume`: send `since` after a reconnect. `silence`: milliseconds without
   * any message after which the connection counts as dead (0: never). `onEvent(event, raw)` gets every
   * message; `onState(state)` gets `{kind: "off"|"connecting"|"open"|"waiting"|"ended", words}`.
   */
  constructor({ path, token, resume = false, silence = 0, onEvent, onState }) {
    Object.assign(this, { path, token, resume, silence, onEvent, onState });
    this.since = null;
    this.attempt = 0;
    this.stopped = false;
  }

  open() {
    clearTimeout(this.timer);
    if (this.stopped) return;
    const url = new URL(this.path, location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    url.hash = "";
    if (this.resume && this.since) url.searchParams.set("since", this.since);
    this.onState({ kind: "connecting", words: "connecting…" });
    // The token travels in Sec-WebSocket-Protocol only: neither in the address nor in a message.
    this.ws = this.token ? new WebSocket(url, ["token", this.token]) : new WebSocket(url);
    this.ws.onopen = () => this.opened();
    this.ws.onmessage = (message) => this.message(message.data);
    this.ws.onclose = (close) => this.closed(close.code, close.reason);
  }

  /** Closes the socket permanently. */
  stop() {
    this.stopped = true;
    clearTimeout(this.timer);
    clearInterval(this.watch);
    if (this.ws) {
      this.ws.onopen = this.ws.onmessage = this.ws.onclose = null;
      this.ws.close(1000);
    }
    this.onState({ kind: "off", words: "not connected" });
  }

  /** Connects now instead of waiting. */
  retry() {
    if (this.ws && this.ws.readyState <= WebSocket.OPEN) return;
    this.open();
  }

  opened() {
    this.openedAt = this.heardAt = performance.now();
    this.onState({ kind: "open", words: "live" });
    clearInterval(this.watch);
    if (this.silence > 0) this.watch = setInterval(() => this.listen(), 5_000);
  }

  /** A cut cable sends no close: a connection whose ping is long overdue is dead. */
  listen() {
    if (performance.now() - this.heardAt < this.silence) return;
    const dead = this.ws;
    dead.onmessage = dead.onclose = null;
    dead.close();
    this.closed(1006, "");
  }

  message(data) {
    this.heardAt = performance.now();
    if (typeof data !== "string") return;
    let event;
    try {
      event = JSON.parse(data);
    } catch {
      return;
    }
    if (event === null || typeof event !== "object" || Array.isArray(event)) return;
    if (typeof event.id === "string" && EVENT_ID.test(event.id)) this.since = event.id;
    this.onEvent(event, data);
  }

  closed(code, reason) {
    clearInterval(this.watch);
    if (this.stopped) return;
    const { again, words } = CODES[code] ?? UNKNOWN;
    // The gateway's reason often repeats our words ("run completed"); both are shown when they differ.
    const told = `${code === 1006 ? "" : `${code} `}${reason ? `${reason}: ${words}` : words}`;
    if (again === "never") {
      this.onState({ kind: "ended", code, words: code === 1000 ? `1000 ${reason || words}` : told });
      return;
    }
    const good = this.openedAt !== undefined && performance.now() - this.openedAt > GOOD_AFTER_MS;
    this.attempt = good ? 0 : this.attempt;
    this.openedAt = undefined;
    const wait = delayMs(again, this.attempt);
    this.attempt += 1;
    const when = wait < 1000 ? "at once" : `in ${Math.round(wait / 1000)} s`;
    this.onState({ kind: "waiting", code, words: `${told}; reconnecting ${when}` });
    this.timer = setTimeout(() => this.open(), wait);
  }
}

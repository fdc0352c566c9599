// Connects the three crew sockets to the panels of the page.

import { Agents } from "./agents.js";
import { Crews } from "./crews.js";
import { byId, el, freeze, frozen, setText } from "./dom.js";
import { Log } from "./log.js";
import { Meter } from "./meter.js";
import { Run } from "./run.js";
import { Socket } from "./socket.js";

const TOKEN_KEY = "crewcast.token";
const THEME_KEY = "crewcast.theme";
/** The gateway pings mission and graph every 45 s: after more than two silent intervals the connection is dead. */
const SILENCE_MS = 100_000;
/** How long a finished run stays visible before the page follows the next one. */
const LINGER_MS = 4_000;
/** The characters that `Sec-WebSocket-Protocol` can carry (RFC 6455, section 4.1). */
const SUBPROTOCOL = /^[A-Za-z0-9._~+/=-]+$/;
const CHANNEL_ID = /^[A-Za-z0-9._-]{1,128}$/;

const agents = new Agents();
const log = new Log();
const run = new Run();
const meter = new Meter();
const crews = new Crews((crew) => {
  agents.narrow(crew);
  log.narrow(crew);
});

const sockets = new Map();
let token = "";
let connected = false;

function openSocket(name, options) {
  sockets.get(name)?.stop();
  const socket = new Socket({ token, ...options, onState: (state) => showState(name, state) });
  sockets.set(name, socket);
  socket.open();
}

function connect() {
  token = byId("token").value.trim();
  if (token !== "" && !SUBPROTOCOL.test(token)) {
    say("This is not a token: it contains characters that a JWT never has.");
    return;
  }
  disconnect();
  connected = true;
  setText(byId("go"), "Disconnect");
  remember(token);
  say(describeToken(token));
  openSocket("mission", { path: "mission", silence: SILENCE_MS, onEvent: (e, raw) => onEvent("mission", e, raw) });
  openSocket("graph", { path: "graph", silence: SILENCE_MS, onEvent: (e, raw) => onEvent("graph", e, raw) });
  if (run.id !== null) openRun(run.id);
}

function disconnect() {
  connected = false;
  for (const socket of sockets.values()) socket.stop();
  sockets.clear();
  crews.clear();
  agents.clear();
  log.clear();
  setText(byId("go"), "Connect");
}

function openRun(id) {
  run.show(id);
  if (!connected) return;
  openSocket("run", {
    path: `runs/${encodeURIComponent(id)}`,
    resume: true,
    onEvent: (event, raw) => onEvent("run", event, raw),
  });
}

function onEvent(name, event, raw) {
  meter.count();
  log.event(name, event, raw);
  if (event.type === "broker" && event.source === "gateway") {
    const up = event.state === "up";
    showState(name, { kind: up ? "open" : "connecting", words: up ? "live" : "open, but the gateway waits for its broker" });
  }
  if (name === "mission") crews.signal(event);
  if (name === "run") run.event(event);
  if (name === "graph") {
    agents.tool(event);
    follow(event);
  }
}

/** Shows the next run if the user follows runs and the current one ended a moment ago. */
function follow(event) {
  if (typeof event.run_id !== "string" || !CHANNEL_ID.test(event.run_id)) return;
  run.seen(event.run_id, event.crew_id);
  if (!byId("follow").checked || event.run_id === run.id) return;
  if (run.id === null || run.endedFor() > LINGER_MS) openRun(event.run_id);
}

/** Shows a socket's state in the header of its panel, with a button if the user can act. */
function showState(name, state) {
  const link = byId(`${name}-link`);
  link.dataset.kind = state.kind === "ended" && state.code !== 1000 ? "refused" : state.kind;
  const label = el("span", "words", state.words);
  label.setAttribute("role", "status");
  link.replaceChildren(el("span", "dot"), label);
  if (state.kind === "waiting") {
    const now = el("button", "", "Now");
    now.type = "button";
    now.title = "Reconnect now";
    now.addEventListener("click", () => sockets.get(name)?.retry());
    link.append(now);
  }
  if (name === "run" && state.kind === "ended") run.closed(`closed: ${state.words}`);
}

function say(words) {
  setText(byId("who"), words);
}

/** Describes the token by its own claims. Only the gateway can verify them. */
function describeToken(jwt) {
  if (jwt === "") return "Without a token: the page shows what auth.anonymous grants.";
  try {
    const part = jwt.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(part), (c) => c.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes));
    const parts = [`You are ${String(claims.sub ?? claims.user_id ?? "someone").slice(0, 80)}`];
    if (claims.org) parts.push(`of ${String(claims.org).slice(0, 80)}`);
    if (Number.isFinite(claims.exp)) {
      const until = new Date(claims.exp * 1000);
      parts.push(until < new Date() ? "with a token that has expired" : `until ${until.toLocaleString()}`);
    }
    return `${parts.join(" ")}.`;
  } catch {
    return "This does not look like a JWT. The gateway will check it.";
  }
}

/** The token stays in this tab. It is removed from the address, which people copy and share. */
function recallToken() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const given = fragment.get("token");
  if (given !== null) {
    history.replaceState(null, "", location.pathname + location.search);
    return given;
  }
  return stored(sessionStorage, TOKEN_KEY) ?? "";
}

/** The browser's settings may forbid storage; the page works without it. */
function stored(storage, key) {
  try {
    return storage.getItem(key);
  } catch {
    return null;
  }
}

function store(storage, key, value) {
  try {
    storage.setItem(key, value);
  } catch {
    // Then the choice is not remembered.
  }
}

const remember = (value) => store(sessionStorage, TOKEN_KEY, value);

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  setText(byId("theme"), `Theme: ${theme}`);
  store(localStorage, THEME_KEY, theme);
}

function setPause(on) {
  freeze(on);
  const button = byId("pause");
  button.setAttribute("aria-pressed", String(on));
  setText(button, on ? "Resume" : "Pause");
  document.body.classList.toggle("paused", on);
}

function wire() {
  byId("connect").addEventListener("submit", (event) => {
    event.preventDefault();
    if (connected && byId("token").value.trim() === token) disconnect();
    else connect();
  });
  byId("token").addEventListener("input", () => {
    setText(byId("go"), connected && byId("token").value.trim() === token ? "Disconnect" : "Connect");
  });
  byId("show").addEventListener("click", () => {
    const shown = byId("token").type === "text";
    byId("token").type = shown ? "password" : "text";
    byId("show").setAttribute("aria-pressed", String(!shown));
    setText(byId("show"), shown ? "Show" : "Hide");
  });
  byId("open-run").addEventListener("submit", (event) => {
    event.preventDefault();
    const id = byId("run-id").value.trim();
    if (!CHANNEL_ID.test(id)) {
      say("A run id is 1 to 128 characters of letters, digits, dot, dash and underscore.");
      return;
    }
    byId("follow").checked = false;
    openRun(id);
  });
  byId("pause").addEventListener("click", () => setPause(!frozen()));
  byId("theme").addEventListener("click", () => {
    const next = { auto: "light", light: "dark", dark: "auto" };
    setTheme(next[document.documentElement.dataset.theme] ?? "auto");
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target instanceof HTMLElement && event.target.matches("input, textarea, select");
    if (event.key === "p" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) setPause(!frozen());
  });
  window.addEventListener("online", () => {
    for (const socket of sockets.values()) socket.retry();
  });
  window.addEventListener("hashchange", () => {
    if (!location.hash.startsWith("#token=")) return;
    byId("token").value = recallToken();
    connect();
  });
}

function start() {
  wire();
  setTheme(stored(localStorage, THEME_KEY) ?? "auto");
  for (const name of ["mission", "graph", "run"]) showState(name, { kind: "off", words: "not connected" });
  setInterval(() => {
    meter.tick(!frozen() && !document.hidden);
    if (frozen() || document.hidden) return;
    agents.tick();
    crews.paint();
  }, Meter.step);
  const known = recallToken();
  byId("token").value = known;
  if (known !== "") connect();
  else say("Paste a token to begin. `crewcast token` mints one; `crewcast dev` prints one.");
}

start();

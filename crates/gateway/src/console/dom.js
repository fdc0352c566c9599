// Small helpers. Text from producers enters the page through textContent, never as markup.

/** Creates an element with a class and, optionally, a text. */
export function el(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

/** Sets a text only if it differs, so that an unchanged row causes no layout. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** `value` as a short text: strings as they are, everything else as JSON, cut after `max` characters. */
export function brief(value, max = 120) {
  if (value === undefined || value === null) return "";
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length > max ? `${text.slice(0, max - 1)}…` : text;
}

/** `{a: 1, b: "x"}` as `a=1 b=x`. */
export function briefObject(object, max = 120) {
  if (!object || typeof object !== "object" || Array.isArray(object)) return brief(object, max);
  const parts = [];
  let length = 0;
  for (const [key, value] of Object.entries(object)) {
    const part = `${key}=${brief(value, max)}`;
    parts.push(part);
    length += part.length + 1;
    if (length > max) break;
  }
  return brief(parts.join(" "), max);
}

/** Seconds as `0.8 s`, `12 s`, `2 min 05 s`; empty if it is not a number. */
export function seconds(value) {
  if (typeof value !== "number" || !Number.isFinite(value)) return "";
  if (value < 10) return `${value.toFixed(1)} s`;
  if (value < 60) return `${Math.round(value)} s`;
  const whole = Math.round(value);
  return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
}

/** The time of day of an event's timestamp, or of now if it has none. */
export function clock(timestamp) {
  const date = typeof timestamp === "string" ? new Date(timestamp) : new Date();
  return Number.isNaN(date.getTime()) ? "" : date.toLocaleTimeString([], { hour12: false });
}

/** A field of an event as text: ids should be strings, but nothing forces producers to send strings. */
export const text = (value) => (typeof value === "string" ? value : brief(value, 128));

/** Looks a field up in a table. Values that are not strings are skipped: converting them could throw. */
export const entry = (table, key) => (typeof key === "string" && Object.hasOwn(table, key) ? table[key] : undefined);

/** Drops the oldest entries of a Map beyond `max`; `gone` is called for each. */
export function bound(map, max, gone) {
  while (map.size > max) {
    const [key, value] = map.entries().next().value;
    map.delete(key);
    gone?.(value);
  }
}

const painters = new Set();
let asked = false;
let paused = false;

/** Schedules `paint` to run once in the next frame. Frames do not run while the page is paused or hidden. */
export function soon(paint) {
  painters.add(paint);
  if (asked || paused) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    if (paused) return;
    const now = [...painters];
    painters.clear();
    for (const painter of now) painter();
  });
}

/** Freezes the display, or unfreezes it and paints what was scheduled meanwhile. */
export function freeze(on) {
  paused = on;
  if (!on && painters.size > 0) soon(painters.values().next().value);
}

/** Whether the display is frozen. */
export const frozen = () => paused;

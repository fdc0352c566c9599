// The manager in Node, with the package `ws`.
//
// node page.mjs <gateway> <client id>: prints what a page shows as lines.

import WebSocket from "ws";
import { TrackingManager } from "./manager.js";
import { WORDS } from "./words.js";

const [url, client] = process.argv.slice(2);
const manager = new TrackingManager(url, client, WebSocket);
let opened = false;
for (const [type, words] of Object.entries(WORDS)) {
  manager.on(type, (message) => {
    for (const line of words(message)) console.log(line);
    if (type !== "active_sessions" || opened) return;
    opened = message.data.sessions.some((one) => one.session_id === "s1");
    if (opened) manager.openSession("s1");
  });
}
manager.connect();

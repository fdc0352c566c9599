// A bridge with the package `ws`: posts each event to a webhook, in order, and repeats a post that fails.
//
// node bridge.mjs <gateway> <token> <webhook>

import WebSocket from "ws";

const [url, token, webhook] = process.argv.slice(2);
let queue = Promise.resolve();

async function post({ channel, event }) {
  const headers = { "content-type": "application/json", "X-Stream-ID": channel.replace(/^stream:/, "") };
  for (;;) {
    const answer = await fetch(webhook, { method: "POST", headers, body: JSON.stringify(event) }).catch(() => null);
    if (answer?.ok) return console.log(`posted ${channel} ${event.type} ${event.execution_id}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

const socket = new WebSocket(`${url}/ws/stream`);
socket.on("open", () => socket.send(JSON.stringify({ action: "auth", token })));
socket.on("message", (data) => {
  const message = JSON.parse(data);
  if (message.type === "authenticated") socket.send(JSON.stringify({ action: "subscribe" }));
  if (message.type === "event") queue = queue.then(() => post(message));
});
socket.on("close", (code, reason) => console.log(`closed ${code} ${reason}`));

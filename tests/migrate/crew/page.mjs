// A terminal page with the package `ws`: missions, tools and one run.
//
// node page.mjs <gateway> <token>: prints each event as a line.

import WebSocket from "ws";

const [url, token] = process.argv.slice(2);

function open(path, show) {
  const socket = new WebSocket(`${url}${path}`, ["token", token]);
  socket.on("message", (data) => {
    const message = JSON.parse(data);
    if (message.type === "ping") return socket.send(JSON.stringify({ type: "pong" }));
    show(message);
  });
  socket.on("error", (error) => console.log(`error ${error.message}`));
  return socket;
}

open("/ws/mission", ({ type, payload }) => {
  if (type === "signal") console.log(`mission ${payload.crewId} ${payload.status}`);
});
open("/ws/graph?crew_id=abc", ({ type, tool }) => console.log(`graph ${type} ${tool}`));
const run = open("/ws/runs/r1", ({ type }) => console.log(`run ${type}`));
run.on("close", (code, reason) => {
  if (code === 1000) console.log("state completed");
  else console.log(`state refused: ${code} ${reason}`);
});

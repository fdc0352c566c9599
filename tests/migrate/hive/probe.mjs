// Sends one first message with the package `ws`, and prints how the server closes the socket.
//
// node probe.mjs <gateway> <first message>

import WebSocket from "ws";

const [url, first] = process.argv.slice(2);
const socket = new WebSocket(`${url}/ws/stream`);
socket.on("open", () => socket.send(first));
socket.on("close", (code, reason) => console.log(`closed ${code} ${reason}`));

// The page's client in Node, with the package `ws`.
//
// node page.mjs <gateway>: prints each event as a line.

import WebSocket from "ws";
import { HiveClient } from "./client.js";

const url = process.argv[2];
new HiveClient(`${url}/ws`, WebSocket)
  .on("task_progress", (data) => console.log(`event task_progress ${data.task_id} ${data.progress}`))
  .on("*", (_data, { type }) => console.log(`event ${type}`))
  .on("pong", () => console.log("pong"))
  .on("close", ({ code, reason }) => console.log(`closed ${code} ${reason}`))
  .connect();

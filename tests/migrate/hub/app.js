// The page: each event as a list item, without a framework.

import { HiveClient } from "./client.js";

const query = new URLSearchParams(location.search);
const list = document.getElementById("root").appendChild(document.createElement("ul"));
const show = (text) => {
  list.appendChild(document.createElement("li")).textContent = text;
};

new HiveClient(`${query.get("gateway")}/ws`)
  .on("task_progress", (data) => show(`event task_progress ${data.task_id} ${data.progress}`))
  .on("*", (_data, { type }) => show(`event ${type}`))
  .on("pong", () => show("pong"))
  .on("close", ({ code, reason }) => show(`closed ${code} ${reason}`))
  .connect();

// The page: each message as a list item, without a framework.

import { openDashboard } from "./dashboard.js";

const list = document.getElementById("root").appendChild(document.createElement("ul"));
openDashboard(new URLSearchParams(location.search).get("gateway"), (text) => {
  list.appendChild(document.createElement("li")).textContent = text;
});

// The dashboard's connections in Node, with the package `ws`.
//
// node page.mjs <gateway>: prints what a page shows as lines.

import WebSocket from "ws";
import { openDashboard } from "./dashboard.js";

openDashboard(process.argv[2], console.log, WebSocket);

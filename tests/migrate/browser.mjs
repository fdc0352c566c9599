// Opens a system's page in Chromium and prints each line that it shows.
//
// node browser.mjs <system> <gateway> [name=value ...]: serves tests/migrate/<system> on a port of its own, so that the
// page is of another origin than the gateway. `strict=1` renders in React's StrictMode.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { openPage, withBrowser } from "../browser/browser.js";

const [system, gateway, ...parameters] = process.argv.slice(2);
const FILES = {
  "/react.js": "node_modules/react/umd/react.development.js",
  "/react-dom.js": "node_modules/react-dom/umd/react-dom.development.js",
};
const PAGE = `<!doctype html><title>${system}</title><div id="root"></div>
<script src="/react.js"></script><script src="/react-dom.js"></script><script type="module" src="/app.js"></script>`;

const server = createServer(async (request, response) => {
  const path = new URL(request.url, "http://page").pathname;
  response.setHeader("content-type", path === "/" ? "text/html" : "text/javascript");
  if (path === "/") return response.end(PAGE);
  const file = new URL(FILES[path] ?? `${system}${path}`, import.meta.url);
  response.end(await readFile(file).catch(() => ((response.statusCode = 404), "")));
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));

/** Prints the text of each list item once, when it appears. */
function watchItems() {
  const print = (node) => {
    if (node.nodeType !== Node.ELEMENT_NODE) return;
    const items = node.matches("li") ? [node] : node.querySelectorAll("li");
    for (const item of items) console.log(`shown: ${item.textContent}`);
  };
  new MutationObserver((records) => {
    for (const record of records) record.addedNodes.forEach(print);
  }).observe(document, { childList: true, subtree: true });
}

await withBrowser(async (browser) => {
  const { page } = await openPage(browser);
  page.on("console", (message) => {
    const text = message.text();
    if (text.startsWith("shown: ")) process.stdout.write(`${text.slice(7)}\n`);
    else process.stderr.write(`${text}\n`);
  });
  page.on("pageerror", (error) => process.stderr.write(`${error.stack}\n`));
  await page.addInitScript(watchItems);
  const query = new URLSearchParams([["gateway", gateway], ...parameters.map((parameter) => parameter.split(/=(.*)/s, 2))]);
  await page.goto(`http://127.0.0.1:${server.address().port}/?${query}`);
  await new Promise((resolve) => process.stdin.on("end", resolve).resume());
});
process.exit(0);

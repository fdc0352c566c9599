// A browser for one scenario, the errors that it logged, and conditions to wait for.

import { existsSync } from "node:fs";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const PLACES = [
  process.env.CHROMIUM,
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/Applications/Chromium.app/Contents/MacOS/Chromium",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];
const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];
const PATIENCE_MS = 20_000;

/** Runs `scenario(browser)` with a browser of its own. */
export async function withBrowser(scenario) {
  const executablePath = PLACES.find((place) => place && existsSync(place));
  if (!executablePath) throw new Error("Chromium is needed: run `make test`, which installs it, or set CHROMIUM");
  const browser = await chromium.launch({ executablePath, args: FLAGS, headless: true });
  try {
    await scenario(browser);
  } finally {
    await browser.close();
  }
}

/** A page in a fresh profile, with everything that it asked for and complained about. */
export async function openPage(browser, options = {}) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const urls = [];
  const complaints = [];
  page.on("request", (request) => urls.push(request.url()));
  page.on("websocket", (socket) => urls.push(socket.url()));
  page.on("pageerror", (error) => complaints.push(`script error: ${error.message}`));
  page.on("dialog", (dialog) => {
    complaints.push(`a dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
  });
  page.setDefaultTimeout(PATIENCE_MS);
  return { context, page, urls, complaints };
}

/** Waits until `condition` gives something true, and gives that. */
export async function until(what, condition) {
  const end = performance.now() + PATIENCE_MS;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (performance.now() > end) throw new Error(`did not come about: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** Waits until a link of the console (mission, graph, run) stands like this, and gives its words. */
export async function link(page, name, kind) {
  await until(`${name} is ${kind}`, async () => (await page.getAttribute(`#${name}-link`, "data-kind")) === kind);
  return page.textContent(`#${name}-link .words`);
}

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Asks the Rust side for something, such as ending the gateway, and waits until it is done. */
export async function ask(what) {
  process.stdout.write(`${what}\n`);
  const { value, done } = await answers.next();
  if (done || value !== "done") throw new Error(`asked to ${what}, heard ${value}`);
}

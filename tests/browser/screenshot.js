// `node screenshot.js <crewcast> <image>`: starts `crewcast dev`, waits until the console is full of work, and writes a
// picture of it. `make screenshot` calls it for docs/images/console.png.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { openPage, until, withBrowser } from "./browser.js";

const SIZE = { width: 1280, height: 860 };
const SEED = "7";
const SPEED = "3";

const [program, image] = process.argv.slice(2);
if (!program || !image) {
  console.error("usage: node screenshot.js <crewcast> <image.png>");
  process.exit(2);
}

/** Starts the gateway with its simulated crews on free ports; gives the process and the console's address. */
async function start() {
  const environment = { PATH: process.env.PATH, CREWCAST_LISTEN: "127.0.0.1:0", CREWCAST_ADMIN__LISTEN: "127.0.0.1:0" };
  const options = { env: environment, stdio: ["ignore", "pipe", "inherit"] };
  const dev = spawn(program, ["dev", "--seed", SEED, "--speed", SPEED], options);
  dev.on("error", (error) => {
    console.error(`${program} does not start: ${error.message}`);
    process.exit(1);
  });
  for await (const line of createInterface({ input: dev.stdout })) {
    const address = line.match(/Console\s+(\S+)/)?.[1];
    if (address) {
      dev.stdout.resume();
      return { dev, address };
    }
  }
  throw new Error(`${program} ended before it printed the console's address`);
}

/** A page with every crew, four agents at work, a run under way and a full log. */
async function isFull(page) {
  const counts = await Promise.all(
    ["#crews .crew", "#agents .card", "#timeline > li", "#log > li"].map((selector) => page.locator(selector).count()),
  );
  const running = await page.locator("#agents .card .call[data-state='running']").count();
  return counts[0] >= 3 && counts[1] >= 4 && counts[2] >= 5 && counts[3] >= 120 && running >= 2;
}

const { dev, address } = await start();
let status = 0;
try {
  await withBrowser(async (browser) => {
    const { page } = await openPage(browser, { viewport: SIZE, colorScheme: "light", timezoneId: "UTC" });
    await page.goto(address);
    await until("a console full of work", () => isFull(page));
    await page.screenshot({ path: image, animations: "disabled" });
  });
  console.log(`wrote ${image}`);
} catch (error) {
  console.error(error);
  status = 1;
} finally {
  dev.kill("SIGINT");
}
process.exit(status);

// `node run.js <scenario>`: plays one scenario in a browser and ends with 0 if all held. What it needs comes in
// the environment from tests/e2e/browser.rs: GATEWAY (http://host:port), TOKEN, and for some FOREIGN_GATEWAY.

import { withBrowser } from "./browser.js";
import * as scenarios from "./scenarios.js";

const scenario = scenarios[process.argv[2]];
if (!scenario) {
  console.error(`no such scenario: ${process.argv[2]}; there are ${Object.keys(scenarios).join(", ")}`);
  process.exit(2);
}
try {
  await withBrowser((browser) => scenario(browser, { gateway: process.env.GATEWAY, token: process.env.TOKEN }));
  process.exit(0);
} catch (error) {
  console.error(error);
  process.exit(1);
}

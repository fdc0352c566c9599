// `node run.js <scenario>`: plays one scenario in a browser and exits with 0 if it succeeds. tests/e2e/browser.rs sets
// the environment: GATEWAY (http://host:port), TOKEN, and for some scenarios FOREIGN_GATEWAY.

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

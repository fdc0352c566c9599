// Checks that docs/protocols/asyncapi.yaml is valid, that it describes every server message of the golden transcripts for
// its endpoint, and that every described message occurs in a transcript. Prints the addresses and the number of checked
// lines as JSON.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Parser } from "@asyncapi/parser";
import Ajv from "ajv";

const root = fileURLToPath(new URL("../..", import.meta.url));
const text = readFileSync(join(root, "docs/protocols/asyncapi.yaml"), "utf8");
const { document, diagnostics } = await new Parser().parse(text);
const errors = diagnostics.filter(({ severity }) => severity === 0);
for (const { message, path } of errors) console.error(`${path.join(".")}: ${message}`);
if (errors.length > 0) process.exit(1);

const ajv = new Ajv({ strict: false });
// Messages that come only after some time or during an outage.
const unseen = new Set(["ping", "gap", "skipped", "broker", "reconnect"]);
const seen = new Set();
// The messages that the gateway sends on each address.
const channels = document.channels().all().map((channel) => {
  const sends = channel.operations().all().filter((operation) => operation.isSend());
  const messages = sends.flatMap((operation) => operation.messages().all());
  const forms = messages.map((message) => ({ id: message.id(), fits: ajv.compile(clean(message.payload().json())) }));
  return { address: channel.address(), forms };
});

// The parser adds its own keys to the schemas.
function clean(schema) {
  if (Array.isArray(schema)) return schema.map(clean);
  if (schema === null || typeof schema !== "object") return schema;
  return Object.fromEntries(
    Object.entries(schema).filter(([key]) => !key.startsWith("x-parser-")).map(([key, value]) => [key, clean(value)]),
  );
}

function of(path) {
  const wanted = path.split("?")[0].split("/");
  return channels.find(({ address }) => {
    const parts = address.split("/");
    const fits = (part, n) => part === wanted[n] || (part.startsWith("{") && wanted[n] !== "");
    return parts.length === wanted.length && parts.every(fits);
  });
}

let checked = 0;
let failed = false;
for (const dialect of ["crew", "stream", "hub", "tracking", "forge"]) {
  const folder = join(root, "tests/golden", dialect);
  for (const file of readdirSync(folder)) {
    let channel;
    for (const line of readFileSync(join(folder, file), "utf8").split("\n")) {
      if (line.startsWith("GET ")) channel = of(line.slice(4));
      if (!line.startsWith("< ")) continue;
      const message = JSON.parse(line.slice(2).replaceAll("<seconds>", "1.5"));
      const fitting = channel?.forms.filter(({ fits }) => fits(message)) ?? [];
      fitting.forEach(({ id }) => seen.add(id));
      if (fitting.length > 0) checked += 1;
      else {
        failed = true;
        console.error(`${dialect}/${file}: not in the document: ${line}`);
      }
    }
  }
}
for (const { id } of channels.flatMap(({ forms }) => forms)) {
  if (seen.has(id) || unseen.has(id)) continue;
  failed = true;
  console.error(`no transcript has the message ${id}`);
}
if (failed) process.exit(1);
console.log(JSON.stringify({ addresses: channels.map(({ address }) => address), checked }));

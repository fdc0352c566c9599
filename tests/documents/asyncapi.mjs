// Checks docs/protocols/asyncapi.yaml: that it is valid, and that every server line of the golden transcripts is a message that it
// has for that endpoint, and every message one that a transcript has. Prints the addresses, and how many lines were held against it.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Parser } from "@asyncapi/parser";
import Ajv from "ajv";

const root = fileURLToPath(new URL("../..", import.meta.url));
const { document, diagnostics } = await new Parser().parse(readFileSync(join(root, "docs/protocols/asyncapi.yaml"), "utf8"));
const errors = diagnostics.filter(({ severity }) => severity === 0);
for (const { message, path } of errors) console.error(`${path.join(".")}: ${message}`);
if (errors.length > 0) process.exit(1);

// What the gateway sends on each address.
const ajv = new Ajv({ strict: false });
// What comes only after a time, or when something is away.
const unseen = new Set(["ping", "gap", "skipped", "broker", "reconnect"]);
const seen = new Set();
const channels = document.channels().all().map((channel) => {
  const sends = channel.operations().all().filter((operation) => operation.isSend());
  const messages = sends.flatMap((operation) => operation.messages().all());
  const forms = messages.map((message) => ({ id: message.id(), fits: ajv.compile(clean(message.payload().json())) }));
  return { address: channel.address(), forms };
});

// The parser names schemas in the schemas themselves.
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
    return parts.length === wanted.length && parts.every((part, n) => part === wanted[n] || (part.startsWith("{") && wanted[n] !== ""));
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

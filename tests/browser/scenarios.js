// Scenarios of a browser with a gateway. Each starts with a new browser.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { ask, link, openPage, until } from "./browser.js";

/** The console shows a crew at work, keeps the token to itself, and runs nothing that its policy forbids. */
export async function console_at_work(browser, { gateway, token }) {
  const { page, urls, complaints } = await openPage(browser);
  await page.goto(`${gateway}/ws/client#token=${token}`);

  await until("every crew with a status", async () => {
    const crews = await page.$$eval("#crews .crew", (rows) => rows.map((row) => [row.children[1].textContent, row.dataset.status]));
    return ["atlas", "forge", "relay"].every((name) => crews.some(([crew, status]) => crew === name && status));
  });
  await until("an agent's running call", () => page.$("#agents .card .call[data-state='running']"));
  await until("a call that ended", () => page.$("#agents .card .call:not([data-state='running'])"));
  await until("the boot of a run", () => page.$("#timeline .boot"));
  await until("an agent in the timeline", () => page.$("#timeline .agent"));
  const rows = await page.locator("#log > li").count();
  await until("more events in the log", async () => (await page.locator("#log > li").count()) > rows);
  for (const name of ["mission", "graph"]) assert.equal(await link(page, name, "open"), "live");

  assert.equal(page.url(), `${gateway}/ws/client`, "the token has left the address");
  assert.equal(await page.evaluate(() => history.length <= 2), true, "and has left no entry of its own in the history");
  assert.ok(urls.some((url) => url.startsWith("ws") && url.endsWith("/ws/graph")), `sockets were seen: ${urls}`);
  for (const url of urls.slice(1)) assert.ok(!url.includes(token.slice(-20)), `the token stands in ${url}`);
  // The first request is the page itself. A fragment stays in the browser.
  assert.equal(urls[0].split("#")[0], `${gateway}/ws/client`);
  assert.deepEqual(urls.filter((url) => !url.startsWith("data:") && new URL(url).host !== new URL(gateway).host), []);
  assert.deepEqual(complaints, []);

  await page.reload();
  await link(page, "graph", "open");
  assert.deepEqual(complaints, []);
}

/** Everything can be reached and worked with the keyboard alone. */
export async function keyboard(browser, { gateway, token }) {
  const { page, complaints } = await openPage(browser);
  await page.goto(`${gateway}/ws/client`);
  const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.className);
  const tabTo = async (id) => {
    const passed = [];
    for (let step = 0; step < 40; step += 1) {
      await page.keyboard.press("Tab");
      passed.push(await focused());
      if (passed.at(-1) === id) return passed;
    }
    throw new Error(`Tab never reaches ${id}: ${passed}`);
  };

  assert.deepEqual(await tabTo("token"), ["skip", "token"]);
  await page.keyboard.insertText(token);
  await page.keyboard.press("Enter");
  await link(page, "graph", "open");
  await until("a filter for tool_start", async () => (await page.locator("#types .chip", { hasText: /^tool_start$/ }).count()) === 1);
  await until("a crew", () => page.$("#crews .crew"));
  assert.deepEqual((await tabTo("pause")).slice(0, 2), ["show", "go"]);
  await tabTo("crew");
  await page.keyboard.press("Enter");
  await until("the crew is picked", () => page.$("#crews .crew[aria-pressed='true']"));
  await tabTo("run-id");
  await tabTo("follow");
  const chip = await tabTo("chip");
  assert.ok(chip.length > 0);
  const type = await page.evaluate(() => document.activeElement.textContent);
  await page.keyboard.press("Space");
  await until(`${type} is hidden`, async () => {
    const shown = await page.$$eval("#log .type", (types) => types.map((node) => node.textContent));
    return !shown.includes(type) && (await page.textContent("#events-note")).includes("1 type hidden");
  });
  // In the token field, p is a letter. Elsewhere, p pauses the page.
  await page.keyboard.press("p");
  assert.equal(await page.getAttribute("#pause", "aria-pressed"), "true");
  const before = await page.locator("#log > li").count();
  await page.focus("#token");
  await page.keyboard.press("p");
  assert.equal(await page.getAttribute("#pause", "aria-pressed"), "true");
  assert.equal(await page.locator("#log > li").count(), before);
  assert.deepEqual(complaints, []);
}

/** A bad token is refused in words that say what to do, and is not tried again. */
export async function bad_token(browser, { gateway, token }) {
  const { page, urls, complaints } = await openPage(browser);
  const forged = `${token.slice(0, -8)}AAAAAAAA`;
  await page.goto(`${gateway}/ws/client#token=${forged}`);
  for (const name of ["mission", "graph"]) {
    const words = await link(page, name, "refused");
    assert.match(words, /^4401 .*token/);
    assert.ok(!words.includes(forged.slice(-20)), words);
  }
  const opened = urls.filter((url) => url.startsWith("ws")).length;
  assert.equal(opened, 2, "one attempt for each socket");

  await page.fill("#token", "no token (at all)");
  await page.press("#token", "Enter");
  await until("it is refused by the page itself", async () => (await page.textContent("#who")).includes("not a token"));

  // A valid token works without a reload.
  await page.fill("#token", token);
  await page.press("#token", "Enter");
  await link(page, "graph", "open");
  assert.deepEqual(complaints, []);
}

/** What a producer writes is text, in every field that the page shows. */
export async function markup_is_text(browser, { gateway, token }) {
  const { page, urls, complaints } = await openPage(browser);
  await page.addInitScript(() => {
    window.ran = [];
  });
  await page.goto(`${gateway}/ws/client#token=${token}`);
  await link(page, "graph", "open");
  await link(page, "mission", "open");

  const evil = (where) => `<img src="x-${where}" onerror="window.ran.push('${where}')"><script>window.ran.push('${where}')</script>`;
  const tool = { crew_id: "abc", run_id: "r1", agent_id: evil("agent"), tool: evil("tool") };
  const run = { run_id: "r1", crew_id: evil("run-crew") };
  // An object that throws when a script uses it as a string.
  const trap = { toString: 1, valueOf: 1 };
  const events = [
    ["graph:abc", { type: "tool_start", ...tool, params: { [evil("key")]: evil("param") } }],
    ["graph:abc", { type: "tool_progress", ...tool, message: evil("message"), progress: 0.5 }],
    ["graph:abc", { type: "tool_start", ...tool, crew_id: evil("crew"), run_id: evil("run"), agent_id: "other", params: evil("params") }],
    ["graph:abc", { type: evil("type").replaceAll('"', "'"), agent_id: { toString: evil("object") } }],
    ["graph:abc", { type: "tool_end", crew_id: trap, run_id: trap, agent_id: trap, tool: trap, status: trap, duration_s: trap, exit_code: trap, timestamp: trap }],
    ["graph:abc", { type: "tool_progress", message: trap, progress: trap, params: trap }],
    ["mission:abc", { type: "signal", payload: trap }],
    ["mission:abc", { type: "signal", payload: { status: trap, crewId: trap } }],
    ["mission:abc", { type: "signal", payload: { status: "busy", crewId: evil("signal") } }],
    ["run:r1", { type: "boot", ...run, inputs: { a: evil("inputs") } }],
    ["run:r1", { type: "agent_start", ...run, agent: evil("run-agent") }],
    ["run:r1", { type: "task_start", ...run, task: evil("task"), agent_id: evil("task-agent") }],
    ["run:r1", { type: "agent_end", ...run, agent: trap, status: trap, duration_s: trap, output: trap }],
    ["run:r1", { type: "task_end", ...run, task: trap, status: trap, timestamp: trap }],
    ["run:r1", { type: "boot", ...run, crew_id: trap, inputs: trap }],
    ["run:r1", { type: "error", ...run, message: trap, code: trap, fatal: trap }],
    ["run:r1", { type: "error", ...run, message: evil("error"), code: evil("code") }],
    ["run:r1", { type: "done", ...run, status: evil("status"), output: evil("output"), duration_s: 1 }],
  ];
  for (const [channel, event] of events) {
    const answer = await fetch(`${gateway}/api/v1/publish`, {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: JSON.stringify({ channel, event }),
    });
    assert.equal(answer.status, 200, await answer.text());
  }

  const shows = (selector, where) =>
    until(`${where} in ${selector}`, async () => (await page.textContent(selector)).includes(`<img src="x-${where}"`));
  for (const where of ["agent", "tool", "message", "crew", "run", "params"]) await shows("#agents", where);
  await shows("#crews", "signal");
  for (const where of ["run-crew", "inputs", "run-agent", "task", "task-agent", "error", "code", "status", "output"]) {
    await shows("#timeline", where);
  }
  await shows("#log", "key");
  // Open every line, so that the JSON is on the page, too.
  const lines = await page.locator("#log summary").count();
  for (let line = 0; line < lines; line += 1) await page.locator("#log summary").nth(line).click();
  await until("the JSON of every line", async () => (await page.locator("#log pre").count()) === lines);

  assert.deepEqual(await page.evaluate(() => window.ran), []);
  assert.equal(await page.locator("main img, main script").count(), 0);
  assert.deepEqual(urls.filter((url) => url.includes("x-")), [], "no picture was asked for");
  assert.deepEqual(complaints, []);
}

/** Parallel calls of one tool by one agent keep their own progress and end, also where a producer writes no id. */
export async function parallel_calls(browser, { gateway, token }) {
  const { page, complaints } = await openPage(browser);
  await page.goto(`${gateway}/ws/client#token=${token}`);
  await link(page, "graph", "open");
  const publish = async (type, fields) => {
    const event = { type, crew_id: "abc", run_id: "r1", agent_id: "a1", tool: "search", ...fields };
    const answer = await fetch(`${gateway}/api/v1/publish`, {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: JSON.stringify({ channel: "graph:abc", event }),
    });
    assert.equal(answer.status, 200, await answer.text());
  };
  const names = ["one", "two", "three", "four", "five"];
  for (const name of names) await publish("tool_start", { call_id: name, params: { q: name } });
  await publish("tool_start", { params: { q: "unnamed" } });
  for (const name of names) await publish("tool_progress", { call_id: name, message: `reads ${name}` });
  await publish("tool_progress", { message: "reads unnamed" });
  const calls = () => page.$$eval("#agents .call", (rows) =>
    rows.map((row) => `${row.title || "call"} ${row.dataset.state}: ${row.querySelector(".detail").textContent}`).sort());
  const shown = async (expected) => {
    await until(`the calls ${expected.join(", ")}`, async () => (await calls()).join() === [...expected].sort().join());
  };
  const running = (name) => `call ${name} running: reads ${name}`;
  await shown([...names.map(running), "call running: reads unnamed"]);

  await publish("tool_end", { call_id: "two", status: "error", exit_code: 2 });
  await publish("tool_end", { status: "success" });
  const ended = page.locator("#agents .call[data-state='error'] .detail");
  await until("the end of the second call", async () => (await ended.count()) === 1 && /two/.test(await ended.textContent()));
  await until("the end of the call without an id", async () => (await page.locator("#agents .call[data-state='success']").count()) === 1);
  assert.deepEqual((await calls()).filter((call) => call.includes(" running: ")), ["five", "four", "one", "three"].map(running));
  assert.equal(await page.textContent("#agents .tally"), "2 calls, 1 failed");
  assert.deepEqual(complaints, []);
}

/** The gateway goes away and comes back: the page says so and shows what happens then. */
export async function gateway_restarts(browser, { gateway, token }) {
  const { page } = await openPage(browser);
  await page.goto(`${gateway}/ws/client#token=${token}`);
  await link(page, "graph", "open");
  await link(page, "mission", "open");
  await until("an event", () => page.$("#log > li"));
  await ask("kill");
  for (const name of ["graph", "mission"]) assert.match(await link(page, name, "waiting"), /reconnecting/);
  await ask("start");
  for (const name of ["graph", "mission"]) assert.equal(await link(page, name, "open"), "live");
  const newest = () => page.textContent("#log > li:first-child");
  const last = await newest();
  await until("a newer event", async () => (await newest()) !== last);
  // A drain tells the page to reconnect, and the next gateway accepts it.
  await ask("drain");
  await link(page, "graph", "open");
  const shown = await newest();
  await until("a newer event", async () => (await newest()) !== shown);
}

/** Opens a socket with the browser's own WebSocket, reads until it closes or `events` came, and tells what happened. */
async function socket(page, url, protocols) {
  return page.evaluate(([url, protocols]) => new Promise((resolve) => {
    const seen = { opened: false, protocol: null };
    const ws = protocols === undefined ? new WebSocket(url) : new WebSocket(url, protocols);
    ws.onopen = () => Object.assign(seen, { opened: true, protocol: ws.protocol, extensions: ws.extensions });
    ws.onmessage = (message) => {
      resolve({ ...seen, message: message.data });
      ws.close();
    };
    ws.onclose = (close) => resolve({ ...seen, code: close.code, reason: close.reason, clean: close.wasClean });
  }), [url, protocols]);
}

/** What the handshake looks like to the browser's own WebSocket. */
export async function own_websocket(browser, { gateway, token }) {
  const { page } = await openPage(browser);
  await page.goto(`${gateway}/ws/client`);
  const mission = `${gateway.replace("http", "ws")}/ws/mission`;

  const good = await socket(page, mission, ["token", token]);
  assert.equal(good.protocol, "token", "the answer selects `token`, never the JWT");
  assert.match(good.extensions, /^permessage-deflate;/, "browsers offer compression by themselves");
  assert.equal(JSON.parse(good.message).type, "signal");

  const refusals = [
    ["forged", ["token", `${token.slice(0, -8)}AAAAAAAA`], "token"],
    ["not a token", ["token", "garbage"], "token"],
    ["`token` without a token", ["token"], "token"],
    ["none", undefined, ""],
  ];
  for (const [what, protocols, selected] of refusals) {
    const refused = await socket(page, mission, protocols);
    const { opened, protocol, code, clean, reason } = refused;
    assert.deepEqual({ opened, protocol, code, clean }, { opened: true, protocol: selected, code: 4401, clean: true }, what);
    assert.match(reason, /token/, what);
    assert.ok(!protocols?.[1] || !reason.includes(protocols[1]), `${what}: ${reason}`);
  }
  const elsewhere = await socket(page, `${gateway.replace("http", "ws")}/ws/nowhere`, ["token", token]);
  assert.equal(elsewhere.code, 4404);
}

/** A page that a development server serves on another port: its sockets, event streams and requests. */
export async function another_port(browser, { gateway, token }) {
  const elsewhere = createServer((_request, response) => response.end("<!doctype html><title>elsewhere</title>"));
  await new Promise((resolve) => elsewhere.listen(0, "127.0.0.1", resolve));
  const { page } = await openPage(browser);
  await page.goto(`http://127.0.0.1:${elsewhere.address().port}/`);
  const seen = await page.evaluate(async ([gateway, token]) => {
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/json", traceparent: "00-x-y-01" };
    const post = async (path, body) => {
      const options = { method: "POST", headers, body: JSON.stringify(body) };
      return (await fetch(`${gateway}${path}`, options)).json();
    };
    const next = (source) => new Promise((resolve, reject) => {
      source.onmessage = (message) => resolve(JSON.parse(message.data));
      source.addEventListener("from_elsewhere", source.onmessage);
      source.onerror = source.onclose = (event) => reject(new Error(event.reason || "refused"));
    });
    const event = { type: "from_elsewhere", crew_id: "abc" };
    const { ids } = await post("/api/v1/publish", { channel: "graph:abc", event });
    const { ticket } = await post("/api/v1/tickets");
    const stream = new EventSource(`${gateway}/sse?channel=graph:abc&since=0&ticket=${ticket}`);
    const socket = new WebSocket(`${gateway.replace("http", "ws")}/ws/graph/abc?since=0`, ["token", token]);
    const types = await Promise.all([next(stream), next(socket)]);
    stream.close();
    return { ids, types: types.map(({ type }) => type) };
  }, [gateway, token]);
  assert.equal(seen.ids.length, 1, "fetch");
  assert.deepEqual(seen.types, ["from_elsewhere", "from_elsewhere"], "an event stream and a socket");
  elsewhere.close();
}

/** A page of another origin: refused where origins are listed, in development too, and taken where they are not. */
export async function foreign_origin(browser, { gateway, token }) {
  const foreign = createServer((_request, response) => response.end("<!doctype html><title>foreign</title>"));
  await new Promise((resolve) => foreign.listen(0, "127.0.0.1", resolve));
  const { page } = await openPage(browser);
  await page.goto(`http://127.0.0.1:${foreign.address().port}/`);
  const sockets = (base) => `${base.replace("http", "ws")}/ws/mission`;

  const listed = await socket(page, sockets(gateway), ["token", token]);
  assert.deepEqual([listed.opened, listed.protocol, listed.code, listed.clean], [true, "token", 4403, true], JSON.stringify(listed));
  const { origin } = new URL(page.url());
  assert.equal(listed.reason, `origin ${origin} is not allowed: add it to auth.allowed_origins`);
  const open = await socket(page, sockets(process.env.OPEN_GATEWAY), ["token", token]);
  assert.equal(JSON.parse(open.message).type, "signal", "without a list a token may come from anywhere");

  await page.goto(`${gateway}/ws/client`);
  const own = await socket(page, sockets(gateway), ["token", token]);
  assert.equal(JSON.parse(own.message).type, "signal", "the gateway's own page is always welcome");
  foreign.close();
}

/** Two pages with one client id, each of which opens its socket twice as React's StrictMode does: all stay connected. */
export async function one_client_id(browser, { gateway }) {
  const url = `${gateway.replace("http", "ws")}/ws/agent-tracking/client-1`;
  const pages = [];
  for (let n = 0; n < 2; n += 1) {
    const { page } = await openPage(browser);
    await page.goto(`${gateway}/ws/client`);
    await page.evaluate((url) => {
      window.sockets = [new WebSocket(url), new WebSocket(url)];
      window.lists = [0, 0];
      window.closes = [];
      window.sockets.forEach((ws, index) => {
        ws.onmessage = (message) => { if (JSON.parse(message.data).type === "active_sessions") window.lists[index] += 1; };
        ws.onclose = (close) => window.closes.push(close.code);
      });
    }, url);
    pages.push(page);
    await until("both sockets have the list", () => page.evaluate(() => window.lists.every((count) => count > 0)));
  }
  // An answer to a request shows that the socket still lives: a takeover would have closed it before.
  for (const page of pages) {
    const answers = await page.evaluate(() => Promise.all(window.sockets.map((ws) => new Promise((resolve) => {
      ws.addEventListener("message", (message) => resolve(JSON.parse(message.data).code));
      ws.addEventListener("close", (close) => resolve(close.code));
      if (ws.readyState !== WebSocket.OPEN) resolve(ws.readyState);
      ws.send(JSON.stringify({ type: "get_session_state", session_id: "nobodys" }));
    }))));
    assert.deepEqual(answers, ["unknown_session", "unknown_session"]);
    assert.deepEqual(await page.evaluate(() => window.closes), []);
  }
}

// The page: missions, tools and one run as lists.

import { useGraphSocket, useMissionSocket, useRunStream } from "./hooks.js";

const { createElement: h, StrictMode } = React;
const query = new URLSearchParams(location.search);
const [url, token] = [query.get("gateway"), query.get("token")];

function List({ rows }) {
  return h("ul", null, rows.map((row, index) => h("li", { key: `${index} ${row}` }, row)));
}

function App() {
  const { signals } = useMissionSocket(url, token);
  const tools = useGraphSocket(url, token, "abc");
  const run = useRunStream(url, token, "r1");
  return h("main", null,
    h(List, { rows: signals.map(({ crewId, status }) => `mission ${crewId} ${status}`) }),
    h(List, { rows: tools.map(({ type, tool }) => `graph ${type} ${tool}`) }),
    h(List, { rows: run.events.map(({ type }) => `run ${type}`) }),
    h(List, { rows: [`state ${run.status}`] }),
  );
}

const app = h(App);
ReactDOM.createRoot(document.getElementById("root")).render(query.get("strict") ? h(StrictMode, null, app) : app);

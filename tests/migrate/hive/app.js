// The dashboard: every event, and a button that shows failures only.

import { useAgentStream } from "./hook.js";

const { createElement: h, StrictMode, useEffect, useState } = React;
const query = new URLSearchParams(location.search);
const FAILURES = { event_types: ["EXECUTION_FAILED"] };

function App() {
  const [filter, setFilter] = useState({});
  const { events, status } = useAgentStream(`${query.get("gateway")}/ws/stream`, query.get("token"), filter);
  useEffect(() => {
    // The test presses the button of a page with `narrow=1` once events come.
    if (query.get("narrow") && events.length > 0) setFilter(FAILURES);
  }, [events.length > 0]);
  const rows = events.map(({ channel, event }) => `${channel} ${event.type} ${event.execution_id}`);
  return h("main", null,
    h("ul", null, [`state ${status}`].map((row) => h("li", { key: row }, row))),
    h("ul", null, rows.map((row, index) => h("li", { key: index }, row))),
    h("button", { onClick: () => setFilter(FAILURES) }, "failures only"),
  );
}

const app = h(App);
ReactDOM.createRoot(document.getElementById("root")).render(query.get("strict") ? h(StrictMode, null, app) : app);

// The page: one session, and everything that its agents do. The client id is kept in the address.

import { useAgentTracking } from "./hook.js";

const { createElement: h, StrictMode } = React;
const query = new URLSearchParams(location.search);

function App() {
  const rows = useAgentTracking(query.get("gateway"), query.get("client"), "s1");
  return h("ul", null, rows.map((row, index) => h("li", { key: index }, row)));
}

const app = h(App);
ReactDOM.createRoot(document.getElementById("root")).render(query.get("strict") ? h(StrictMode, null, app) : app);

// The connections of a dashboard: one socket per endpoint, a text `ping` every 30 s, and a reconnect after each close. It
// runs in the browser and in Node with the package `ws`.

const ENDPOINTS = ["agents", "tasks", "knowledge", "metrics", "dashboard"];

const SUBJECT = ({ task_id, agent_id, node_id, source }) => task_id ?? agent_id ?? node_id ?? source ?? "";

/** What the dashboard shows of each message. */
function words(endpoint, { type, data }) {
  if (type === "pong") return `pong ${endpoint}`;
  if (endpoint === "metrics") return `metrics ${Object.keys(data).sort().join(" ")}`;
  if (endpoint === "dashboard") return `dashboard ${JSON.stringify(data.agents.by_status)} events ${data.events.length}`;
  if (type === "snapshot") return `${endpoint} snapshot`;
  return `${endpoint} ${type} ${SUBJECT(data)}`;
}

function connect(url, endpoint, show, Socket) {
  const socket = new Socket(`${url}/ws/${endpoint}`);
  let ping;
  socket.onopen = () => {
    socket.send("ping");
    ping = setInterval(() => socket.send("ping"), 30_000);
  };
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.type !== "ping") show(words(endpoint, message));
  };
  socket.onclose = () => {
    clearInterval(ping);
    setTimeout(() => connect(url, endpoint, show, Socket), 3000);
  };
}

export function openDashboard(url, show, Socket = WebSocket) {
  for (const endpoint of ENDPOINTS) connect(url, endpoint, show, Socket);
}

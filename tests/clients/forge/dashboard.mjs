// A dashboard page: shows the snapshot, changes as they come, and the counts at intervals.
// node --experimental-websocket dashboard.mjs <token> <base url>
const [token, base] = process.argv.slice(2);
const agents = new Map();

function connect(path, take) {
  const socket = new WebSocket(base + path, ["token", token]);
  socket.onopen = () => socket.send(JSON.stringify({ type: "ping" }));
  socket.onmessage = (frame) => take(JSON.parse(frame.data));
  socket.onclose = () => setTimeout(() => connect(path, take), 100);
}

connect("/ws/agents", ({ type, data }) => {
  if (type === "snapshot") {
    agents.clear();
    for (const [id, agent] of Object.entries(data)) agents.set(id, agent.status);
  } else if (type === "agent_created") agents.set(data.agent_id, data.status);
  else if (type === "status_changed") agents.set(data.agent_id, data.new_status);
  else if (type === "agent_deleted") agents.delete(data.agent_id);
  else return console.log(type);
  console.log(`agents ${JSON.stringify(Object.fromEntries(agents))}`);
});
connect("/ws/dashboard", ({ type, data }) => {
  if (type === "dashboard") console.log(`dashboard ${JSON.stringify(data.agents.by_status)}`);
});

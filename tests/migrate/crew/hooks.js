// The hooks of a mission control page. The URL comes from the page.

const { useEffect, useState } = React;
const RECONNECT_DELAY = 2000;
const MAX_RECONNECTS = 3;

/** The newest status of each crew, and every signal. */
export function useMissionSocket(url, token) {
  const [crews, setCrews] = useState({});
  const [signals, setSignals] = useState([]);
  useEffect(() => {
    const socket = new WebSocket(`${url}/ws/mission`, ["token", token]);
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === "ping") return socket.send(JSON.stringify({ type: "pong" }));
      if (message.type !== "signal") return;
      const { crewId, status } = message.payload;
      setCrews((crews) => ({ ...crews, [crewId]: status }));
      setSignals((signals) => [...signals, message.payload]);
    };
    return () => socket.close(1000);
  }, [url, token]);
  return { crews, signals };
}

/** The tool calls of a crew. */
export function useGraphSocket(url, token, crewId) {
  const [events, setEvents] = useState([]);
  useEffect(() => {
    const socket = new WebSocket(`${url}/ws/graph?crew_id=${crewId}`, ["token", token]);
    socket.onmessage = ({ data }) => {
      const event = JSON.parse(data);
      if (event.type === "ping") return socket.send(JSON.stringify({ type: "pong" }));
      setEvents((events) => [...events, event]);
    };
    return () => socket.close(1000);
  }, [url, token, crewId]);
  return events;
}

/** The events of a run. Connects again after 2 s, at most three times, unless the run is over or access was refused. */
export function useRunStream(url, token, runId) {
  const [events, setEvents] = useState([]);
  const [status, setStatus] = useState("connecting");
  useEffect(() => {
    let socket;
    let timer;
    let attempts = 0;
    const connect = () => {
      socket = new WebSocket(`${url}/ws/runs/${runId}`, ["token", token]);
      socket.onopen = () => setStatus("connected");
      socket.onmessage = ({ data }) => {
        attempts = 0;
        setEvents((events) => [...events, JSON.parse(data)]);
      };
      socket.onclose = ({ code, reason }) => {
        if (code === 1000) return setStatus("completed");
        if (code >= 4400) return setStatus(`refused: ${code} ${reason}`);
        if (attempts++ === MAX_RECONNECTS) return setStatus("lost");
        setStatus("reconnecting");
        timer = setTimeout(connect, RECONNECT_DELAY);
      };
    };
    connect();
    return () => {
      clearTimeout(timer);
      socket.onclose = null;
      socket.close(1000);
    };
  }, [url, token, runId]);
  return { events, status };
}

// The hook of a dashboard: sends its token first, subscribes once that is accepted, and subscribes again when the page's
// filter changes. The URL comes from the page.

const { useEffect, useRef, useState } = React;

export function useAgentStream(url, token, filter) {
  const [events, setEvents] = useState([]);
  const [status, setStatus] = useState("connecting");
  const socket = useRef(null);
  const latest = useRef(filter);
  latest.current = filter;

  const subscribe = () => socket.current.send(JSON.stringify({ action: "subscribe", ...latest.current }));

  useEffect(() => {
    let timer;
    let stopped = false;
    const connect = () => {
      socket.current = new WebSocket(url);
      socket.current.onopen = () => socket.current.send(JSON.stringify({ action: "auth", token }));
      socket.current.onmessage = ({ data }) => {
        const message = JSON.parse(data);
        if (message.type === "authenticated") subscribe();
        else if (message.type === "subscribed") setStatus(`subscribed ${(message.event_types ?? ["all"]).join()}`);
        else if (message.type === "event") setEvents((events) => [...events, message]);
      };
      socket.current.onclose = ({ code, reason }) => {
        if (stopped) return;
        if (code === 1008) return setStatus(`refused ${reason}`);
        setStatus("reconnecting");
        timer = setTimeout(connect, 3000);
      };
    };
    connect();
    return () => {
      stopped = true;
      clearTimeout(timer);
      socket.current.close();
    };
  }, [url, token]);

  const key = JSON.stringify(filter);
  useEffect(() => {
    if (socket.current?.readyState === WebSocket.OPEN) subscribe();
  }, [key]);
  return { events, status };
}

// A dashboard's hook with nothing but the browser's WebSocket: sends its token, subscribes, and after a cut resumes after
// the last id of each channel.
//
// node --experimental-websocket dashboard.js <url> <token> <events>: prints what it received as one JSON object.

function useStreams({ url, token, types, onEvent, onNews }) {
  const positions = new Map();
  let socket;
  let closed = false;

  function subscribe() {
    const filter = types ? { event_types: types } : {};
    if (positions.size === 0) return [{ action: "subscribe", ...filter }];
    return [...positions].map(([channel, id]) => ({ action: "subscribe", channel, since: id ?? "0", ...filter }));
  }

  function connect() {
    socket = new WebSocket(url);
    socket.onopen = () => {
      for (const message of [{ action: "auth", token }, ...subscribe()]) socket.send(JSON.stringify(message));
    };
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === "event") {
        if (message.id) positions.set(message.channel, message.id);
        onEvent(message);
      } else {
        for (const [channel, id] of Object.entries(message.position ?? {})) positions.set(channel, id);
        onNews(message);
      }
    };
    socket.onclose = ({ code, reason }) => {
      onNews({ type: "closed", code, reason });
      if (!closed && code !== 1008) setTimeout(connect, 50);
    };
  }

  connect();
  return {
    cut: () => socket.close(),
    end: () => {
      closed = true;
      socket.close();
    },
  };
}

const [url, token, wanted] = process.argv.slice(2);
const seen = { events: [], news: [] };
const streams = useStreams({
  url,
  token,
  onEvent: ({ channel, event }) => {
    seen.events.push(`${channel} ${event.type} ${event.n}`);
    // The test waits for this output.
    console.error(`event ${seen.events.length}`);
    if (seen.events.length === 2) streams.cut();
    if (seen.events.length >= Number(wanted)) streams.end();
  },
  onNews: (message) => {
    seen.news.push(message.type);
    if (message.type === "subscribed") console.error("subscribed");
    if (message.code === 1008 || seen.events.length >= Number(wanted)) {
      console.log(JSON.stringify({ ...seen, code: message.code, reason: message.reason }));
    }
  },
});

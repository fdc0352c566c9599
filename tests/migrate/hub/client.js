// The client class of a hive's page: handlers by type, and the highest sequence, so that nothing is handled twice. It
// runs in the browser and in Node with the package `ws`.

export class HiveClient {
  constructor(url, Socket = WebSocket) {
    Object.assign(this, { url, Socket, sequence: 0, handlers: new Map(), attempts: 0 });
  }

  on(type, handler) {
    this.handlers.set(type, handler);
    return this;
  }

  connect() {
    this.socket = new this.Socket(this.url);
    this.socket.onopen = () => {
      this.attempts = 0;
      this.ping = setInterval(() => this.socket.send(JSON.stringify({ type: "ping" })), 30_000);
      this.socket.send(JSON.stringify({ type: "ping" }));
    };
    this.socket.onmessage = ({ data }) => this.take(JSON.parse(data));
    this.socket.onclose = ({ code, reason }) => {
      clearInterval(this.ping);
      this.handlers.get("close")?.({ code, reason });
      if (code < 4400) setTimeout(() => this.connect(), Math.min(30_000, 1000 * 2 ** this.attempts++));
    };
    return this;
  }

  take(message) {
    if (message.type === "pong") return this.handlers.get("pong")?.(message);
    if (!(message.sequence > this.sequence)) return;
    this.sequence = message.sequence;
    (this.handlers.get(message.type) ?? this.handlers.get("*"))?.(message.data, message);
  }
}

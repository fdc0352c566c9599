// The connection manager of a session page: one socket per client id, handlers by type, and a reconnect after each close
// that the page did not ask for. It runs in the browser and in Node with the package `ws`.

const RECONNECT_DELAY = 1000;
const MAX_ATTEMPTS = 5;

export class TrackingManager {
  constructor(url, clientId, Socket = WebSocket) {
    Object.assign(this, { url, clientId, Socket, handlers: new Map(), attempts: 0, wanted: false });
  }

  on(type, handler) {
    this.handlers.set(type, handler);
    return this;
  }

  connect() {
    this.wanted = true;
    const socket = new this.Socket(`${this.url}/ws/agent-tracking/${this.clientId}`);
    this.socket = socket;
    socket.onopen = () => {
      this.attempts = 0;
      this.emit("open", {});
    };
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === "ping") return this.send({ type: "pong" });
      this.emit(message.type, message);
    };
    socket.onclose = ({ code, reason }) => {
      if (socket !== this.socket || !this.wanted) return;
      this.emit("close", { code, reason });
      if (this.attempts++ < MAX_ATTEMPTS) this.timer = setTimeout(() => this.connect(), RECONNECT_DELAY);
    };
    return this;
  }

  disconnect() {
    this.wanted = false;
    clearTimeout(this.timer);
    this.socket.close();
  }

  send(message) {
    if (this.socket.readyState === this.Socket.OPEN) this.socket.send(JSON.stringify(message));
  }

  /** Shows a session: its state, its log so far, and its log as it grows. */
  openSession(sessionId) {
    this.send({ type: "get_session_state", session_id: sessionId });
    this.send({ type: "get_session_logs", session_id: sessionId });
    this.send({ type: "start_log_streaming", session_id: sessionId });
  }

  emit(type, message) {
    this.handlers.get(type)?.(message);
  }
}

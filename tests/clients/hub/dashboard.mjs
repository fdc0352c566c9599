// A dashboard page's connection with the browser's own WebSocket: handlers by type, and resuming after the last message
// at whichever address answers.
//
// node --experimental-websocket dashboard.mjs <jwt> <address>…: prints the sequence and type of each event as a line.

class Dashboard {
  #since = null;
  #attempt = 0;
  #handlers = new Map();

  constructor(addresses, jwt) {
    this.addresses = addresses;
    this.jwt = jwt;
  }

  on(type, handler) {
    this.#handlers.set(type, handler);
    return this;
  }

  connect() {
    const address = new URL(this.addresses[this.#attempt % this.addresses.length]);
    if (this.#since !== null) address.searchParams.set("since", this.#since);
    const socket = new WebSocket(address, ["token", this.jwt]);
    socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
    socket.onclose = ({ code }) => {
      if ([1000, 4401, 4403].includes(code)) return;
      this.#attempt += 1;
      setTimeout(() => this.connect(), 50 + Math.random() * 100);
    };
  }

  #take(message) {
    if (message.source !== "gateway" && message.message_id) this.#since = message.message_id;
    this.#handlers.get(message.type)?.(message.data, message);
  }
}

const [jwt, ...addresses] = process.argv.slice(2);
const show = (_data, { sequence, type }) => console.log(`${sequence} ${type}`);
new Dashboard(addresses, jwt).on("task_started", show).on("task_completed", show).connect();

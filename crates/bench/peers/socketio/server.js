// A typical gateway with Socket.IO and its Redis adapter: a client names the room to join when it connects.
//
// Environment: PORT, REDIS_URL.
import { createServer } from "node:http";
import { createAdapter } from "@socket.io/redis-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";

const url = process.env.REDIS_URL ?? "redis://127.0.0.1:6379";
const port = Number(process.env.PORT ?? 3000);
const publisher = createClient({ url });
const subscriber = publisher.duplicate();
await Promise.all([publisher.connect(), subscriber.connect()]);

const http = createServer();
const io = new Server(http, {
  transports: ["websocket"],
  perMessageDeflate: false,
  httpCompression: false,
  serveClient: false,
  adapter: createAdapter(publisher, subscriber),
});
// Drop the request of the handshake, which costs memory for each socket.
io.engine.on("connection", (socket) => {
  socket.request = null;
});
io.on("connection", (socket) => {
  const { room } = socket.handshake.auth;
  if (typeof room === "string") {
    socket.join(room);
  }
});
http.listen(port, "127.0.0.1");

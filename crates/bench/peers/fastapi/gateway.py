"""A typical gateway with FastAPI and redis-py: a socket per viewer, and one Redis subscription per channel.

Environment: REDIS_URL. With JWT_SECRET (HS256), clients pass a token as the second WebSocket subprotocol, after
`token`.
"""

import asyncio
import os
from contextlib import asynccontextmanager

import jwt
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from redis.asyncio import Redis

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")
JWT_SECRET = os.environ.get("JWT_SECRET")
POLICY_VIOLATION = 1008


class Channel:
    """A Redis channel and its sockets."""

    def __init__(self) -> None:
        self.sockets: set[WebSocket] = set()
        self.subscribed = asyncio.Event()


class Manager:
    """Subscribes to each channel once, and sends what is published there to its sockets."""

    def __init__(self, redis: Redis) -> None:
        self.pubsub = redis.pubsub()
        self.channels: dict[str, Channel] = {}

    async def join(self, name: str, socket: WebSocket) -> None:
        channel = self.channels.get(name)
        if channel is None:
            channel = self.channels[name] = Channel()
            channel.sockets.add(socket)
            await self.pubsub.subscribe(name)
        else:
            channel.sockets.add(socket)
        await channel.subscribed.wait()

    async def leave(self, name: str, socket: WebSocket) -> None:
        channel = self.channels[name]
        channel.sockets.discard(socket)
        if not channel.sockets:
            del self.channels[name]
            await self.pubsub.unsubscribe(name)

    async def run(self) -> None:
        await self.pubsub.connect()
        while True:
            message = await self.pubsub.get_message(timeout=None)
            if message is None:
                continue
            channel = self.channels.get(message["channel"])
            if channel is None:
                continue
            if message["type"] == "message":
                await self.broadcast(channel, message["data"])
            elif message["type"] == "subscribe":
                channel.subscribed.set()

    async def broadcast(self, channel: Channel, text: str) -> None:
        # One after the other: asyncio.gather makes a task of each send, which takes half as long again.
        for socket in tuple(channel.sockets):
            try:
                await socket.send_text(text)
            except (WebSocketDisconnect, RuntimeError):
                channel.sockets.discard(socket)


@asynccontextmanager
async def lifespan(app: FastAPI):
    async with Redis.from_url(REDIS_URL, decode_responses=True) as redis:
        app.state.manager = Manager(redis)
        reader = asyncio.create_task(app.state.manager.run())
        yield
        reader.cancel()


app = FastAPI(lifespan=lifespan)


def token_of(socket: WebSocket) -> tuple[str | None, str | None]:
    """The subprotocol to select and the token: `Sec-WebSocket-Protocol: token, <jwt>`."""
    offered = socket.scope.get("subprotocols", [])
    if len(offered) == 2 and offered[0] == "token":
        return "token", offered[1]
    return None, None


@app.websocket("/ws/graph/{crew}")
async def graph(socket: WebSocket, crew: str) -> None:
    subprotocol, token = token_of(socket)
    if JWT_SECRET is not None:
        try:
            jwt.decode(token or "", JWT_SECRET, algorithms=["HS256"])
        except jwt.InvalidTokenError:
            await socket.close(POLICY_VIOLATION)
            return

    manager: Manager = socket.app.state.manager
    name = f"graph:{crew}"
    await socket.accept(subprotocol)
    try:
        await manager.join(name, socket)
        await socket.send_text('{"type":"connected"}')
        async for _ in socket.iter_text():
            pass
    finally:
        await manager.leave(name, socket)

//! Revoked tokens are closed on every replica within a second and refused from then on.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    command,
    gateway::{self, Gateway, client},
    http::{get, problem, ticket},
    redis::RedisServer,
    socket::{Socket, connect},
    sse::EventStream,
    token::{now, token},
};

/// The time within which a revocation takes effect.
const SOON: Duration = Duration::from_secs(1);

/// Every kind of open reader that a token can have on one replica.
struct Readers {
    sockets: Vec<Socket>,
    stream: EventStream,
}

impl Readers {
    /// Opens the readers and waits until each receives events.
    async fn new(gateway: &Gateway, token: &str) -> Self {
        let mut sockets = Vec::new();
        for path in ["/ws/graph/abc?since=0", "/ws/runs/r1"] {
            let mut socket = connect(&gateway.ws(path), Some(token)).await;
            assert_eq!(socket.event().await["said"], "hello", "{path}");
            sockets.push(socket);
        }
        let mut missions = connect(&gateway.ws("/ws/mission"), Some(token)).await;
        assert_eq!(missions.event().await["payload"]["status"], "offline");
        sockets.push(missions);
        let mut graphs = connect(&gateway.ws("/ws/graph"), Some(token)).await;
        assert!(graphs.is_quiet().await);
        sockets.push(graphs);
        let request = client().get(gateway.url("/sse?channel=graph:abc&since=0")).bearer_auth(token);
        let mut stream = EventStream::open(request).await;
        assert_eq!(stream.event().await.json()["said"], "hello");
        Self { sockets, stream }
    }

    /// Asserts that all readers end with the right reason.
    async fn are_closed(&mut self) {
        for socket in &mut self.sockets {
            assert_eq!(socket.closed().await, (4401, "token revoked".to_owned()));
        }
        let last = self.stream.next().await.expect("the reason for the end");
        assert_eq!((last.kind.as_str(), &last.json()["code"]), ("error", &json!("unauthorized")));
        assert!(self.stream.next().await.is_none());
    }

    /// Asserts that all readers are open: they receive an event that is published now.
    async fn are_open(&mut self, redis: &RedisServer) {
        for channel in ["graph:abc", "run:r1", "mission:abc"] {
            redis.publish(channel, br#"{"type":"x","said":"still there"}"#);
        }
        for socket in &mut self.sockets {
            assert_eq!(socket.event().await["said"], "still there");
        }
        assert_eq!(self.stream.event().await.json()["said"], "still there");
    }
}

struct World {
    redis: RedisServer,
    replicas: Vec<Gateway>,
}

impl World {
    async fn new() -> Self {
        let redis = RedisServer::start();
        for channel in ["graph:abc", "run:r1"] {
            command::done(&redis, &["publish", channel, r#"{"type":"x","said":"hello"}"#]).await;
        }
        let replicas = vec![gateway::on(&redis, &[]).await, gateway::on(&redis, &[]).await];
        Self { redis, replicas }
    }

    async fn readers(&self, token: &str) -> Vec<Readers> {
        let mut readers = Vec::new();
        for replica in &self.replicas {
            readers.push(Readers::new(replica, token).await);
        }
        readers
    }

    /// Asserts that new attempts are refused on every replica, including one that has just started.
    async fn is_refused(&mut self, token: &str) {
        self.replicas.push(gateway::on(&self.redis, &[]).await);
        for replica in &self.replicas {
            let mut socket = connect(&replica.ws("/ws/mission"), Some(token)).await;
            assert_eq!(socket.closed().await, (4401, "token revoked".to_owned()));
            for path in ["/sse?channel=graph:abc", "/api/v1/channels/graph:abc/events"] {
                problem(get(replica, path, token).await, 401, "unauthorized").await;
            }
        }
    }

    async fn is_accepted(&self, token: &str) {
        for replica in &self.replicas {
            assert_eq!(get(replica, "/api/v1/channels/graph:abc/events", token).await.status(), 200);
        }
    }
}

fn reader(sub: &str, jti: &str) -> String {
    token(json!({ "sub": sub, "jti": jti, "crews": ["abc"], "runs": ["r1"] }))
}

#[tokio::test]
async fn revoking_a_token_closes_its_readers_everywhere_within_a_second() {
    let mut world = World::new().await;
    let (bad, good) = (reader("u1", "j1"), reader("u1", "j2"));
    let mut closing = world.readers(&bad).await;
    let mut staying = world.readers(&good).await;
    let kept = ticket(&world.replicas[0], &bad).await;

    let said = command::done(&world.redis, &["token", "revoke", "--jti", "j1"]).await;
    let revoked = Instant::now();
    assert!(said.contains("jti j1"), "{said}");
    for readers in &mut closing {
        readers.are_closed().await;
    }
    assert!(revoked.elapsed() < SOON, "{:?}", revoked.elapsed());
    for readers in &mut staying {
        readers.are_open(&world.redis).await;
    }
    world.is_refused(&bad).await;
    world.is_accepted(&good).await;
    let mut socket = connect(&world.replicas[1].ws(&format!("/ws/mission?ticket={kept}")), None).await;
    assert_eq!(socket.closed().await.0, 4401, "a ticket of a revoked token is accepted");
}

#[tokio::test]
async fn revoking_a_user_revokes_every_token_issued_so_far_and_no_other() {
    let mut world = World::new().await;
    let (first, second, other) = (reader("u1", "j1"), reader("u1", "j2"), reader("u2", "j3"));
    let mut closing = world.readers(&first).await;
    closing.extend(world.readers(&second).await);
    let mut staying = world.readers(&other).await;

    command::done(&world.redis, &["token", "revoke", "--sub", "u1"]).await;
    let revoked = Instant::now();
    for readers in &mut closing {
        readers.are_closed().await;
    }
    assert!(revoked.elapsed() < SOON, "{:?}", revoked.elapsed());
    for readers in &mut staying {
        readers.are_open(&world.redis).await;
    }
    world.is_refused(&first).await;
    world.is_refused(&second).await;
    world.is_accepted(&other).await;
    let later = token(json!({ "sub": "u1", "iat": now() + 1, "crews": ["abc"] }));
    world.is_accepted(&later).await;
    let undated = token(json!({ "sub": "u1", "iat": null, "crews": ["abc"] }));
    problem(get(&world.replicas[0], "/sse?channel=graph:abc", &undated).await, 401, "unauthorized").await;
}

#[tokio::test]
async fn an_open_socket_cannot_be_refreshed_with_a_revoked_token() {
    let world = World::new().await;
    command::done(&world.redis, &["token", "revoke", "--jti", "j2"]).await;
    let mut socket = connect(&world.replicas[0].ws("/ws/mission"), Some(&reader("u1", "j1"))).await;
    socket.send(&json!({ "action": "auth", "token": reader("u1", "j2") }).to_string()).await;
    assert_eq!(socket.closed().await, (4401, "token revoked".to_owned()));
}

//! Every close code, from a real gateway to an independent client.

use std::process::Command;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpSocket};
use tokio_tungstenite::{
    MaybeTlsStream, client_async,
    tungstenite::{
        Message, Utf8Bytes,
        client::IntoClientRequest,
        http::HeaderValue,
        protocol::{
            CloseFrame,
            frame::{
                Frame,
                coding::{CloseCode, Data, OpCode},
            },
        },
    },
};

use crate::support::{
    crewcast_binary, eventually,
    gateway::{self, Gateway},
    http::{post, publish},
    redis::RedisServer,
    socket::{Socket, connect, connect_with, refused},
    token::{now, token},
};

async fn graph(gateway: &Gateway) -> Socket {
    connect(&gateway.ws("/ws/graph/abc"), Some(&token(json!({ "crews": ["abc"] })))).await
}

/// The number of sockets closed with this code.
async fn closed_with(gateway: &Gateway, code: &str) -> f64 {
    gateway.metric("crewcast_connections_closed_total", &format!("code=\"{code}\"")).await
}

/// Reads until the connection itself has ended.
async fn ended(socket: &mut Socket) {
    while let Some(Ok(_)) = tokio::time::timeout(crate::support::PATIENCE, socket.inner.next()).await.unwrap() {}
}

#[tokio::test]
async fn a_close_frame_is_answered_with_1000_whatever_its_code() {
    let gateway = gateway::memory(&[]).await;
    let goodbye = CloseFrame { code: CloseCode::Library(4000), reason: Utf8Bytes::from_static("bye") };
    for (n, frame) in [Some(goodbye), None].into_iter().enumerate() {
        let mut socket = graph(&gateway).await;
        socket.inner.close(frame).await.unwrap();
        assert_eq!(socket.closed().await.0, 1000);
        ended(&mut socket).await;
        eventually("the close is counted", || async { closed_with(&gateway, "1000").await >= (n + 1) as f64 }).await;
    }
    eventually("nothing is open", || async { gateway.metric("crewcast_connections", "").await == 0.0 }).await;
}

#[tokio::test]
async fn rejected_frames_close_with_their_own_codes() {
    let gateway = gateway::memory(&[("CREWCAST_LIMITS__MESSAGE", "1000")]).await;
    let text = |payload: &'static [u8]| Message::Frame(Frame::message(payload, OpCode::Data(Data::Text), true));
    let cases = [
        (Message::binary(&b"\xff"[..]), 1003),
        (text(b"\"\xff\xfe\""), 1007),
        (Message::text("x".repeat(1001)), 1009),
        (Message::text("x".repeat(5_000_000)), 1009),
    ];
    for (message, code) in cases {
        let mut socket = graph(&gateway).await;
        // The gateway may close before everything is sent.
        let _ = socket.inner.feed(message).await;
        let _ = socket.inner.flush().await;
        let (got, reason) = socket.closed().await;
        assert_eq!(got, code, "{reason}");
        assert!(!reason.is_empty());
        eventually("the close is counted", || async { closed_with(&gateway, &code.to_string()).await >= 1.0 }).await;
    }
    let mut socket = graph(&gateway).await;
    socket.send(&"x".repeat(1000)).await;
    assert_eq!(socket.json().await["code"], "unknown_action", "as large as allowed");
}

#[tokio::test]
async fn a_refused_socket_holds_its_permit_until_it_is_closed() {
    let gateway = gateway::memory(&[("CREWCAST_LIMITS__CONNECTIONS", "1")]).await;
    // The client does not read its close frame, so the gateway waits for it.
    let refused = connect(&gateway.ws("/ws/graph/abc"), Some("x.y.z")).await;
    assert_eq!(graph(&gateway).await.closed().await.0, 4429);
    drop(refused);
    eventually("its permit is free again", || async { graph(&gateway).await.is_quiet().await }).await;
}

#[tokio::test]
async fn broken_framing_closes_with_1002() {
    let gateway = gateway::memory(&[]).await;
    // Not masked; a reserved bit; an unknown opcode; a continuation without a start.
    for bytes in [&b"\x81\x02{}"[..], b"\xc1\x80\0\0\0\0", b"\x83\x80\0\0\0\0", b"\x80\x80\0\0\0\0"] {
        let mut socket = graph(&gateway).await;
        socket.inner.get_mut().write_all(bytes).await.unwrap();
        assert_eq!(socket.closed().await.0, 1002, "{bytes:?}");
    }
}

#[tokio::test]
async fn a_draining_replica_says_so_and_closes_with_1012() {
    let settings = [("CREWCAST_DRAIN__SPREAD", "1s"), ("CREWCAST_DRAIN__GRACE", "10s")];
    let mut gateway = gateway::memory(&settings).await;
    let mut socket = graph(&gateway).await;
    eventually("the socket is open", || async { gateway.metric("crewcast_connections", "").await == 1.0 }).await;
    gateway.terminate();
    eventually("draining", || async { !gateway.is_ready().await }).await;
    // Refused before the handshake, so that a proxy tries the next replica.
    let token = token(json!({ "crews": ["abc"] }));
    assert_eq!(refused(&gateway.ws("/ws/graph/abc"), Some(&token)).await, 503);
    let told = socket.json().await;
    assert_eq!((told["type"].as_str(), told["source"].as_str()), (Some("reconnect"), Some("gateway")), "{told}");
    assert!(told["in_ms"].is_u64(), "{told}");
    assert_eq!(socket.closed().await.0, 1012);
    drop(socket);
    assert!(gateway.exit().await.success());
}

#[tokio::test]
async fn sockets_wait_for_the_broker_and_then_close_with_1013() {
    let mut redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[("CREWCAST_BROKER__PATIENCE", "1s")]).await;
    let mut socket = graph(&gateway).await;
    assert!(socket.is_quiet().await);
    redis.kill();
    let told = socket.json().await;
    assert_eq!((told["type"].as_str(), told["state"].as_str()), (Some("broker"), Some("down")), "{told}");
    let (code, reason) = socket.closed().await;
    assert!(code == 1013 && reason.contains("broker"), "{code} {reason}");
    // A new socket does not wait forever either.
    assert_eq!(graph(&gateway).await.closed().await.0, 1013);
    redis.restart();
    eventually("ready again", || async { gateway.is_ready().await }).await;
    let mut again = graph(&gateway).await;
    let arrived = async { again.event().await["type"] == "x" };
    let publishing = async {
        // The channel may still be subscribed for closed sockets, which says nothing about the new one.
        loop {
            redis.publish("graph:abc", br#"{"type":"x"}"#);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        arrived = arrived => assert!(arrived),
        () = publishing => {}
    }
}

#[tokio::test]
async fn a_short_broker_outage_closes_no_socket() {
    let mut redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let mut socket = graph(&gateway).await;
    assert!(socket.is_quiet().await);
    redis.kill();
    assert_eq!(socket.json().await["state"], "down");
    redis.restart();
    assert_eq!(socket.json().await["state"], "up");
    eventually("the channel is subscribed", || async { redis.publish("graph:abc", br#"{"type":"x"}"#) == 1 }).await;
    loop {
        // Live events that may be missing are reported.
        let message = socket.json().await;
        if message["type"] == "x" {
            break;
        }
        assert_eq!(message["source"], "gateway", "{message}");
    }
}

#[tokio::test]
async fn ten_invalid_messages_close_with_4400() {
    let gateway = gateway::memory(&[]).await;
    for (path, what) in [("/ws/graph/abc", "{"), ("/ws/mission", r#"{"action":"dance"}"#), ("/ws/runs/r1", r#"[1]"#)] {
        let jwt = token(json!({ "crews": ["abc"], "runs": ["r1"] }));
        let mut socket = connect(&gateway.ws(path), Some(&jwt)).await;
        // A pong is valid and does not count.
        for _ in 0..20 {
            socket.send(r#"{"type":"pong"}"#).await;
        }
        for n in 0..10 {
            socket.send(what).await;
            let mut answer = socket.json().await;
            while answer["type"] == "signal" {
                answer = socket.json().await;
            }
            assert_eq!(
                (answer["type"].as_str(), answer["code"].as_str()),
                (Some("error"), Some("unknown_action")),
                "{n}"
            );
            assert_eq!(answer["source"], "gateway");
        }
        assert_eq!(socket.closed().await.0, 4400, "{path}");
    }
}

#[tokio::test]
async fn a_token_that_expires_closes_its_open_socket_with_4401() {
    let gateway = gateway::memory(&[]).await;
    let jwt = token(json!({ "crews": ["abc"], "runs": ["r1"], "exp": now() + 2 }));
    for path in ["/ws/graph/abc", "/ws/runs/r1", "/ws/mission"] {
        let url = gateway.ws(path);
        let mut socket = connect(&url, Some(&jwt)).await;
        assert_eq!(socket.closed().await, (4401, "token expired".to_owned()), "{path}");
        assert_eq!(connect(&url, Some(&jwt)).await.closed().await.0, 4401, "{path}");
    }
}

#[tokio::test]
async fn a_fresh_token_keeps_the_socket_open() {
    let gateway = gateway::memory(&[]).await;
    let expires = now() + 2;
    let old = token(json!({ "crews": ["abc"], "exp": expires }));
    let mut stale = connect(&gateway.ws("/ws/graph/abc"), Some(&old)).await;
    let mut socket = connect(&gateway.ws("/ws/graph/abc?since=0"), Some(&old)).await;
    let fresh = token(json!({ "crews": ["abc"] }));
    socket.send(&json!({ "action": "auth", "token": fresh }).to_string()).await;
    assert_eq!(stale.closed().await.0, 4401);
    eventually("the first token has expired", || async { now() > expires }).await;
    let publisher = token(json!({ "publish": ["graph:*"] }));
    publish(&gateway, &publisher, "graph:abc", json!({ "type": "x" })).await;
    assert_eq!(socket.json().await["type"], "x");
    assert!(socket.is_quiet().await);
}

#[tokio::test]
async fn a_refresh_with_an_unusable_token_closes_with_4401_or_4403() {
    let gateway = gateway::memory(&[]).await;
    let cases = [
        (json!({ "crews": ["abc"], "sub": "u2" }), 4401, "another sub"),
        (json!({ "crews": ["abc"], "org": "globex" }), 4401, "another sub or org"),
        (json!({ "crews": ["abc"], "exp": now() - 1 }), 4401, "expired"),
        (json!({ "crews": ["xyz"] }), 4403, "grant"),
    ];
    for (claims, code, word) in cases {
        let mut socket = graph(&gateway).await;
        socket.send(&json!({ "action": "auth", "token": token(claims.clone()) }).to_string()).await;
        let (got, reason) = socket.closed().await;
        assert!(got == code && reason.contains(word), "{claims}: {got} {reason}");
    }
    let mut socket = graph(&gateway).await;
    socket.send(r#"{"action":"auth","token":"rubbish"}"#).await;
    assert_eq!(socket.closed().await.0, 4401);
}

fn revoke(redis: &RedisServer, arguments: &[&str]) {
    let answer = Command::new(crewcast_binary())
        .args(["token", "revoke"])
        .args(arguments)
        .env_clear()
        .env("CREWCAST_BROKER__URL", redis.url())
        .output()
        .unwrap();
    assert!(answer.status.success(), "{answer:?}");
}

#[tokio::test]
async fn a_revoked_token_closes_with_4401_and_stays_refused() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let url = gateway.ws("/ws/graph/abc");
    let of = |sub: &str, jti: &str| token(json!({ "sub": sub, "crews": ["abc"], "jti": jti }));
    let (anna, other, ben) = (of("anna", "a1"), of("anna", "a2"), of("ben", "b1"));
    let mut sockets = Vec::new();
    for jwt in [&anna, &other, &ben] {
        let mut socket = connect(&url, Some(jwt)).await;
        assert!(socket.is_quiet().await);
        sockets.push(socket);
    }
    revoke(&redis, &["--jti", "a1"]);
    let began = std::time::Instant::now();
    assert_eq!(sockets[0].closed().await, (4401, "token revoked".to_owned()));
    assert!(began.elapsed().as_secs_f64() < 1.0, "{:?}", began.elapsed());
    assert!(sockets[1].is_quiet().await && sockets[2].is_quiet().await, "another socket was closed");
    revoke(&redis, &["--sub", "anna"]);
    assert_eq!(sockets[1].closed().await.0, 4401);
    assert!(sockets[2].is_quiet().await);
    for jwt in [&anna, &other] {
        assert_eq!(connect(&url, Some(jwt)).await.closed().await, (4401, "token revoked".to_owned()));
    }
}

#[tokio::test]
async fn asking_for_more_than_the_token_grants_closes_with_4403() {
    let gateway = gateway::memory(&[]).await;
    let jwt = token(json!({ "crews": ["abc"], "runs": ["r1"] }));
    for path in ["/ws/graph/xyz", "/ws/graph?crew_id=xyz", "/ws/graph/ABC", "/ws/runs/r2", "/ws/runs/abc"] {
        let (code, reason) = connect(&gateway.ws(path), Some(&jwt)).await.closed().await;
        assert!(code == 4403 && reason.contains("ask for access"), "{path}: {code} {reason}");
    }
}

#[tokio::test]
async fn a_page_from_a_foreign_origin_is_closed_with_4403() {
    let listed =
        gateway::memory(&[("CREWCAST_AUTH__ALLOWED_ORIGINS", "https://app.example,https://*.team.example")]).await;
    let open = gateway::memory(&[("CREWCAST_AUTH__ANONYMOUS", r#"{"org":"acme","crews":["abc"]}"#)]).await;
    let jwt = token(json!({ "crews": ["abc"] }));
    let own = format!("http://{}", listed.public);
    let none = None;
    let some = Some(jwt.as_str());
    let cases = [
        (&listed, some, "https://evil.example", false),
        (&listed, some, "null", false),
        (&listed, some, "https://app.example.evil.example", false),
        (&listed, some, "http://app.example", false),
        (&listed, some, "https://app.example", true),
        (&listed, some, "https://a.team.example", true),
        (&listed, some, own.as_str(), true),
        (&open, none, "https://evil.example", false),
        (&open, some, "https://evil.example", true),
    ];
    let publisher = token(json!({ "publish": ["graph:*"] }));
    for gateway in [&listed, &open] {
        publish(gateway, &publisher, "graph:abc", json!({ "type": "x" })).await;
    }
    for (gateway, jwt, origin, allowed) in cases {
        let mut request = gateway.ws("/ws/graph/abc?since=0").into_client_request().unwrap();
        request.headers_mut().insert("origin", HeaderValue::from_str(origin).unwrap());
        if let Some(jwt) = jwt {
            let offered = HeaderValue::from_str(&format!("token, {jwt}")).unwrap();
            request.headers_mut().insert("sec-websocket-protocol", offered);
        }
        let mut socket = connect_with(request).await;
        if allowed {
            assert_eq!(socket.event().await["type"], "x", "{origin}");
        } else {
            let key = if jwt.is_some() { "auth.allowed_origins" } else { "allowed_origins" };
            let reason = format!("origin {origin} is not allowed: add it to {key}");
            assert_eq!(socket.closed().await, (4403, reason));
        }
    }
}

#[tokio::test]
async fn a_list_of_types_over_its_limit_closes_with_4400() {
    let gateway = gateway::memory(&[]).await;
    let jwt = token(json!({ "crews": ["abc"], "runs": ["r1"] }));
    let types = |n: usize| (0..n).map(|i| format!("t{i}")).collect::<Vec<_>>().join(",");
    let (many, long) = (types(65), "t".repeat(129));
    let endpoints = ["/ws/runs/r1?", "/ws/mission?", "/ws/graph?", "/ws/graph?crew_id=abc&", "/ws/graph/abc?", "/ws?"];
    for endpoint in endpoints {
        for (types, word) in [(&many, "at most 64"), (&long, "at most 128")] {
            let mut socket = connect(&gateway.ws(&format!("{endpoint}types={types}")), Some(&jwt)).await;
            let (code, reason) = socket.closed().await;
            assert!(code == 4400 && reason.contains(word), "{endpoint}: {code} {reason}");
        }
    }
    let refused = gateway.metric("crewcast_handshakes_refused_total", "reason=\"malformed\"").await;
    assert_eq!(refused, 2.0 * endpoints.len() as f64);
    // Each type counts once.
    let good = format!("/ws/mission?types={},{},signal", types(63), types(63));
    let mut socket = connect(&gateway.ws(&good), Some(&jwt)).await;
    assert_eq!(socket.json().await["type"], "signal");
}

#[tokio::test]
async fn unknown_endpoints_and_malformed_ids_close_with_4404() {
    let gateway = gateway::memory(&[]).await;
    let jwt = token(json!({ "crews": ["abc"] }));
    let long = format!("/ws/runs/{}", "a".repeat(129));
    let paths = [
        "/ws/",
        "/ws/nothing",
        "/nothing",
        "/ws/graph/abc/more",
        "/ws/runs",
        "/ws/runs/",
        "/ws/runs/a%20b",
        "/ws/runs/a:b",
        "/ws/runs/a%2Fb",
        "/ws/runs/%FF",
        "/ws/graph/%C3%A9",
        "/ws/graph/%FF",
        "/ws/graph?crew_id=a:b",
        "/ws/graph?crew_id=*",
        "/ws/client/nothing",
        long.as_str(),
    ];
    for path in paths {
        let mut socket = connect(&gateway.ws(path), Some(&jwt)).await;
        assert_eq!(socket.response.headers()["sec-websocket-protocol"], "token", "{path}");
        let (code, reason) = socket.closed().await;
        assert!(code == 4404 && !reason.is_empty(), "{path}: {code} {reason}");
    }
}

#[tokio::test]
async fn a_reader_that_stops_reading_is_closed_with_4408() {
    let redis = RedisServer::start();
    let settings = [("CREWCAST_LIMITS__STALL", "1s"), ("CREWCAST_LIMITS__RING_BYTES", "2MiB")];
    let gateway = gateway::on(&redis, &settings).await;
    // Small buffers, so that the gateway notices a stuck reader soon.
    let stream = TcpSocket::new_v4().unwrap();
    stream.set_recv_buffer_size(4096).unwrap();
    let stream = stream.connect(gateway.public.parse().unwrap()).await.unwrap();
    let mut request = gateway.ws("/ws/graph/abc").into_client_request().unwrap();
    let offered = HeaderValue::from_str(&format!("token, {}", token(json!({ "crews": ["abc"] })))).unwrap();
    request.headers_mut().insert("sec-websocket-protocol", offered);
    let (inner, response) = client_async(request, MaybeTlsStream::Plain(stream)).await.unwrap();
    let mut stuck = Socket { inner, response: response.map(|_| None) };
    let mut reads = graph(&gateway).await;
    eventually("both sockets are open", || async { gateway.metric("crewcast_connections", "").await == 2.0 }).await;
    eventually("the channel is subscribed", || async { redis.publish("graph:abc", br#"{"type":"begin"}"#) == 1 }).await;
    let going_on = tokio::spawn(async move { while reads.event().await["type"] != "end" {} });
    let event = format!(r#"{{"type":"x","filler":"{}"}}"#, "x".repeat(500_000));
    eventually("the stuck reader is closed", || async {
        redis.publish("graph:abc", event.as_bytes());
        closed_with(&gateway, "4408").await == 1.0
    })
    .await;
    let (code, reason) = stuck.closed().await;
    assert!(code == 4408 && reason.contains("resume"), "{code} {reason}");
    redis.publish("graph:abc", br#"{"type":"end"}"#);
    going_on.await.expect("the other reader is not delayed");
}

#[tokio::test]
async fn a_run_that_turns_out_to_belong_to_another_org_is_closed_with_4403() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let mut socket = connect(&gateway.ws("/ws/runs/r1"), Some(&token(json!({ "runs": ["r1"] })))).await;
    assert!(socket.is_quiet().await);
    let theirs = token(json!({ "sub": "p", "org": "globex", "publish": ["run:*"] }));
    let answer = post(&gateway, "/api/v1/directory", &theirs, json!({ "kind": "run", "id": "r1" })).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(socket.closed().await.0, 4403);
}

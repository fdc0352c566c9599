//! Isolation on the dialect `tracking`.

use crewcast_publisher::{LogLevel, Publisher};
use serde_json::{Value, json};

use super::{ORGS, World};
use crate::support::{command, http::publish, socket::Socket, token::token};

fn session(org: &str) -> String {
    format!("session-of-{org}")
}

async fn open(world: &World, claims: Value, client: usize) -> Socket {
    world.socket(&format!("/ws/agent-tracking/client_{client}"), &token(claims)).await
}

/// Reads lists until one matches. No list may contain a session of the other org.
async fn lists(socket: &mut Socket, expected: &[&str], foreign: &str) {
    loop {
        let message = socket.json().await;
        let text = message.to_string();
        assert!(!text.contains(foreign), "{text}");
        let sessions = message["data"]["sessions"].as_array().into_iter().flatten();
        let ids: Vec<&str> = sessions.map(|session| session["session_id"].as_str().unwrap()).collect();
        if message["type"] == "active_sessions" && ids == expected {
            return;
        }
    }
}

#[tokio::test]
async fn lists_agents_states_and_logs_stay_within_the_org() {
    let world = World::new().await;
    let mut publishers = Vec::new();
    let mut sessions = Vec::new();
    for org in ORGS {
        let publisher = Publisher::builder().org(org).connect(&world.redis.url()).await.unwrap();
        let open = publisher.session(&session(org)).open(&format!("asked by {org}"));
        open.log(LogLevel::Info, "a", &format!("said by {org}"), None);
        sessions.push(open);
        publishers.push(publisher);
    }
    for (n, (reader, foreign)) in [("acme", "zeta"), ("zeta", "acme")].into_iter().enumerate() {
        let (own, others) = (session(reader), session(foreign));
        for (m, claims) in [
            json!({ "org": reader }),
            json!({ "org": reader, "sessions": "*", "channels": ["tracking:*", "session:*"] }),
            json!({ "org": reader, "sessions": [own, others], "channels": [format!("tracking:{foreign}")] }),
        ]
        .into_iter()
        .enumerate()
        {
            let mut socket = open(&world, claims.clone(), 10 * n + m).await;
            lists(&mut socket, &[&own], foreign).await;
            for kind in ["get_session_state", "get_session_logs", "start_log_streaming"] {
                socket.send(&json!({ "type": kind, "session_id": others }).to_string()).await;
                let answer = socket.json().await;
                assert_eq!(answer["code"], "unknown_session", "{claims}, {kind}: {answer}");
                let ask = json!({ "type": kind, "session_id": own, "backlog": true });
                socket.send(&ask.to_string()).await;
                let answer = socket.json().await.to_string();
                assert!(answer.contains(&format!("by {reader}")), "{claims}, {kind}: {answer}");
            }
            for org in [foreign, reader] {
                let producer = token(json!({ "org": org, "publish": ["tracking:*"] }));
                let event = json!({ "type": "agent_status", "agent_name": format!("agent of {org}") });
                publish(&world.gateway, &producer, &format!("tracking:{org}"), event).await;
            }
            let heard = socket.json().await;
            assert_eq!(heard["agent_name"], format!("agent of {reader}"), "{claims}: {heard}");
            assert!(socket.is_quiet().await, "{claims}");
        }
    }
}

#[tokio::test]
async fn a_session_that_moves_to_another_org_ends_its_log_stream() {
    let world = World::new().await;
    command::done(&world.redis, &["register", "session", "mover", "--org", "acme"]).await;
    let mut acme = open(&world, json!({ "org": "acme", "sessions": ["mover"] }), 1).await;
    let mut zeta = open(&world, json!({ "org": "zeta", "sessions": ["mover"] }), 2).await;
    let start = json!({ "type": "start_log_streaming", "session_id": "mover" }).to_string();
    let line = |said: &str| json!({ "type": "session_log", "message": said });
    let nobodys = token(json!({ "org": null, "publish": ["session:mover"] }));
    for socket in [&mut acme, &mut zeta] {
        assert_eq!(socket.json().await["type"], "active_sessions");
        socket.send(&start).await;
    }
    assert_eq!(zeta.json().await["code"], "unknown_session");
    publish(&world.gateway, &nobodys, "session:mover", line("of acme")).await;
    assert_eq!(acme.json().await["logs"][0]["message"], "of acme");

    command::done(&world.redis, &["register", "session", "mover", "--org", "zeta", "--move"]).await;
    assert_eq!(acme.json().await["code"], "unknown_session", "the socket is told");
    zeta.send(&start).await;
    publish(&world.gateway, &nobodys, "session:mover", line("of zeta")).await;
    loop {
        let message = zeta.json().await;
        assert!(!message.to_string().contains("of acme"), "{message}");
        if message["type"] == "session_logs" {
            assert_eq!(message["logs"][0]["message"], "of zeta");
            break;
        }
    }
    assert!(acme.is_quiet().await);
}

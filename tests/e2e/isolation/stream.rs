//! Isolation on the dialect `stream`.

use serde_json::{Value, json};

use super::{ORGS, World, crew, run};
use crate::support::{command, http::publish, socket::Socket, token::token};

fn stream(org: &str) -> String {
    format!("stream-of-{org}")
}

/// A socket that has sent this request and received an answer of this type.
async fn asked(world: &World, token: &str, ask: Value, answered: &str) -> Socket {
    let mut socket = world.socket("/ws/stream", token).await;
    socket.send(&ask.to_string()).await;
    let answer = socket.json().await;
    assert_eq!(answer["type"], answered, "{ask}: {answer}");
    socket
}

#[tokio::test]
async fn a_stream_socket_is_refused_every_channel_of_another_org_and_stays_open() {
    let world = World::new().await;
    for org in ORGS {
        command::done(&world.redis, &["register", "stream", &stream(org), "--org", org]).await;
    }
    for (reader, foreign) in [("acme", "zeta"), ("zeta", "acme")] {
        world.speak(foreign, "not yours").await;
        let (crews, runs) = ([crew("acme"), crew("zeta")], [run("acme"), run("zeta")]);
        let streams = [stream("acme"), stream("zeta")];
        for (how, claims) in [
            ("all", json!({ "org": reader, "crews": "*", "runs": "*", "streams": ["*"] })),
            ("listed", json!({ "org": reader, "crews": crews, "runs": runs, "streams": streams })),
            ("without an org", json!({ "org": null, "crews": crews, "runs": runs, "streams": streams })),
            ("patterns", json!({ "org": reader, "channels": ["graph:*", "stream:*", "hub:*", "metrics:*"] })),
        ] {
            let mut socket = world.socket("/ws/stream", &token(claims)).await;
            for channel in [
                format!("graph:{}", crew(foreign)),
                format!("mission:{}", crew(foreign)),
                format!("run:{}", run(foreign)),
                format!("stream:{}", stream(foreign)),
                format!("hub:{foreign}"),
                format!("metrics:{foreign}"),
            ] {
                let ask = json!({ "action": "subscribe", "channel": channel, "since": "0", "ref": channel });
                socket.send(&ask.to_string()).await;
                let answer = socket.json().await;
                assert_eq!(
                    (&answer["code"], &answer["ref"]),
                    (&json!("forbidden"), &json!(channel)),
                    "{how}: {answer}"
                );
            }
        }
        // Publishing there is refused, too.
        let writer = token(json!({ "org": reader, "publish": ["graph:*", "stream:*", "hub:*"] }));
        let mut socket = world.socket("/ws/stream", &writer).await;
        let foreign =
            [format!("graph:{}", crew(foreign)), format!("stream:{}", stream(foreign)), format!("hub:{foreign}")];
        for channel in foreign {
            let forged = json!({ "action": "publish", "channel": channel, "event": { "type": "forged" } });
            socket.send(&forged.to_string()).await;
            assert_eq!(socket.json().await["code"], "forbidden", "{channel}");
        }
    }
}

#[tokio::test]
async fn all_streams_means_the_orgs_own_and_follows_a_move() {
    let world = World::new().await;
    for org in ORGS {
        command::done(&world.redis, &["register", "stream", &stream(org), "--org", org]).await;
    }
    command::done(&world.redis, &["register", "stream", "mover", "--org", "acme"]).await;
    let listed = json!([stream("acme"), stream("zeta"), "mover"]);
    let mut sockets = Vec::new();
    for org in ORGS {
        for streams in [json!("*"), listed.clone()] {
            let jwt = token(json!({ "org": org, "streams": streams }));
            sockets.push(asked(&world, &jwt, json!({ "action": "subscribe" }), "subscribed").await);
        }
    }
    let jwt = token(json!({ "org": "acme", "streams": listed }));
    let mut by_name = asked(&world, &jwt, json!({ "action": "subscribe", "stream_id": "mover" }), "subscribed").await;
    for channel in
        [format!("stream:{}", stream("acme")), format!("stream:{}", stream("zeta")), "stream:mover".to_owned()]
    {
        publish(&world.gateway, &token(json!({ "org": null, "publish": [channel] })), &channel, json!({ "type": "x" }))
            .await;
    }
    let mut channels = Vec::new();
    for (n, socket) in sockets.iter_mut().enumerate() {
        let mut heard = vec![socket.json().await["channel"].clone()];
        if n < 2 {
            heard.push(socket.json().await["channel"].clone());
        }
        assert!(socket.is_quiet().await, "{n}: {heard:?}");
        heard.sort_by_key(Value::to_string);
        channels.push(heard);
    }
    let acme = vec![json!("stream:mover"), json!("stream:stream-of-acme")];
    let zeta = vec![json!("stream:stream-of-zeta")];
    assert_eq!(channels, [acme.clone(), acme, zeta.clone(), zeta]);
    assert_eq!(by_name.json().await["channel"], "stream:mover");

    command::done(&world.redis, &["register", "stream", "mover", "--org", "zeta", "--move"]).await;
    let gone = by_name.json().await;
    assert_eq!((&gone["code"], &gone["channel"]), (&json!("forbidden"), &json!("stream:mover")));
    let mut rounds = 0;
    loop {
        rounds += 1;
        assert!(rounds < 40, "the stream does not move");
        let event = json!({ "type": "x", "said": format!("round {rounds}") }).to_string();
        world.redis.publish("stream:mover", event.as_bytes());
        // Both sockets of zeta receive it. In the end, those of acme do not.
        let (acme, zeta) = sockets.split_at_mut(2);
        let mut quiet = 0;
        for socket in zeta {
            quiet += usize::from(socket.is_quiet().await);
        }
        let mut left = 0;
        for socket in acme {
            left += usize::from(socket.is_quiet().await);
        }
        if quiet == 0 && left == 2 {
            break;
        }
    }
    assert!(by_name.is_quiet().await, "the socket by name is open and receives nothing");
}

//! An org never receives another org's events, on any endpoint, in either direction.

mod forge;
mod stream;
mod tracking;

use std::time::Instant;

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{
    PATIENCE, command,
    gateway::{self, Gateway, client},
    http::{get, post, problem, publish, ticket},
    redis::RedisServer,
    socket::{Socket, connect},
    sse::EventStream,
    token::token,
};

const ORGS: [&str; 2] = ["acme", "zeta"];

fn crew(org: &str) -> String {
    format!("crew-of-{org}")
}

fn run(org: &str) -> String {
    format!("run-of-{org}")
}

/// Two orgs, each with a crew and a run in the directory.
struct World {
    redis: RedisServer,
    gateway: Gateway,
}

impl World {
    async fn new() -> Self {
        let redis = RedisServer::start();
        for org in ORGS {
            command::done(&redis, &["register", "crew", &crew(org), "--org", org]).await;
            command::done(&redis, &["register", "run", &run(org), "--org", org, "--crew", &crew(org)]).await;
        }
        let gateway = gateway::on(&redis, &[]).await;
        Self { redis, gateway }
    }

    /// Publishes an event of this org on each of its channels.
    async fn speak(&self, org: &str, said: &str) {
        let producer = token(json!({ "org": org, "publish": ["graph:*", "run:*", "mission:*", "hub:*"] }));
        let signal = json!({ "type": "signal", "said": said, "payload": { "status": "busy", "crewId": crew(org) } });
        for (channel, event) in [
            (format!("graph:{}", crew(org)), json!({ "type": "tool_start", "said": said })),
            (format!("run:{}", run(org)), json!({ "type": "boot", "said": said })),
            (format!("mission:{}", crew(org)), signal),
            (format!("hub:{org}"), json!({ "type": "task_started", "said": said, "data": {} })),
        ] {
            publish(&self.gateway, &producer, &channel, event).await;
        }
    }

    async fn socket(&self, path: &str, token: &str) -> Socket {
        connect(&self.gateway.ws(path), Some(token)).await
    }
}

/// Every way in which a token of `reader` can ask for the other org's crew and run.
fn greedy(reader: &str) -> Vec<(&'static str, String)> {
    let crews = [crew("acme"), crew("zeta")];
    let runs = [run("acme"), run("zeta")];
    vec![
        ("all", token(json!({ "org": reader, "crews": "*", "runs": ["*"] }))),
        ("listed", token(json!({ "org": reader, "crews": crews, "runs": runs }))),
        ("listed, without an org", token(json!({ "org": null, "crews": crews, "runs": runs }))),
        ("all, without an org", token(json!({ "org": null, "crews": ["*"], "runs": "*" }))),
        ("nothing", token(json!({ "org": reader }))),
    ]
}

#[tokio::test]
async fn a_socket_for_another_orgs_crew_or_run_is_refused() {
    let world = World::new().await;
    for (reader, foreign) in [("acme", "zeta"), ("zeta", "acme")] {
        world.speak(foreign, "not yours").await;
        for (how, token) in greedy(reader) {
            for path in [
                format!("/ws/graph/{}", crew(foreign)),
                format!("/ws/graph/{}?since=0", crew(foreign)),
                format!("/ws/graph?crew_id={}", crew(foreign)),
                format!("/ws/runs/{}", run(foreign)),
                format!("/ws/runs/{}?since=0&types=boot", run(foreign)),
            ] {
                let mut socket = world.socket(&path, &token).await;
                refused(&mut socket, &format!("{reader}, {how}: {path}")).await;
            }
        }
        let granted = token(json!({ "org": reader, "crews": "*" }));
        let mut with_ticket = connect(
            &world.gateway.ws(&format!(
                "/ws/graph/{}?ticket={}",
                crew(foreign),
                ticket(&world.gateway, &granted).await
            )),
            None,
        )
        .await;
        refused(&mut with_ticket, "a ticket").await;
    }
}

/// Asserts that the socket is closed with 4403 before any event. A token that grants nothing is told so before.
async fn refused(socket: &mut Socket, what: &str) {
    loop {
        match tokio::time::timeout(PATIENCE, socket.inner.next()).await {
            Ok(Some(Ok(Message::Text(text)))) if text.contains(r#""source":"gateway","code":"nothing_granted""#) => {}
            Ok(Some(Ok(Message::Close(Some(frame))))) => return assert_eq!(u16::from(frame.code), 4403, "{what}"),
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn sockets_for_all_crews_carry_only_their_own_org() {
    let world = World::new().await;
    world.speak("acme", "before").await;
    world.speak("zeta", "before").await;
    for (reader, foreign) in [("acme", "zeta"), ("zeta", "acme")] {
        for (how, token) in greedy(reader).into_iter().take(2) {
            let mut graphs = world.socket("/ws/graph", &token).await;
            let mut missions = world.socket("/ws/mission", &token).await;
            // One signal, from the org's only crew.
            assert_eq!(missions.event().await["payload"]["crewId"], crew(reader), "{how}");
            world.joined(&mut graphs, &format!("graph:{}", crew(reader))).await;
            world.speak(foreign, "not yours").await;
            world.speak(reader, "yours").await;
            assert_eq!(said(&mut graphs).await, "yours", "{reader}, {how}");
            assert_eq!(said(&mut missions).await, "yours", "{reader}, {how}");
            assert!(graphs.is_quiet().await && missions.is_quiet().await, "{reader}, {how}");
        }
    }
}

#[tokio::test]
async fn a_hub_socket_carries_only_its_own_org_whatever_it_asks_for() {
    let world = World::new().await;
    for org in ORGS {
        world.speak(org, &format!("first of {org}")).await;
    }
    for (reader, foreign) in [("acme", "zeta"), ("zeta", "acme")] {
        let foreign_log = format!("crewcast:{{hub:{foreign}}}:log");
        let log: Vec<String> = world.redis.run(&[b"LRANGE", foreign_log.as_bytes(), b"0", b"0"]);
        let first: Value = serde_json::from_str(&log[0]).unwrap();
        let claims = json!({ "org": reader, "crews": "*", "channels": [format!("hub:{foreign}"), "hub:*"] });
        let mut tokens = greedy(reader);
        tokens.push(("channels", token(claims)));
        for (how, token) in tokens {
            for query in [
                "since=0".to_owned(),
                "since=0&batch_ms=5".to_owned(),
                format!("since=0&channel=hub:{foreign}&org={foreign}&crew_id={}", crew(foreign)),
                // Resume from an id of the other org's log.
                format!("since={}", first["id"].as_str().unwrap()),
            ] {
                let what = format!("{reader}, {how}: {query}");
                let mut socket = world.socket(&format!("/ws?{query}"), &token).await;
                if how.ends_with("without an org") {
                    refused(&mut socket, &what).await;
                    continue;
                }
                hears_own(&mut socket, &format!("first of {reader}"), foreign, &what).await;
                for org in [foreign, reader] {
                    world.speak(org, &format!("{what}, of {org}")).await;
                }
                hears_own(&mut socket, &format!("{what}, of {reader}"), foreign, &what).await;
            }
        }
    }
}

/// Reads until this text. Nothing of the other org may come before it.
async fn hears_own(socket: &mut Socket, word: &str, foreign: &str, what: &str) {
    loop {
        let text = socket.text().await;
        assert!(
            !text.contains(&format!("of {foreign}\"")) && !text.contains(&format!("hub:{foreign}\"")),
            "{what}: {text}"
        );
        if text.contains(&format!("{word}\"")) {
            return;
        }
    }
}

#[tokio::test]
async fn without_an_org_all_is_nothing_and_a_list_names_unowned_crews() {
    let world = World::new().await;
    let nobody = token(json!({ "org": null, "crews": "*" }));
    let listed = token(json!({ "org": null, "crews": [crew("acme"), crew("zeta"), "stray"] }));
    let mut nothing = [world.socket("/ws/graph", &nobody).await, world.socket("/ws/mission", &nobody).await];
    let mut stray = [world.socket("/ws/graph", &listed).await, world.socket("/ws/mission", &listed).await];
    let offline = stray[1].event().await;
    assert_eq!((&offline["payload"]["crewId"], &offline["payload"]["status"]), (&json!("stray"), &json!("offline")));
    world.joined(&mut stray[0], "graph:stray").await;
    for org in ORGS {
        world.speak(org, "not yours").await;
    }
    world.redis.publish("graph:stray", br#"{"type":"x","said":"anybody's"}"#);
    world.redis.publish("mission:stray", br#"{"type":"signal","said":"anybody's","payload":{}}"#);
    for socket in &mut stray {
        assert_eq!(said(socket).await, "anybody's");
        assert!(socket.is_quiet().await);
    }
    for socket in &mut nothing {
        assert_eq!(socket.json().await["code"], "nothing_granted");
        assert!(socket.is_quiet().await);
    }
}

#[tokio::test]
async fn event_streams_and_history_of_another_org_are_refused() {
    let world = World::new().await;
    for org in ORGS {
        world.speak(org, &format!("word of {org}")).await;
    }
    for (reader, foreign) in [("acme", "zeta"), ("zeta", "acme")] {
        let channels = |org: &str| {
            [
                format!("graph:{}", crew(org)),
                format!("mission:{}", crew(org)),
                format!("run:{}", run(org)),
                format!("hub:{org}"),
            ]
        };
        for (how, token) in greedy(reader) {
            for channel in channels(foreign) {
                for path in [
                    format!("/sse?channel={channel}"),
                    format!("/sse?channel=graph:{}&channel={channel}", crew(reader)),
                    format!("/api/v1/channels/{channel}/events?after=0"),
                ] {
                    let answer = get(&world.gateway, &path, &token).await;
                    let body = problem(answer, 403, "forbidden").await.to_string();
                    assert!(!body.contains("word of"), "{how}: {body}");
                }
            }
        }
        let yours = format!("word of {reader}");
        // The same requests for the org's own channels succeed.
        for (_, token) in greedy(reader).into_iter().take(2) {
            for channel in channels(reader) {
                let answer = get(&world.gateway, &format!("/api/v1/channels/{channel}/events?after=0"), &token).await;
                let body: Value = answer.json().await.unwrap();
                assert_eq!(body["events"][0]["said"], yours.as_str(), "{channel}");
                let request =
                    client().get(world.gateway.url(&format!("/sse?channel={channel}&since=0"))).bearer_auth(&token);
                assert_eq!(EventStream::open(request).await.event().await.json()["said"], yours.as_str());
            }
        }
    }
}

#[tokio::test]
async fn ids_of_another_org_can_be_neither_published_to_nor_registered() {
    let world = World::new().await;
    for (writer, foreign) in [("acme", "zeta"), ("zeta", "acme")] {
        let channels = [
            format!("graph:{}", crew(foreign)),
            format!("mission:{}", crew(foreign)),
            format!("run:{}", run(foreign)),
            format!("hub:{foreign}"),
        ];
        let by_pattern = token(json!({ "org": writer, "publish": ["graph:*", "mission:*", "run:*", "hub:*"] }));
        let by_name = token(json!({ "org": writer, "publish": channels }));
        for token in [&by_pattern, &by_name] {
            for channel in &channels {
                for live in [false, true] {
                    let body = json!({ "channel": channel, "event": { "type": "forged" }, "live": live });
                    problem(post(&world.gateway, "/api/v1/publish", token, body).await, 403, "forbidden").await;
                }
            }
        }
        let own = json!({ "channel": format!("graph:{}", crew(writer)), "event": { "type": "x" } });
        let lines = format!("{own}\n{}\n", json!({ "channel": channels[0], "event": { "type": "forged" } }));
        let answer = client().post(world.gateway.url("/api/v1/publish")).bearer_auth(&by_pattern).body(lines).send();
        assert_eq!(problem(answer.await.unwrap(), 403, "forbidden").await["line"], 2);

        let register = |body: Value| post(&world.gateway, "/api/v1/directory", &by_pattern, body);
        for (kind, id) in [("crew", crew(foreign)), ("run", run(foreign))] {
            let taken = problem(register(json!({ "kind": kind, "id": id })).await, 409, "owned-by-another").await;
            assert!(
                !taken["detail"].as_str().unwrap().replace(&id, "").contains(foreign),
                "the answer names the owner: {taken}"
            );
        }
        problem(register(json!({ "kind": "crew", "id": "fresh", "org": foreign })).await, 403, "forbidden").await;
        // An org must not open its own run to another org's crew.
        let borrowed = json!({ "kind": "run", "id": format!("fresh-{writer}"), "crew": crew(foreign) });
        problem(register(borrowed).await, 403, "forbidden").await;
    }
    let heads: Vec<String> = world.redis.run(&[b"KEYS", b"crewcast:*:head"]);
    assert_eq!(heads, Vec::<String>::new(), "something was published, such as the valid line above an invalid one");
}

#[tokio::test]
async fn unregistered_ids_are_open_to_every_token_that_lists_them() {
    let world = World::new().await;
    let mut sockets = Vec::new();
    for org in ORGS {
        let token = token(json!({ "org": org, "crews": ["new"], "runs": ["new-run"] }));
        sockets.push((world.socket("/ws/graph/new", &token).await, world.socket("/ws/graph", &token).await));
    }
    for (one, all) in &mut sockets {
        world.joined(one, "graph:new").await;
        world.joined(all, "graph:new").await;
    }
    command::done(&world.redis, &["register", "crew", "new", "--org", "acme"]).await;
    let (mut acme, mut zeta) = (sockets.remove(0), sockets.remove(0));
    assert_eq!(zeta.0.closed().await.0, 4403, "the other org's socket ends");
    let mut rounds = 0;
    loop {
        rounds += 1;
        let word = format!("round {rounds}");
        world.redis.publish("graph:new", json!({ "type": "x", "said": word }).to_string().as_bytes());
        hears(&mut acme.0, &word).await;
        hears(&mut acme.1, &word).await;
        if zeta.1.is_quiet().await {
            break;
        }
        assert!(rounds < 20, "the other org's socket of all crews does not leave");
    }
}

#[tokio::test]
async fn a_run_is_readable_only_by_those_who_may_read_its_crew() {
    let world = World::new().await;
    world.speak("acme", "of the run").await;
    let of_crew = token(json!({ "org": "acme", "crews": [crew("acme")] }));
    let mut socket = world.socket(&format!("/ws/runs/{}", run("acme")), &of_crew).await;
    assert_eq!(said(&mut socket).await, "of the run");
    let of_another_crew = token(json!({ "org": "acme", "crews": ["another"] }));
    refused(&mut world.socket(&format!("/ws/runs/{}", run("acme")), &of_another_crew).await, "another crew").await;
}

/// The text of the next event.
async fn said(socket: &mut Socket) -> String {
    let event = socket.event().await;
    event["said"].as_str().unwrap_or_else(|| panic!("{event}")).to_owned()
}

/// Reads until this text.
async fn hears(socket: &mut Socket, word: &str) {
    while said(socket).await != word {}
}

impl World {
    /// Publishes knocks until the socket receives one, then reads all of them.
    async fn joined(&self, socket: &mut Socket, channel: &str) {
        let knock =
            |said: &str| self.redis.publish(channel, json!({ "type": "x", "said": said }).to_string().as_bytes());
        let began = Instant::now();
        knock("knock");
        while socket.is_quiet().await {
            assert!(began.elapsed() < PATIENCE, "the socket receives nothing of {channel}");
            knock("knock");
        }
        knock("enter");
        hears(socket, "enter").await;
    }
}

//! Tokens that other systems made: `auth.default_claims`, and what a token that grants nothing is told.

use serde_json::{Value, json};

use crate::support::{
    command::{crewcast, run},
    gateway::{self, Gateway},
    http::publish,
    socket::{Socket, connect},
    token::{SECRET, now, signed, token},
};

/// Opens the stream endpoint and sends the token as the first message.
async fn introduced(gateway: &Gateway, token: &str) -> Socket {
    let mut socket = connect(&gateway.ws("/ws/stream"), None).await;
    socket.send(&json!({ "action": "auth", "token": token }).to_string()).await;
    assert_eq!(socket.json().await["type"], "authenticated");
    socket
}

#[tokio::test]
async fn tokens_of_other_systems_read_what_they_were_made_for() {
    let by_issuer = json!({ "https://id.example/": { "crews": "*", "runs": "*", "publish": ["graph:*"] } });
    let gateway = gateway::memory(&[
        ("CREWCAST_AUTH__DEFAULT_CLAIMS", r#"{"org":"default"}"#),
        ("CREWCAST_AUTH__DEFAULT_CLAIMS_BY_ISSUER", &by_issuer.to_string()),
    ])
    .await;
    let exp = now() + 60;
    // What a server that checked `streams` itself put into its tokens.
    let hive = signed(&json!({ "user_id": 7, "streams": ["s1"], "exp": exp }), SECRET);
    let producer = signed(&json!({ "sub": "p", "publish": ["stream:s1"], "exp": exp }), SECRET);
    let mut stream = introduced(&gateway, &hive).await;
    stream.send(r#"{"action":"subscribe","stream_id":"s1"}"#).await;
    assert_eq!(stream.json().await["type"], "subscribed");
    publish(&gateway, &producer, "stream:s1", json!({ "type": "x" })).await;
    assert_eq!(stream.json().await["event"]["type"], "x");

    // What a server that asked for nothing but a role put into its tokens.
    let claims = json!({ "sub": "u1", "org": "acme", "role": "viewer", "iss": "https://id.example/", "exp": exp });
    let admin = signed(&claims, SECRET);
    publish(&gateway, &admin, "graph:abc", json!({ "type": "first" })).await;
    let mut graph = connect(&gateway.ws("/ws/graph/abc?since=0"), Some(&admin)).await;
    assert_eq!(graph.event().await["type"], "first", "every crew of its org");
    let (code, _) = connect(&gateway.ws("/ws/graph/abc"), Some(&hive)).await.closed().await;
    assert_eq!(code, 4403, "another issuer's defaults do not apply");
}

#[tokio::test]
async fn a_gateway_with_default_claims_that_mean_nothing_does_not_start() {
    let settings = [
        ("CREWCAST_AUTH__HS256_SECRET", SECRET),
        ("CREWCAST_BROKER__KIND", "memory"),
        ("CREWCAST_AUTH__DEFAULT_CLAIMS", r#"{"crew":"*"}"#),
    ];
    let said = run(crewcast(&["serve"]).envs(settings)).await;
    assert!(
        said.code != Some(0) && said.err.contains("auth.default_claims: \"crew\" cannot have a default"),
        "{said:?}"
    );
}

#[tokio::test]
async fn a_token_that_grants_nothing_is_told_which_claims_are_missing() {
    let gateway = gateway::memory(&[]).await;
    let told = |message: &Value, claims: Value| {
        assert_eq!((&message["type"], &message["code"]), (&json!("error"), &json!("nothing_granted")), "{message}");
        assert_eq!((&message["source"], &message["claims"]), (&json!("gateway"), &claims), "{message}");
        assert!(message["message"].as_str().unwrap().contains("auth.default_claims"), "{message}");
    };
    let nothing = token(json!({ "org": null }));
    for (path, jwt, claims) in [
        ("/ws/mission", &nothing, json!(["crews"])),
        ("/ws/graph", &token(json!({ "runs": ["r1"] })), json!(["crews"])),
        ("/ws/graph", &token(json!({ "org": null, "crews": "*" })), json!(["org"])),
    ] {
        let mut socket = connect(&gateway.ws(path), Some(jwt)).await;
        told(&socket.json().await, claims);
        assert!(socket.is_quiet().await, "{path}: once, and it stays open");
    }
    for (path, claims) in [("/ws/graph/abc", json!(["crews"])), ("/ws/runs/r1", json!(["runs", "crews"]))] {
        let mut socket = connect(&gateway.ws(path), Some(&nothing)).await;
        told(&socket.json().await, claims);
        assert_eq!(socket.closed().await.0, 4403);
    }
    let mut stream = introduced(&gateway, &nothing).await;
    let all = json!(["org", "crews", "runs", "streams", "sessions", "channels", "publish"]);
    told(&stream.json().await, all);
    // A token that grants something is not told anything.
    assert!(introduced(&gateway, &token(json!({}))).await.is_quiet().await);
    let reader = token(json!({ "crews": ["abc"] }));
    let mut socket = connect(&gateway.ws("/ws/graph"), Some(&reader)).await;
    assert!(socket.is_quiet().await);
}

#[tokio::test]
async fn the_command_line_warns_about_a_token_that_grants_nothing() {
    let command = |arguments: &[&str], defaults: &str| {
        let mut command = crewcast(arguments);
        command.env("CREWCAST_AUTH__HS256_SECRET", SECRET).env("CREWCAST_AUTH__DEFAULT_CLAIMS", defaults);
        command
    };
    let warning = "warning: this token grants nothing: give it the claim org or crews or runs";
    let minted = run(&mut command(&["token", "--sub", "u1"], "")).await;
    assert!(minted.code == Some(0) && minted.err.contains(warning), "{minted:?}");
    let jwt = minted.out.trim();
    let checked = run(&mut command(&["token", "check", jwt], "")).await;
    assert!(checked.code == Some(0) && checked.err.contains(warning), "{checked:?}");
    let all_of_none = run(&mut command(&["token", "--sub", "u1", "--crews", "*"], "")).await;
    assert!(all_of_none.err.contains("give it the claim org,"), "{all_of_none:?}");
    let defaults = r#"{"org":"default","crews":"*"}"#;
    let checked = run(&mut command(&["token", "check", jwt], defaults)).await;
    assert!(checked.out.contains("every one of default") && !checked.err.contains("warning"), "{checked:?}");
}

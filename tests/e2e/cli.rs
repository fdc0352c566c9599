//! The commands, with real gateways and a real Redis. `crates/cli/tests` covers each command by itself.

use crewcast_events::Keys;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout},
};

use crate::support::{
    PATIENCE,
    command::{self, crewcast, crewcast_on, ended, run, run_with},
    eventually,
    gateway::{self, Gateway},
    http::get,
    redis::{RedisServer, free_port},
    socket::{Socket, connect},
    token::{SECRET, now, signed, token},
};

/// An event in an unusual spelling, which must stay unchanged.
const ODD: &str = r#"{ "type":"x", "n":1.50,"z":0,"a":"\u00e9🙂"}"#;

/// The same event with its id, as in a log and on a socket.
fn logged(id: &str) -> String {
    ODD.replacen('{', &format!("{{\"id\":\"{id}\","), 1)
}

/// Publishes to the graph of one crew with `crewcast publish`, through Redis or through a gateway.
struct Hand<'a> {
    redis: &'a RedisServer,
    channel: String,
    through: Vec<&'a str>,
    token: &'a str,
}

impl Hand<'_> {
    /// What the command prints.
    async fn publish(&self, arguments: &[&str], input: &str) -> String {
        let all = [&["publish", &self.channel], arguments, &self.through].concat();
        let said = run_with(crewcast_on(self.redis, &all).env("CREWCAST_TOKEN", self.token), input).await;
        assert_eq!(said.code, Some(0), "{all:?}: {said:?}");
        said.out
    }

    /// Publishes in every form and checks what a socket receives.
    async fn try_everything(&self, socket: &mut Socket) {
        let first = self.publish(&[ODD], "").await;
        assert_eq!(socket.text().await, logged(&first));
        let ids = self.publish(&[], &format!("{ODD}\n\n{ODD}\n{ODD}")).await;
        assert_eq!(ids.lines().count(), 3);
        for id in ids.lines() {
            assert_eq!(socket.text().await, logged(id));
        }
        assert_eq!(self.publish(&["--live", ODD], "").await, "");
        assert_eq!(socket.text().await, ODD);
        let once = self.publish(&["--key", "k", ODD], "").await;
        assert_eq!(self.publish(&["--key", "k", ODD], "").await, once, "the same id again");
        assert_eq!(socket.text().await, logged(&once));
        // Cut after the second line, then repeated in full.
        let some = self.publish(&["--key", "l"], &format!("{ODD}\n{ODD}\n")).await;
        let all = self.publish(&["--key", "l"], &format!("{ODD}\n{ODD}\n{ODD}\n")).await;
        assert!(all.starts_with(&some) && all.lines().count() == 3, "{some}, {all}");
        for _ in 0..3 {
            socket.text().await;
        }
        self.publish(&["--state", r#"phase={"n":1.50}"#, ODD], "").await;
        socket.text().await;
        assert_eq!(self.phase().as_deref(), Some(r#"{"n":1.50}"#));
        self.publish(&["--state", "phase=", ODD], "").await;
        socket.text().await;
        assert_eq!(self.phase(), None);
        assert!(socket.is_quiet().await, "an event came twice");
    }

    fn phase(&self) -> Option<String> {
        let key = Keys::default().state(&self.channel.parse().unwrap());
        self.redis.run(&[b"HGET", key.as_bytes(), b"phase"])
    }
}

#[tokio::test]
async fn events_published_by_hand_arrive_as_they_were_written() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let url = gateway.url("");
    let mint = ["token", "--sub", "u1", "--org", "acme", "--crews", "by-redis,by-http", "--publish", "graph:by-http"];
    let token = &command::done(&redis, &mint).await;
    for (crew, through) in [("by-redis", vec![]), ("by-http", vec!["--gateway", &url])] {
        let mut socket = connect(&gateway.ws(&format!("/ws/graph/{crew}?since=0")), Some(token)).await;
        Hand { redis: &redis, channel: format!("graph:{crew}"), through, token }.try_everything(&mut socket).await;
    }
}

#[tokio::test]
async fn a_refusal_of_the_gateway_is_reported_with_exit_code_1() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let reader = token(json!({ "crews": ["abc"] }));
    let expired = signed(&json!({ "sub": "u", "publish": ["graph:*"], "exp": now() - 1 }), SECRET);
    let publisher = token(json!({ "publish": ["graph:*"] }));
    for (token, event, told) in
        [(&reader, ODD, "publish"), (&expired, ODD, "expired"), (&publisher, r#"{"id":"7","type":"x"}"#, "id")]
    {
        let arguments = ["publish", "graph:abc", event, "--gateway", &gateway.url("")];
        let said = run(crewcast(&arguments).env("CREWCAST_TOKEN", token)).await;
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.err.contains(told) && !said.err.contains(token.as_str()), "{told}: {said:?}");
    }
    assert_eq!(redis.run::<i64>(&[b"EXISTS", b"crewcast:{graph:abc}:head"]), 0);
}

/// Takes the 15 s for which the command retries, nearly all of it asleep.
#[tokio::test]
async fn an_unreachable_gateway_is_reported_with_exit_code_3() {
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let publisher = token(json!({ "publish": ["graph:*"] }));
    let arguments = ["publish", "graph:abc", ODD, "--gateway", &nobody];
    let said = run(crewcast(&arguments).env("CREWCAST_TOKEN", &publisher)).await;
    assert!(said.code == Some(3) && said.err.contains("crewcast check"), "{said:?}");
    assert!(said.err.contains(&nobody) && said.err.contains("refused"), "the address and the cause: {said:?}");
}

#[tokio::test]
async fn a_minted_token_opens_what_it_says_and_token_check_agrees() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    command::done(&redis, &["register", "crew", "abc", "--org", "acme"]).await;
    let minted = command::done(&redis, &["token", "--sub", "u1", "--org", "acme", "--crews", "*", "--ttl", "1m"]).await;
    let mut socket = connect(&gateway.ws("/ws/mission"), Some(&minted)).await;
    assert_eq!(socket.event().await["payload"], json!({ "status": "offline", "crewId": "abc" }));
    let told = command::done(&redis, &["token", "check", &minted]).await;
    assert!(told.contains("sub u1") && told.contains("every one of acme"), "{told}");
    for (bad, why) in [
        (signed(&json!({ "sub": "u1", "exp": now() - 1 }), SECRET), "token expired"),
        (
            signed(&json!({ "sub": "u1", "exp": now() + 60 }), "another secret of the tests, 32 bytes or more"),
            "bad signature",
        ),
        ("hello".to_owned(), "not a JSON Web Token"),
    ] {
        let said = run(&mut crewcast_on(&redis, &["token", "check", &bad])).await;
        assert!(said.code == Some(1) && said.err.contains(why), "{said:?}");
        let (code, reason) = connect(&gateway.ws("/ws/mission"), Some(&bad)).await.closed().await;
        assert!(code == 4401 && reason.contains(why), "{reason}");
    }
}

/// A running `crewcast tail`.
struct Tail {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Tail {
    fn start(gateway: &str, token: &str, arguments: &[&str]) -> Self {
        let mut command = crewcast(&[&["tail", "--json"], arguments].concat());
        let mut child = command.env("CREWCAST_URL", gateway).env("CREWCAST_TOKEN", token).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn line(&mut self) -> Option<String> {
        tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("a line in time").unwrap()
    }
}

async fn on_port(redis: &RedisServer, listen: &str) -> Gateway {
    gateway::on(redis, &[("CREWCAST_LISTEN", listen)]).await
}

#[tokio::test]
async fn tail_continues_across_a_gateway_that_is_killed_and_restarted() {
    let redis = RedisServer::start();
    let listen = format!("127.0.0.1:{}", free_port());
    let mut gateway = on_port(&redis, &listen).await;
    let token = token(json!({ "crews": ["abc"], "runs": ["r1"] }));
    let mut tail = Tail::start(&gateway.url(""), &token, &["run:r1"]);
    let mut expected = Vec::new();
    for round in 0..3 {
        for _ in 0..3 {
            expected.push(logged(&command::done(&redis, &["publish", "run:r1", ODD]).await));
        }
        if round == 0 {
            for line in &expected {
                assert_eq!(tail.line().await.as_ref(), Some(line));
            }
            gateway.kill();
        } else if round == 1 {
            // Published while the gateway was down.
            gateway = on_port(&redis, &listen).await;
        }
    }
    let done = command::done(&redis, &["publish", "run:r1", r#"{"type":"done"}"#]).await;
    expected.push(format!(r#"{{"id":"{done}","type":"done"}}"#));
    for line in &expected[3..] {
        assert_eq!(tail.line().await.as_ref(), Some(line), "each once and in order");
    }
    assert_eq!(tail.line().await, None, "tail ends with the run");
    let said = ended(tail.child).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("again in"), "the cut is not reported: {said:?}");
    drop(gateway);
}

#[tokio::test]
async fn tail_of_several_channels_resumes_each_across_a_killed_gateway() {
    let redis = RedisServer::start();
    let listen = format!("127.0.0.1:{}", free_port());
    let mut gateway = on_port(&redis, &listen).await;
    let token = token(json!({ "crews": ["abc"], "runs": ["r1"], "streams": ["w"] }));
    let channels = ["graph:abc", "mission:abc", "stream:w"];
    let mut tail = Tail::start(&gateway.url(""), &token, &[&channels[..], &["run:no", "--since", "0"]].concat());
    for round in 0..3 {
        let mut expected = Vec::new();
        for channel in channels.iter().chain(&channels) {
            expected.push(logged(&command::done(&redis, &["publish", channel, ODD]).await));
        }
        if round == 1 {
            // Published while the gateway was down.
            gateway = on_port(&redis, &listen).await;
        }
        let mut came = Vec::new();
        for _ in &expected {
            came.push(tail.line().await.unwrap());
        }
        for channel in 0..channels.len() {
            let order = [&expected[channel], &expected[channel + channels.len()]];
            let at = order.map(|line| came.iter().position(|came| came == line));
            assert!(at[0].is_some() && at[0] < at[1], "each once and in order: {came:?} of {expected:?}");
        }
        if round == 0 {
            gateway.kill();
        }
    }
    std::process::Command::new("kill").args(["-INT", &tail.child.id().unwrap().to_string()]).status().unwrap();
    let said = ended(tail.child).await;
    assert_eq!(said.code, Some(130), "{said:?}");
    assert!(said.err.contains("run:no") && said.err.contains("4403"), "the refusal is not reported: {said:?}");
    let last = said.err.lines().find_map(|line| line.strip_prefix("-- go on from here with --since ")).unwrap();
    let positions: Vec<&str> = last.split(',').map(|position| position.split_once("=6-").unwrap().0).collect();
    assert_eq!(positions, channels);
}

#[tokio::test]
async fn tail_from_an_id_starts_after_it() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let ids =
        run_with(&mut crewcast_on(&redis, &["publish", "graph:abc"]), &format!("{ODD}\n{ODD}\n{ODD}\n")).await.out;
    let ids: Vec<&str> = ids.lines().collect();
    let token = token(json!({ "crews": ["abc"] }));
    for (since, expected) in [("0", &ids[..]), (ids[0], &ids[1..])] {
        let mut tail = Tail::start(&gateway.url(""), &token, &["graph:abc", "--since", since]);
        for id in expected {
            assert_eq!(tail.line().await, Some(logged(id)));
        }
    }
    let mut refused = crewcast(&["tail", "graph:other"]);
    let said = run(refused.env("CREWCAST_URL", gateway.url("")).env("CREWCAST_TOKEN", &token)).await;
    assert!(said.code == Some(1) && said.err.contains("4403"), "{said:?}");
}

#[tokio::test]
async fn tail_ends_with_2_on_an_address_or_file_that_can_never_work() {
    let gateway = gateway::memory(&[]).await;
    let token = token(json!({ "crews": ["abc"] }));
    let (admin, tls) = (format!("http://{}", gateway.admin), gateway.url("").replacen("http", "https", 1));
    for (url, told) in [(&admin, "admin listener"), (&tls, "speaks no TLS")] {
        let mut tail = crewcast(&["tail", "graph:abc"]);
        let said = run(tail.env("CREWCAST_URL", url).env("CREWCAST_TOKEN", &token)).await;
        assert!(said.code == Some(2) && said.err.contains(told), "{url}: {said:?}");
    }
    let said = run(&mut crewcast(&["tail", "graph:abc", "--token-file", "/does/not/exist"])).await;
    assert!(said.code == Some(2) && said.err.contains("--token-file /does/not/exist"), "{said:?}");
}

#[tokio::test]
async fn a_refused_tail_never_says_that_it_is_connected() {
    let gateway = gateway::memory(&[]).await;
    let listed = token(json!({ "crews": ["abc"], "runs": ["r10"] }));
    let empty = signed(&json!({ "sub": "u", "exp": now() + 60 }), SECRET);
    let foreign = signed(&json!({ "sub": "u", "exp": now() + 60 }), "another secret of the tests, 32 bytes or more");
    for (token, channel, told) in [
        (None, "run:r1", "pass a token with --token-file"),
        (None, "graph:abc", "crewcast token --sub"),
        (Some(&listed), "run:r11", "did you mean run:r10?"),
        (Some(&listed), "graph:abd", "did you mean graph:abc?"),
        (Some(&listed), "grap:abc", "did you mean graph:abc?"),
        (Some(&empty), "run:r1", "grants nothing"),
        (Some(&foreign), "run:r1", "signed with another key"),
    ] {
        let mut tail = crewcast(&["tail", channel]);
        tail.env("CREWCAST_URL", gateway.url("")).envs(token.map(|token| ("CREWCAST_TOKEN", token)));
        let said = run(&mut tail).await;
        assert!(said.code == Some(1) && said.err.contains(told), "{channel}: {said:?}");
        assert!(!said.err.contains("connected"), "{channel}: {said:?}");
    }
}

#[tokio::test]
async fn publish_says_that_nobody_owns_the_id_and_suggests_namespaces() {
    let redis = RedisServer::start();
    let orphan = run(&mut crewcast_on(&redis, &["publish", "graph:abc", ODD])).await;
    assert!(orphan.code == Some(0) && orphan.err.contains("crewcast register crew abc"), "{orphan:?}");
    command::done(&redis, &["register", "crew", "abc", "--org", "acme"]).await;
    let owned = run(&mut crewcast_on(&redis, &["publish", "graph:abc", ODD])).await;
    assert_eq!((owned.code, owned.err.as_str()), (Some(0), ""));
    let typo = run(&mut crewcast_on(&redis, &["publish", "grap:abc", ODD])).await;
    assert!(typo.code == Some(1) && typo.err.contains("did you mean graph:abc?"), "{typo:?}");
}

#[tokio::test]
async fn results_are_json_on_request() {
    let redis = RedisServer::start();
    let json = |said: &command::Said| serde_json::from_str::<serde_json::Value>(&said.out).unwrap();
    let check = run(&mut crewcast_on(&redis, &["check", "--json"])).await;
    assert!(check.code == Some(0) && json(&check)["ok"] == true, "{check:?}");
    let wrong = run(crewcast_on(&redis, &["check", "--json"]).env("CREWCAST_REDIS_URL", "redis://127.0.0.1:1")).await;
    assert!(wrong.code == Some(1) && json(&wrong)["ok"] == false, "{wrong:?}");
    assert!(json(&wrong)["findings"].as_array().unwrap().iter().any(|finding| finding["ok"] == false), "{wrong:?}");

    let minted = command::done(&redis, &["token", "--sub", "u1", "--org", "acme", "--crews", "*"]).await;
    let valid = run(&mut crewcast_on(&redis, &["token", "check", "--json", &minted])).await;
    assert_eq!((&json(&valid)["valid"], &json(&valid)["crews"]), (&json!(true), &json!("*")), "{valid:?}");
    let refused = run(&mut crewcast_on(&redis, &["token", "check", "--json", "hello"])).await;
    assert!(refused.code == Some(1) && json(&refused)["valid"] == false, "{refused:?}");

    let config = run(&mut crewcast_on(&redis, &["config", "--json", "--set", "limits.stall=30s"])).await;
    let shown = json(&config);
    assert_eq!(shown["limits.stall"], json!({ "value": "30s", "source": "flag" }));
    assert_eq!(shown["auth.hs256_secret"]["value"], "***");
    assert!(!config.out.contains(SECRET));
}

#[tokio::test]
async fn check_says_whether_a_gateway_would_work() {
    let redis = RedisServer::start();
    let said = run(&mut crewcast_on(&redis, &["check"])).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.lines().all(|line| line.starts_with("ok ")), "{said:?}");

    let wrong = [
        ("redis://127.0.0.1:1", "Redis cannot be used"),
        ("http://127.0.0.1", "broker.url"),
        ("redis://:hunter2@127.0.0.1:1", "Redis cannot be used"),
    ];
    for (url, told) in wrong {
        let said = run(crewcast_on(&redis, &["check"]).env("CREWCAST_REDIS_URL", url)).await;
        assert_eq!(said.code, Some(1), "{said:?}");
        let finding = said.out.lines().find(|line| line.starts_with("WRONG")).unwrap_or_default();
        assert!(finding.contains(told) && !format!("{said:?}").contains("hunter2"), "{said:?}");
    }
    // All permissions except one that only the scripts need.
    let _: String = redis.run(&[b"ACL", b"SETUSER", b"timeless", b"on", b">p", b"~*", b"&*", b"+@all", b"-time"]);
    let url = redis.url().replace("://", "://timeless:p@");
    let said = run(crewcast_on(&redis, &["check"]).env("CREWCAST_REDIS_URL", url)).await;
    assert!(said.code == Some(1) && said.out.contains("TIME within them"), "{said:?}");

    let _: String = redis.run(&[b"CONFIG", b"SET", b"maxmemory-policy", b"allkeys-lru"]);
    let said = run(&mut crewcast_on(&redis, &["check"])).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.out.contains("WRONG  maxmemory-policy is allkeys-lru") && said.out.contains("noeviction"), "{said:?}");
}

#[tokio::test]
async fn config_shows_effective_values_and_their_sources_without_secrets() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "[limits]\nper_user = 7\n[auth]\nhs256_secret = 'hunter2-hunter2-hunter2-hunter2-hunter2'\n")
        .unwrap();
    let mut config = crewcast(&["config", "--set", "limits.stall=30s"]);
    config.env("CREWCAST_CONFIG", file.path()).env("CREWCAST_REDIS_URL", "redis://u:hunter2@h:6380/1");
    let said = run(&mut config).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    for line in [
        "per_user = 7  # file",
        "stall = \"30s\"  # flag",
        "url = \"redis://u:***@h:6380/1\"  # variable CREWCAST_REDIS_URL",
        "hs256_secret = \"***\"  # file",
    ] {
        assert!(said.out.contains(line), "{line}: {}", said.out);
    }
    assert!(!format!("{said:?}").contains("hunter2"), "{said:?}");
    let default = run(&mut crewcast(&["config", "--default"])).await;
    assert_eq!(default.code, Some(0));
    assert!(default.out.contains("listen = \"0.0.0.0:8000\"  # default"), "{}", default.out);
    // The output is a valid configuration.
    std::fs::write(&file, &default.out).unwrap();
    let again = run(crewcast(&["config"]).env("CREWCAST_CONFIG", file.path())).await;
    assert_eq!(again.code, Some(0), "{again:?}");
}

/// Runs a `crewcast serve` that must not start, and returns what it prints.
async fn serve(settings: &[(&str, &str)]) -> command::Said {
    let mut serve = crewcast(&["serve"]);
    serve.env("CREWCAST_BROKER__KIND", "memory").env("CREWCAST_ADMIN__LISTEN", "127.0.0.1:0");
    serve.env("CREWCAST_LISTEN", "127.0.0.1:0").envs(settings.iter().copied());
    run(&mut serve).await
}

#[tokio::test]
async fn a_gateway_that_cannot_start_says_what_to_set() {
    let keyless = serve(&[]).await;
    assert_eq!(keyless.code, Some(2), "{keyless:?}");
    for word in
        ["auth.hs256_secret", "CREWCAST_AUTH__HS256_SECRET", "auth.public_key_file", "auth.jwks_url", "auth.anonymous"]
    {
        assert!(keyless.err.contains(word), "{word}: {keyless:?}");
    }
    let short = serve(&[("CREWCAST_AUTH__HS256_SECRET", "hunter2")]).await;
    assert_eq!(short.code, Some(2), "{short:?}");
    assert!(short.err.contains("32") && !short.err.contains("hunter2"), "{short:?}");
    for (key, nearest) in [
        ("CREWCAST_LIMITS__PER_USR", "limits.per_user"),
        ("CREWCAST_ATH__HS256_SECRET", "auth.hs256_secret"),
        ("CREWCAST_LISTN", "listen"),
        ("CREWCAST_NAMESPACES__GRAPH__LOG__LENGHT", "length"),
    ] {
        let said = serve(&[("CREWCAST_AUTH__HS256_SECRET", SECRET), (key, "7")]).await;
        assert!(said.code == Some(2) && said.err.contains(key) && said.err.contains(nearest), "{key}: {said:?}");
    }
    // Variables that Kubernetes sets for a Service named crewcast are not configuration.
    let keyless = serve(&[("CREWCAST_PORT", "tcp://10.0.0.1:8000"), ("CREWCAST_SERVICE_HOST", "10.0.0.1")]).await;
    assert!(keyless.err.contains("no key") && !keyless.err.contains("CREWCAST_PORT"), "{keyless:?}");
}

#[tokio::test]
async fn a_port_in_use_is_named_with_its_key() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (variable, key) in [("CREWCAST_LISTEN", "listen"), ("CREWCAST_ADMIN__LISTEN", "admin.listen")] {
        let said = serve(&[("CREWCAST_AUTH__HS256_SECRET", SECRET), (variable, &address)]).await;
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.err.contains(&format!("cannot listen on {address} ({key})")), "{said:?}");
        assert!(said.err.contains(&format!("--set {key}=127.0.0.1:PORT, or {variable}")), "{said:?}");
    }
}

#[tokio::test]
async fn health_is_an_exit_code() {
    let gateway = gateway::memory(&[]).await;
    let asked = |arguments: &[&str]| crewcast(&[&["health"], arguments].concat());
    let (admin, public) = (format!("http://{}", gateway.admin), gateway.url(""));
    for (url, answer) in [
        (admin.clone(), "ready"),
        (format!("{admin}/readyz"), "ready"),
        (public.clone(), "ok"),
        (format!("{public}/health"), "ok"),
    ] {
        let said = run(&mut asked(&["--url", &url])).await;
        assert_eq!((said.code, said.out.as_str()), (Some(0), answer), "{url}: {said:?}");
    }
    // As in a container: the listener of the configuration, which is bound to every address.
    let everywhere = format!("0.0.0.0:{}", gateway.admin.rsplit(':').next().unwrap());
    let said = run(asked(&[]).env("CREWCAST_ADMIN__LISTEN", everywhere)).await;
    assert_eq!((said.code, said.out.as_str()), (Some(0), "ready"), "{said:?}");

    let wrong = run(&mut asked(&["--url", &format!("{public}/nothing")])).await;
    assert!(wrong.code == Some(1) && wrong.err.contains("answers 404"), "{wrong:?}");
    let usage = run(&mut asked(&["--url", "127.0.0.1:8000"])).await;
    assert_eq!(usage.code, Some(2), "{usage:?}");
    let nobody = run(&mut asked(&["--url", &format!("http://127.0.0.1:{}", free_port())])).await;
    assert!(nobody.code == Some(3) && nobody.err.contains("refused"), "{nobody:?}");
}

#[tokio::test]
async fn health_is_1_while_redis_is_away() {
    let mut redis = RedisServer::start();
    redis.kill();
    let gateway = Gateway::spawn(&[("CREWCAST_BROKER__URL", &*redis.url())]);
    let url = format!("http://{}/readyz", gateway.admin);
    let said = run(&mut crewcast(&["health", "--url", &url])).await;
    assert!(said.code == Some(1) && said.err.contains("answers 503"), "{said:?}");
}

#[tokio::test]
async fn the_version_names_the_commit_of_the_build() {
    let said = run(&mut crewcast(&["--version"])).await;
    let version = said.out.strip_prefix(concat!("crewcast ", env!("CARGO_PKG_VERSION"))).unwrap();
    let commit = version.strip_prefix(" (").and_then(|rest| rest.strip_suffix(')'));
    // Sources without a repository have no commit to name.
    assert!(version.is_empty() || commit.is_some_and(|commit| commit.len() == 12), "{version}");
}

#[tokio::test]
async fn completions_and_manual_pages_are_printed() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let said = run(&mut crewcast(&["completions", shell])).await;
        assert!(said.code == Some(0) && said.out.contains("token-file"), "{shell}: {said:?}");
    }
    let said = run(&mut crewcast(&["man", "publish"])).await;
    assert!(said.code == Some(0) && said.out.contains(".TH"), "{said:?}");
    assert_eq!(run(&mut crewcast(&["man", "publsh"])).await.code, Some(2));
}

#[tokio::test]
async fn commands_say_that_a_memory_broker_cannot_be_reached_from_outside() {
    for arguments in [
        &["publish", "graph:abc", ODD][..],
        &["publish", "graph:abc", ODD, "--live"],
        &["register", "crew", "abc", "--org", "acme"],
        &["token", "revoke", "--jti", "j1"],
    ] {
        let said = run(crewcast(arguments).env("CREWCAST_BROKER__KIND", "memory")).await;
        assert_eq!(said.code, Some(2), "{arguments:?}: {said:?}");
        assert!(said.err.contains("broker.kind is memory") && said.err.contains("CREWCAST_REDIS_URL"), "{said:?}");
    }
    // Through its gateway, the memory broker can be reached.
    let gateway = gateway::memory(&[]).await;
    let token = token(json!({ "crews": ["abc"], "publish": ["graph:*"] }));
    let arguments = ["publish", "graph:abc", ODD, "--gateway", &gateway.url("")];
    let mut publish = crewcast(&arguments);
    publish.env("CREWCAST_BROKER__KIND", "memory").env("CREWCAST_TOKEN", &token);
    let said = run(&mut publish).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let history = get(&gateway, "/api/v1/channels/graph:abc/events?after=0", &token).await.text().await.unwrap();
    assert!(history.contains(&logged(&said.out)), "{history}");
}

#[tokio::test]
async fn a_run_registered_with_a_crew_opens_to_the_crews_readers() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let reader = token(json!({ "crews": ["abc"] }));
    let mut waiting = connect(&gateway.ws("/ws/runs/r1"), Some(&reader)).await;
    assert!(waiting.is_quiet().await, "the run may become one of the crew's");
    let told = command::done(&redis, &["register", "run", "r1", "--org", "acme", "--crew", "abc"]).await;
    assert_eq!(told, "run r1 belongs to acme, crew abc");
    let id = command::done(&redis, &["publish", "run:r1", ODD]).await;
    eventually("the gateway knows the run", || async {
        get(&gateway, "/api/v1/channels/run:r1/events", &reader).await.status() == 200
    })
    .await;
    let mut socket = connect(&gateway.ws("/ws/runs/r1"), Some(&reader)).await;
    assert_eq!([waiting.text().await, socket.text().await], [logged(&id), logged(&id)]);
    command::done(&redis, &["register", "run", "r1", "--org", "acme", "--remove"]).await;
    assert_eq!(socket.closed().await.0, 4403);
}

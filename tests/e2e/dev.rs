//! `crewcast dev`: the simulated crews of the first ten minutes.

use std::{
    collections::HashSet,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::support::{PATIENCE, crewcast_binary, eventually, gateway::client, redis::RedisServer, socket::connect};

struct Dev {
    process: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Dev {
    /// Starts `crewcast dev` on free ports, several times faster than usual, with these variables.
    fn start(settings: &[(&str, &str)]) -> Self {
        let ports = [("CREWCAST_LISTEN", "127.0.0.1:0"), ("CREWCAST_ADMIN__LISTEN", "127.0.0.1:0")];
        Self::run(&["--speed", "15", "--seed", "42"], &[&ports, settings].concat())
    }

    /// Starts `crewcast dev` with these arguments and variables.
    fn run(arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        let mut process = Command::new(crewcast_binary())
            .arg("dev")
            .args(arguments)
            .env_clear()
            .envs(settings.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = lines.clone();
        let output = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).for_each(|line| kept.lock().unwrap().push(line));
        });
        Self { process, lines }
    }

    fn text(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// The gateway's address and the token, from the line in the banner.
    async fn banner(&self) -> (String, String) {
        eventually("the banner is printed", || async { self.text().contains("Publish") }).await;
        let text = self.text();
        let line = text.lines().find_map(|line| line.trim().strip_prefix("export CREWCAST_URL=")).unwrap();
        let (url, token) = line.split_once(" CREWCAST_TOKEN=").unwrap();
        (url.to_owned(), token.to_owned())
    }

    /// Sends Ctrl-C and returns the exit status.
    async fn interrupt(&mut self) -> Option<i32> {
        let pid = self.process.id().to_string();
        Command::new("kill").args(["-INT", &pid]).status().unwrap();
        let began = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code();
            }
            assert!(began.elapsed() < PATIENCE, "the process does not exit");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Checks that the crews' events arrive on all three sockets, and that a run ends.
async fn watch(url: &str, token: &str) {
    let sockets = url.replacen("http", "ws", 1);
    let mut graph = connect(&format!("{sockets}/ws/graph"), Some(token)).await;
    let mut mission = connect(&format!("{sockets}/ws/mission"), Some(token)).await;
    let tool = loop {
        let event = graph.event().await;
        if event["type"] == "tool_start" {
            break event;
        }
    };
    assert!(tool["id"].is_string() && tool["timestamp"].is_string(), "{tool}");
    let mut statuses = HashSet::new();
    let mut crews = HashSet::new();
    while crews.len() < 3 || !statuses.contains("busy") {
        let payload = mission.event().await["payload"].take();
        crews.insert(payload["crewId"].as_str().unwrap().to_owned());
        statuses.insert(payload["status"].as_str().unwrap().to_owned());
    }
    assert_eq!(crews, ["atlas", "forge", "relay"].map(str::to_owned).into());

    let run = tool["run_id"].as_str().unwrap();
    let mut run = connect(&format!("{sockets}/ws/runs/{run}"), Some(token)).await;
    let mut types = Vec::new();
    while types.last().is_none_or(|last| last != "done") {
        types.push(run.event().await["type"].as_str().unwrap().to_owned());
    }
    assert_eq!(types[0], "boot", "a socket that opens late reads the whole run");
    assert!(types.contains(&"task_start".to_owned()), "{types:?}");
    assert_eq!(run.closed().await, (1000, "run completed".to_owned()));
}

#[tokio::test]
async fn simulated_crews_publish_from_the_start_until_ctrl_c() {
    let mut dev = Dev::start(&[]);
    let (url, token) = dev.banner().await;
    watch(&url, &token).await;
    let page = client().get(format!("{url}/ws/client")).send().await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(page.text().await.unwrap().contains("<html"), "the console is an HTML page");
    assert!(dev.text().contains(&format!("{url}/ws/client#token={token}")), "{}", dev.text());
    let began = Instant::now();
    assert_eq!(dev.interrupt().await, Some(0));
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

#[tokio::test]
async fn with_redis_every_event_goes_through_it() {
    let redis = RedisServer::start();
    let mut dev = Dev::start(&[("CREWCAST_REDIS_URL", &*redis.url())]);
    let (url, token) = dev.banner().await;
    let command = format!("redis-cli -h 127.0.0.1 -p {}", redis.port);
    eventually("the banner says how to publish", || async { dev.text().contains(&command) }).await;
    watch(&url, &token).await;
    let logged: Vec<String> = redis.run(&[b"KEYS", b"crewcast:{graph:*}:log"]);
    assert!(!logged.is_empty());
    assert_eq!(dev.interrupt().await, Some(0));
}

#[tokio::test]
async fn default_ports_in_use_are_replaced_by_free_ones() {
    // Held for the test unless another program holds them already.
    let _taken = [8000, 9090].map(|port| std::net::TcpListener::bind(("127.0.0.1", port)));
    let dev = Dev::run(&["--quiet"], &[]);
    let (url, token) = dev.banner().await;
    let text = dev.text();
    let port: u16 = url.rsplit(':').next().unwrap().parse().unwrap();
    assert!(port > 8000 && text.contains(&format!("8000 is in use: {port} instead")), "{text}");
    assert!(text.contains("9090 is in use: "), "{text}");
    assert!(text.contains("without simulated crews") && !text.contains("Seed"), "{text}");
    // The banner's crew is owned although nothing simulates it.
    let mut graph = connect(&format!("{}/ws/graph/forge", url.replacen("http", "ws", 1)), Some(&token)).await;
    assert!(graph.is_quiet().await);
}

#[tokio::test]
async fn a_browser_at_the_root_is_sent_to_the_console() {
    let dev = Dev::start(&[]);
    let (url, token) = dev.banner().await;
    let accept = "text/html,application/xhtml+xml,*/*;q=0.8";
    let page = client().get(&url).header("accept", accept).send().await.unwrap();
    assert_eq!((page.status().as_u16(), page.url().as_str()), (200, &*format!("{url}/ws/client")));
    let other = client().get(&url).header("accept", "application/json").send().await.unwrap();
    assert_eq!(other.status(), 404);
    // With an upgrade, `/` is a socket, whatever the client accepts.
    let mut socket = connect(&url.replacen("http", "ws", 1), Some(&token)).await;
    socket.send(r#"{"action":"ping"}"#).await;
    assert_eq!(socket.event().await["type"], "pong");
}

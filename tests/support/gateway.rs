//! A gateway: the real binary in its own process.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use super::{PATIENCE, crewcast_binary, token::SECRET};

pub struct Gateway {
    process: Child,
    /// `127.0.0.1:<port>` for sockets and HTTP.
    pub public: String,
    /// `127.0.0.1:<port>` for `/readyz` and `/metrics`.
    pub admin: String,
    log: Arc<Mutex<Vec<String>>>,
}

/// A gateway with the memory broker.
pub async fn memory(settings: &[(&str, &str)]) -> Gateway {
    let mut all = vec![("CREWCAST_BROKER__KIND", "memory")];
    all.extend_from_slice(settings);
    Gateway::start(&all).await
}

/// A gateway on this Redis.
pub async fn on(redis: &super::redis::RedisServer, settings: &[(&str, &str)]) -> Gateway {
    let url = redis.url();
    let mut all = vec![("CREWCAST_BROKER__URL", url.as_str())];
    all.extend_from_slice(settings);
    Gateway::start(&all).await
}

impl Gateway {
    /// Starts `crewcast serve` with these variables and waits until it is ready.
    pub async fn start(settings: &[(&str, &str)]) -> Self {
        let gateway = Self::spawn(settings);
        super::eventually("the gateway is ready", || async { gateway.is_ready().await }).await;
        gateway
    }

    /// Starts `crewcast serve` and only waits until it listens.
    pub fn spawn(settings: &[(&str, &str)]) -> Self {
        let mut process = Command::new(crewcast_binary())
            .arg("serve")
            .env_clear()
            .env("CREWCAST_LISTEN", "127.0.0.1:0")
            .env("CREWCAST_ADMIN__LISTEN", "127.0.0.1:0")
            .env("CREWCAST_AUTH__HS256_SECRET", SECRET)
            .env("CREWCAST_LOG__FORMAT", "json")
            .env("CREWCAST_LOG__LEVEL", "debug")
            // A short window makes the gateway ready soon after the first two probes.
            .env("CREWCAST_READY__WINDOW", "1s")
            .envs(settings.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let kept = log.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        let mut gateway = Self { process, public: String::new(), admin: String::new(), log };
        let began = Instant::now();
        while gateway.public.is_empty() {
            assert!(began.elapsed() < PATIENCE, "the gateway does not listen: {:?}", gateway.log());
            std::thread::sleep(Duration::from_millis(5));
            gateway.read_addresses();
        }
        gateway
    }

    fn read_addresses(&mut self) {
        let serving = self.log().into_iter().find(|line| line.contains("\"serving\""));
        let Some(line) = serving.and_then(|line| serde_json::from_str::<serde_json::Value>(&line).ok()) else { return };
        let field = |name: &str| line["fields"][name].as_str().or(line[name].as_str()).unwrap_or_default().to_owned();
        self.admin = field("admin");
        self.public = field("public");
    }

    /// Every line logged so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.public)
    }

    pub fn ws(&self, path: &str) -> String {
        format!("ws://{}{path}", self.public)
    }

    pub async fn is_ready(&self) -> bool {
        let answer = client().get(format!("http://{}/readyz", self.admin)).send().await;
        answer.is_ok_and(|answer| answer.status() == 200)
    }

    /// The text of `/metrics`.
    pub async fn metrics(&self) -> String {
        client().get(format!("http://{}/metrics", self.admin)).send().await.unwrap().text().await.unwrap()
    }

    /// The sum of the series of a metric whose line contains `labels`.
    pub async fn metric(&self, name: &str, labels: &str) -> f64 {
        let text = self.metrics().await;
        let lines = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(labels)
        });
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse::<usize>().unwrap() << 10
    }

    /// Kills the process with SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    pub fn signal(&self, name: &str) {
        Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().unwrap();
    }

    pub fn has_exited(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().unwrap()
    }

    /// Waits until the process exits by itself.
    pub async fn exit(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.has_exited() {
                return status;
            }
            assert!(began.elapsed() < Duration::from_secs(40), "the gateway does not exit");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An HTTP client that follows no redirects and keeps no connections.
pub fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().timeout(PATIENCE).build().unwrap()
}

//! A redis-server of a test's own.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::PATIENCE;

pub struct RedisServer {
    process: Child,
    pub port: u16,
    directory: tempfile::TempDir,
    options: Vec<String>,
}

impl RedisServer {
    /// Starts an empty server without persistence.
    pub fn start() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "no"])
    }

    /// Starts a server with these options.
    pub fn start_with(options: &[&str]) -> Self {
        let port = free_port();
        let directory = tempfile::tempdir().unwrap();
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let process = spawn(port, directory.path(), &options);
        Self { process, port, directory, options }.ready()
    }

    fn ready(self) -> Self {
        let began = Instant::now();
        while self.connect().is_err() {
            assert!(began.elapsed() < PATIENCE, "redis-server does not answer on port {}", self.port);
            std::thread::sleep(Duration::from_millis(5));
        }
        self
    }

    fn connect(&self) -> redis::RedisResult<redis::Connection> {
        let mut connection = redis::Client::open(self.url())?.get_connection_with_timeout(Duration::from_secs(1))?;
        redis::cmd("PING").query::<String>(&mut connection)?;
        Ok(connection)
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A connection of its own, for many commands.
    pub fn connection(&self) -> redis::Connection {
        self.connect().unwrap()
    }

    /// Runs one command.
    pub fn run<T: redis::FromRedisValue>(&self, arguments: &[&[u8]]) -> T {
        let mut command = redis::cmd(std::str::from_utf8(arguments[0]).unwrap());
        arguments[1..].iter().for_each(|argument| {
            command.arg(*argument);
        });
        command.query(&mut self.connect().unwrap()).unwrap()
    }

    /// A plain PUBLISH; how many heard it.
    pub fn publish(&self, channel: &str, message: &[u8]) -> i64 {
        self.run(&[b"PUBLISH", channel.as_bytes(), message])
    }

    /// Lines of CLIENT LIST.
    pub fn clients(&self) -> Vec<String> {
        let list: String = self.run(&[b"CLIENT", b"LIST"]);
        list.lines().map(str::to_owned).collect()
    }

    /// Sends the server a signal: STOP freezes it, CONT lets it go on.
    pub fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Ends the server at once, keeping its directory.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts the server again on the same port and directory.
    pub fn restart(&mut self) {
        self.process = spawn(self.port, self.directory.path(), &self.options);
        let began = Instant::now();
        while self.connect().is_err() {
            assert!(began.elapsed() < PATIENCE, "redis-server did not come back");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(port: u16, directory: &std::path::Path, options: &[String]) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
        .arg(directory)
        .args(options)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is needed: run `make test`, which installs it")
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

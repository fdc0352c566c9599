//! A `redis-server` for one test.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{Program, STARTING, free_port};

/// What Redis logs when its data is loaded and it serves.
const READY: &str = "Ready to accept connections";
/// What Redis logs when it has started but still loads its data.
const INITIALIZED: &str = "Server initialized";
const LOG: &str = "redis.log";

/// A server that can be paused, killed, and restarted with the data that it saved.
#[derive(Debug)]
pub struct RedisServer {
    process: Child,
    /// The port that the server listens on.
    pub port: u16,
    pub(crate) directory: tempfile::TempDir,
    options: Vec<String>,
    program: PathBuf,
}

impl RedisServer {
    /// Starts an empty server without persistence.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with these options, for example `["--appendonly", "yes"]`. By default it does not persist.
    pub fn start_with(options: &[&str]) -> Self {
        // Another process may take the port before the server binds it. Then try the next.
        (0..5).find_map(|_| Self::on(free_port(), options)).expect("redis-server starts on a free port")
    }

    /// Starts a server on this port, or returns `None` if the port is taken.
    pub fn on(port: u16, options: &[&str]) -> Option<Self> {
        Self::run_program(&Program::Redis.path().expect("redis-server"), port, options)
    }

    /// Starts this program instead of the installed redis-server. `None` if the program is not installed.
    pub fn start_program(program: Program, options: &[&str]) -> Option<Self> {
        let path = program.path()?;
        Some(
            (0..5)
                .find_map(|_| Self::run_program(&path, free_port(), options))
                .expect("the server starts on a free port"),
        )
    }

    fn run_program(program: &Path, port: u16, options: &[&str]) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let process = spawn(program, port, &directory, &options);
        let mut server = Self { process, port, directory, options, program: program.to_owned() };
        server.logs(READY).then_some(server)
    }

    /// The URL for a gateway.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// The address with the port.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Kills the server. Connections are cut, and data that was not saved is lost.
    pub fn kill(&mut self) {
        // The process may have exited already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Restarts the server after [`RedisServer::kill`], on the same port, with the same options and the saved data.
    pub fn restart(&mut self) {
        let options = self.options.clone();
        self.process = spawn(&self.program, self.port, &self.directory, &options);
        assert!(self.logs(READY), "redis-server restarts");
    }

    /// Restarts the server as another program, as an upgrade in place does.
    ///
    /// # Panics
    /// If that program is not installed.
    pub fn restart_as(&mut self, program: Program) {
        self.program = program.path().expect("the program is installed");
        self.restart();
    }

    /// Restarts the server with further options, without waiting until its saved data is loaded.
    pub fn restart_with(&mut self, options: &[&str]) {
        let all: Vec<String> = self.options.iter().cloned().chain(options.iter().map(|o| (*o).to_owned())).collect();
        self.process = spawn(&self.program, self.port, &self.directory, &all);
        assert!(self.logs(INITIALIZED), "redis-server restarts");
    }

    /// Pauses the server. As on an overloaded host, connections stay open and nothing is answered.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Resumes a paused server.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Sends the process a signal.
    pub fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(status.expect("kill runs").success());
    }

    /// A new connection, for many commands.
    pub fn connection(&self) -> redis::Connection {
        self.try_connection().expect("a connection")
    }

    fn try_connection(&self) -> redis::RedisResult<redis::Connection> {
        redis::Client::open(self.url())?.get_connection_with_timeout(Duration::from_secs(5))
    }

    /// Runs one command, given as byte strings.
    pub fn run<T: redis::FromRedisValue>(&self, words: &[&[u8]]) -> T {
        self.try_run(words).expect("an answer")
    }

    /// Runs one command.
    ///
    /// # Errors
    /// If Redis answers with an error, or does not answer.
    pub fn try_run<T: redis::FromRedisValue>(&self, words: &[&[u8]]) -> redis::RedisResult<T> {
        let mut command = redis::cmd(std::str::from_utf8(words[0]).expect("the name of a command"));
        words[1..].iter().for_each(|word| {
            command.arg(*word);
        });
        loop {
            // A child process that exits elsewhere in the test interrupts this system call.
            match self.try_connection().and_then(|mut connection| command.query(&mut connection)) {
                Err(error) if error.is_io_error() && error.to_string().contains("Interrupted") => {}
                answer => return answer,
            }
        }
    }

    /// Runs one command without blocking the runtime.
    pub async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let client = redis::Client::open(self.url()).expect("a url");
        let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
        redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await.expect("an answer")
    }

    /// Sends a plain PUBLISH and returns the number of receivers.
    pub fn publish(&self, channel: &str, message: &[u8]) -> i64 {
        self.run(&[b"PUBLISH", channel.as_bytes(), message])
    }

    /// The lines of CLIENT LIST.
    pub fn clients(&self) -> Vec<String> {
        let list: String = self.run(&[b"CLIENT", b"LIST"]);
        list.lines().map(str::to_owned).collect()
    }

    /// Waits until the server has logged this, or returns false if it has exited.
    ///
    /// The log is reliable. An open port could belong to another server.
    fn logs(&mut self, word: &str) -> bool {
        let began = Instant::now();
        while self.process.try_wait().expect("a child").is_none() {
            let log = fs::read_to_string(self.directory.path().join(LOG)).unwrap_or_default();
            if log.contains(word) {
                return true;
            }
            assert!(began.elapsed() < STARTING, "redis-server does not start: {log}");
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(program: &Path, port: u16, directory: &tempfile::TempDir, options: &[String]) -> Child {
    let log = fs::File::create(directory.path().join(LOG)).expect("a log");
    Command::new(program)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(options)
        .current_dir(directory.path())
        .stdout(log)
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is needed: run `make test`, which installs it")
}

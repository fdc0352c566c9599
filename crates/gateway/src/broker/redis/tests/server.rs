//! A `redis-server` of one's own, which can be hung, killed, and started again on its port.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

pub(super) struct Server {
    process: Child,
    port: u16,
    directory: tempfile::TempDir,
}

impl Server {
    pub(super) fn start() -> Self {
        // Between finding a free port and binding it somebody else may take it: try again.
        (0..5).find_map(|_| Self::on(free_port(), &[])).expect("redis-server starts on a free port")
    }

    /// Starts with further arguments.
    pub(super) fn start_with(arguments: &[&str]) -> Self {
        (0..5).find_map(|_| Self::on(free_port(), arguments)).expect("redis-server starts on a free port")
    }

    /// A port where no server listens yet.
    pub(super) fn reserve() -> u16 {
        free_port()
    }

    /// `None` when the port is taken.
    pub(super) fn on(port: u16, arguments: &[&str]) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let process = spawn(port, &directory, arguments);
        let mut server = Self { process, port, directory };
        server.wait().then_some(server)
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Kills the server: connections are cut and everything in it is lost.
    pub(super) fn kill(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("reaped");
    }

    /// Starts again on the same port after [`Server::kill`].
    pub(super) fn restart(&mut self) {
        self.restart_with(&[]);
    }

    /// Likewise, with further arguments. What was saved is loaded.
    pub(super) fn restart_with(&mut self, arguments: &[&str]) {
        self.process = spawn(self.port, &self.directory, arguments);
        assert!(self.wait(), "redis-server starts again");
    }

    /// Hangs the server: connections stay open and nothing answers.
    pub(super) fn pause(&self) {
        self.signal("-STOP");
    }

    pub(super) fn resume(&self) {
        self.signal("-CONT");
    }

    /// Runs one command on a connection of its own.
    pub(super) async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let client = redis::Client::open(self.url()).expect("a url");
        let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]).query_async(&mut connection).await.expect("an answer")
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.process.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    /// Waits until it answers; false when it has ended instead.
    fn wait(&mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline && self.process.try_wait().expect("a child").is_none() {
            if std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A hung process is killed as well; one that has ended already is none the worse.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).expect("a free port").local_addr().expect("bound").port()
}

fn spawn(port: u16, directory: &tempfile::TempDir, arguments: &[&str]) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(arguments)
        .current_dir(directory.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is installed")
}

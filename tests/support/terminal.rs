//! A terminal of someone who follows a page: a shell in a folder of its own. In it, `crewcast` is the binary under
//! test, and `redis-cli` talks to the test's Redis.

use std::{
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Stdio,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use super::{PATIENCE, command, crewcast_binary, redis::RedisServer};

pub struct Terminal {
    folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl Terminal {
    pub fn new(redis: &RedisServer) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let programs = folder.path().join("programs");
        std::fs::create_dir(&programs).unwrap();
        symlink(crewcast_binary(), programs.join("crewcast")).unwrap();
        install_redis_cli(&programs, redis);
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let variables = vec![("PATH".to_owned(), path), ("CREWCAST_REDIS_URL".to_owned(), redis.url())];
        Self { folder, variables }
    }

    /// Sets a variable of every later command.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.variables.push((name.to_owned(), value.into()));
    }

    /// Writes a file into its folder.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// A shell that ends at the first command that fails.
    pub fn shell(&self, script: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-eu", "-c", script]).env_clear().envs(self.variables.iter().cloned());
        shell.current_dir(self.folder.path()).kill_on_drop(true);
        shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        shell
    }

    /// Runs a script that has to succeed.
    pub async fn run(&self, script: &str) -> command::Said {
        let said = command::run(&mut self.shell(script)).await;
        assert_eq!(said.code, Some(0), "{script}\n{said:?}");
        said
    }

    /// Starts a script that goes on.
    pub fn start(&self, script: &str) -> Session {
        // Ctrl-C is for the program in front; the shell then ends with the code of the program.
        let mut command = self.shell(&format!("trap : INT\n{script}"));
        let mut child = command.process_group(0).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Session { child, lines }
    }
}

fn install_redis_cli(folder: &Path, redis: &RedisServer) {
    let real = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|folder| folder.join("redis-cli"))
        .find(|program| program.exists())
        .expect("redis-cli is needed: run `make test`, which installs it with redis-server");
    let wrapper = folder.join("redis-cli");
    let script = format!("#!/bin/sh\nexec '{}' -p {} \"$@\"\n", real.display(), redis.port);
    std::fs::write(&wrapper, script).unwrap();
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A shell and everything that it has started, in the background too.
pub struct Session {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Session {
    /// The next line of its standard output; `None` at the end.
    pub async fn line(&mut self) -> Option<String> {
        tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("a line in time").unwrap()
    }

    /// Whether a line waits, or comes within a moment.
    pub async fn try_line(&mut self) -> Option<String> {
        let moment = std::time::Duration::from_millis(200);
        tokio::time::timeout(moment, self.lines.next_line()).await.ok()?.unwrap()
    }

    /// Ctrl-C, and the exit code after it.
    pub async fn interrupt(mut self) -> Option<i32> {
        self.signal("INT");
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap();
        status.code()
    }

    fn signal(&self, name: &str) {
        if let Some(pid) = self.child.id() {
            let arguments = [format!("-{name}"), "--".to_owned(), format!("-{pid}")];
            let _ = std::process::Command::new("kill").args(arguments).status();
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.signal("KILL");
    }
}

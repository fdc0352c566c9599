//! The binary, and a Redis of one's own.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use crewcast_test_servers::RedisServer;

/// `crewcast` with these arguments and nothing of this machine's environment.
pub fn crewcast(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crewcast"));
    command.env_clear().args(arguments);
    command
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Runs a command to its end, with this on its standard input.
pub fn run(command: &mut Command, input: &str) -> Said {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap().into()
}

/// A Redis, and `crewcast` called with it.
pub struct Redis(RedisServer);

impl Redis {
    pub fn start() -> Self {
        Self(RedisServer::start())
    }

    pub fn url(&self) -> String {
        self.0.url()
    }

    /// `crewcast` with this Redis.
    pub fn crewcast(&self, arguments: &[&str]) -> Said {
        self.crewcast_with(arguments, "")
    }

    /// The same, with this on standard input.
    pub fn crewcast_with(&self, arguments: &[&str], input: &str) -> Said {
        run(crewcast(arguments).env("CREWCAST_REDIS_URL", self.url()), input)
    }

    pub fn ask<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        let words: Vec<&[u8]> = command.iter().map(|word| word.as_bytes()).collect();
        self.0.run(&words)
    }
}

//! Runs the binary, with its own Redis if needed.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use crewcast_test_servers::RedisServer;

/// `crewcast` with these arguments and an empty environment.
pub(crate) fn crewcast(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crewcast"));
    command.env_clear().args(arguments);
    command
}

/// The output of a command.
#[derive(Debug)]
pub(crate) struct Finished {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Runs a command to its end with this standard input.
pub(crate) fn run(command: &mut Command, input: &str) -> Finished {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap().into()
}

/// A Redis, and `crewcast` configured with it.
pub(crate) struct Redis(RedisServer);

impl Redis {
    pub(crate) fn start() -> Self {
        Self(RedisServer::start())
    }

    pub(crate) fn url(&self) -> String {
        self.0.url()
    }

    /// Runs `crewcast` with this Redis.
    pub(crate) fn crewcast(&self, arguments: &[&str]) -> Finished {
        self.crewcast_with(arguments, "")
    }

    /// Runs `crewcast` with this Redis and this standard input.
    pub(crate) fn crewcast_with(&self, arguments: &[&str], input: &str) -> Finished {
        run(crewcast(arguments).env("CREWCAST_REDIS_URL", self.url()), input)
    }

    pub(crate) fn ask<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        let words: Vec<&[u8]> = command.iter().map(|word| word.as_bytes()).collect();
        self.0.run(&words)
    }
}

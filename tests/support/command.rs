//! The `crewcast` command line.

use std::process::Stdio;

use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
};

use super::{PATIENCE, crewcast_binary, redis::RedisServer, token::SECRET};

/// How a command ended.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// A command with an empty environment. The process is killed when its handle is dropped.
pub fn crewcast(arguments: &[&str]) -> Command {
    let mut command = Command::new(crewcast_binary());
    command.env_clear().args(arguments).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Like [`crewcast`], with this Redis and the secret of the tests' gateways.
pub fn crewcast_on(redis: &RedisServer, arguments: &[&str]) -> Command {
    let mut command = crewcast(arguments);
    command.env("CREWCAST_REDIS_URL", redis.url()).env("CREWCAST_AUTH__HS256_SECRET", SECRET);
    command
}

/// Runs a command until it exits.
pub async fn run(command: &mut Command) -> Said {
    ended(command.spawn().unwrap()).await
}

/// Like [`run`], with `input` on standard input.
pub async fn run_with(command: &mut Command, input: &str) -> Said {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    ended(child).await
}

/// Runs a command that must succeed, and returns what it printed.
#[track_caller]
pub fn done(redis: &RedisServer, arguments: &[&str]) -> impl Future<Output = String> {
    let at = std::panic::Location::caller();
    let mut command = crewcast_on(redis, arguments);
    async move {
        let said = run(&mut command).await;
        assert_eq!(said.code, Some(0), "{at}: {said:?}");
        said.out
    }
}

/// Waits until a command exits.
pub async fn ended(child: Child) -> Said {
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("the command ends").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

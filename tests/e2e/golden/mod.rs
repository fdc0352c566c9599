//! Replays the golden transcripts of `tests/golden` with a real gateway on both brokers.

mod template;
mod transcript;

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Instant,
};

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use template::Names;
use transcript::{Line, Step, Transcript};

use crate::support::{
    PATIENCE,
    gateway::{self, Gateway},
    http::post,
    redis::RedisServer,
    root,
    socket::{Ended, Socket, connect},
    token::token,
};

/// The number of gateways that run at once. Most of the time of a transcript is the start of its gateway.
const AT_ONCE: usize = 4;

#[tokio::test]
async fn transcripts_hold_on_the_memory_broker() {
    replay_all(false).await;
}

#[tokio::test]
async fn transcripts_hold_on_redis() {
    replay_all(true).await;
}

async fn replay_all(on_redis: bool) {
    let files = files();
    assert!(!files.is_empty(), "there are transcripts");
    let failed: Vec<Failure> = stream::iter(files)
        .map(|file| async move { replay(&file, on_redis).await.err() })
        .buffer_unordered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await;
    let said: Vec<String> = failed.iter().map(Failure::to_string).collect();
    assert!(failed.is_empty(), "{}", said.join("\n\n"));
}

fn files() -> Vec<PathBuf> {
    let root = root().join("tests/golden");
    let entries = |folder: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let folders = entries(&root).into_iter().filter(|path| path.is_dir());
    let mut files: Vec<PathBuf> = folders.flat_map(|folder| entries(&folder)).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    files
}

struct Failure {
    file: PathBuf,
    line: usize,
    expected: String,
    why: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, expected, why } = self;
        write!(f, "{}:{line}\n  expected {expected}\n  but      {why}", file.display())
    }
}

async fn replay(file: &Path, on_redis: bool) -> Result<(), Failure> {
    let transcript = Transcript::parse(&std::fs::read_to_string(file).unwrap())
        .unwrap_or_else(|bad| panic!("{}: {bad}", file.display()));
    let settings: Vec<(&str, &str)> = transcript.settings.iter().map(|(key, value)| (&**key, &**value)).collect();
    // The Redis must outlive the gateway.
    let redis = on_redis.then(RedisServer::start);
    let gateway = match &redis {
        Some(redis) => gateway::on(redis, &settings).await,
        None => gateway::memory(&settings).await,
    };
    let mut replay = Replay { gateway, socket: None, token: None, names: Names::default() };
    for Line { number, text, step } in &transcript.lines {
        replay.step(step).await.map_err(|why| Failure {
            file: file.to_owned(),
            line: *number,
            expected: text.clone(),
            why,
        })?;
    }
    Ok(())
}

struct Replay {
    gateway: Gateway,
    socket: Option<Socket>,
    token: Option<String>,
    names: Names,
}

impl Replay {
    async fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Token(claims) => self.token = Some(token(claims.clone())),
            Step::Register { kind, id, org, crew } => self.register(kind, id, org, crew.as_deref()).await?,
            Step::Get(path) => {
                let url = self.gateway.ws(&self.names.fill(path));
                self.socket = Some(connect(&url, self.token.take().as_deref()).await);
            }
            Step::Send(text) => {
                let text = self.names.fill(text).replace("<token>", self.token.as_deref().unwrap_or("<token>"));
                self.socket().send(&text).await;
            }
            Step::Receive(text) => match self.socket().text_or_end().await {
                Ok(got) => self.names.compare(text, &got)?,
                Err(Ended(code, reason)) => return Err(format!("close {code} {reason}")),
            },
            Step::Until(text) => self.read_until(text).await?,
            Step::Publish { channel, event, live, state } => {
                let state = state.as_ref().map(|(key, value)| format!(r#","state":{{"key":"{key}","value":{value}}}"#));
                self.publish(channel, event, *live, &state.unwrap_or_default()).await?;
            }
            Step::Quiet => {
                if !self.socket().is_quiet().await {
                    return Err("something came".to_owned());
                }
            }
            Step::Close { code, reason } => match self.socket().text_or_end().await {
                Ok(got) => return Err(format!("< {got}")),
                Err(Ended(got, why)) if got == *code => self.names.compare(reason, &why)?,
                Err(Ended(code, reason)) => return Err(format!("close {code} {reason}")),
            },
        }
        Ok(())
    }

    fn socket(&mut self) -> &mut Socket {
        self.socket.as_mut().expect("a GET comes first")
    }

    async fn register(&self, kind: &str, id: &str, org: &str, crew: Option<&str>) -> Result<(), String> {
        let channel = if kind == "crew" { format!("graph:{id}") } else { format!("{kind}:{id}") };
        let owner = token(json!({ "org": org, "publish": [channel], "crews": crew }));
        let mut body = json!({ "kind": kind, "id": id });
        if let Some(crew) = crew {
            body["crew"] = crew.into();
        }
        self.post("/api/v1/directory", &owner, body).await
    }

    async fn read_until(&mut self, text: &str) -> Result<(), String> {
        let began = Instant::now();
        loop {
            match self.socket().text_or_end().await {
                Ok(got) => match self.names.compare(text, &got) {
                    Err(differs) if began.elapsed() > PATIENCE => return Err(differs),
                    Err(_) => {}
                    Ok(()) => return Ok(()),
                },
                Err(Ended(code, reason)) => return Err(format!("close {code} {reason}")),
            }
        }
    }

    async fn publish(&self, channel: &str, event: &str, live: bool, state: &str) -> Result<(), String> {
        // Without an org, so that publishing makes no org the owner of an id.
        let publisher = token(json!({ "org": null, "publish": [channel] }));
        let body = format!(r#"{{"channel":"{channel}","live":{live},"event":{event}{state}}}"#);
        let request = gateway::client().post(self.gateway.url("/api/v1/publish")).bearer_auth(publisher);
        let answer = request.header("content-type", "application/json").body(body).send().await;
        told(answer.map_err(|error| error.to_string())?).await
    }

    async fn post(&self, path: &str, token: &str, body: Value) -> Result<(), String> {
        told(post(&self.gateway, path, token, body).await).await
    }
}

async fn told(answer: reqwest::Response) -> Result<(), String> {
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    Err(format!("{status}: {}", answer.text().await.unwrap_or_default()))
}

//! A gateway's publish endpoint, as a transport sees it.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crewcast_events::{Channel, EventId};
use parking_lot::Mutex;
use serde_json::{Value, json, value::RawValue};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: String,
}

/// What the gateway does with the next request instead of serving it.
pub(crate) struct Refusal {
    pub status: u16,
    pub headers: &'static str,
    pub body: Value,
    /// Serve the request, but answer this.
    pub having_worked: bool,
}

#[derive(Default)]
pub(crate) struct State {
    pub requests: Vec<Request>,
    pub refusals: VecDeque<Refusal>,
    /// Each channel's events, byte for byte.
    pub logs: HashMap<Channel, Vec<String>>,
    ids: HashMap<Channel, Vec<EventId>>,
    keys: HashMap<(Channel, String), EventId>,
}

pub(crate) struct Gateway {
    pub url: String,
    pub state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

#[derive(serde::Deserialize)]
struct Line<'a> {
    channel: Channel,
    #[serde(borrow)]
    event: &'a RawValue,
    idempotency_key: Option<String>,
    #[serde(default)]
    live: bool,
}

impl Gateway {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::<Mutex<State>>::default();
        let shared = state.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, shared.clone()));
            }
        });
        Self { url, state, task }
    }

    pub(crate) fn refuse_next(&self, status: u16, headers: &'static str, body: Value, having_worked: bool) {
        self.state.lock().refusals.push_back(Refusal { status, headers, body, having_worked });
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.lock().requests.clone()
    }

    pub(crate) fn log(&self, name: &str) -> Vec<String> {
        self.state.lock().logs.get(name).cloned().unwrap_or_default()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await {
        let (status, headers, body) = state.lock().answer(request);
        let length = body.len();
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{headers}\r\n");
        if stream.write_all(format!("{head}{body}").as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|&n| n > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = HashMap::new();
    loop {
        line.clear();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
    stream.read_exact(&mut body).await.ok()?;
    Some(Request { path, headers, body: String::from_utf8(body).ok()? })
}

impl State {
    fn answer(&mut self, request: Request) -> (u16, &'static str, String) {
        let refusal = self.refusals.pop_front();
        let mut body = json!({});
        if refusal.as_ref().is_none_or(|refusal| refusal.having_worked) && request.path.ends_with("/publish") {
            body = json!({"ids": self.publish(&request)});
        }
        self.requests.push(request);
        match refusal {
            Some(refusal) => (refusal.status, refusal.headers, refusal.body.to_string()),
            None => (200, "", body.to_string()),
        }
    }

    fn publish(&mut self, request: &Request) -> Vec<Option<EventId>> {
        let lines: Vec<&str> = match request.headers["content-type"].as_str() {
            "application/x-ndjson" => request.body.lines().collect(),
            _ => vec![&request.body],
        };
        lines.into_iter().map(|line| self.append(serde_json::from_str(line).unwrap())).collect()
    }

    fn append(&mut self, line: Line<'_>) -> Option<EventId> {
        self.logs.entry(line.channel.clone()).or_default();
        if line.live {
            return None;
        }
        let key = line.idempotency_key.map(|key| (line.channel.clone(), key));
        if let Some(id) = key.as_ref().and_then(|key| self.keys.get(key)) {
            return Some(*id);
        }
        let ids = self.ids.entry(line.channel.clone()).or_default();
        let id = EventId::after(ids.last().copied(), *b"abcdef");
        ids.push(id);
        self.keys.extend(key.map(|key| (key, id)));
        self.logs.entry(line.channel).or_default().push(line.event.get().to_owned());
        Some(id)
    }
}

//! An EventSource: reads an event stream as browsers do (HTML standard, section 9.2).

use std::{collections::VecDeque, time::Duration};

use reqwest::{RequestBuilder, Response};
use serde_json::Value;

use super::PATIENCE;

/// One dispatched event.
#[derive(Clone, Debug)]
pub struct Message {
    /// The `event:` field.
    pub kind: String,
    /// The `data:` lines, joined.
    pub data: String,
    /// Whether the block had an `id:` field.
    pub has_id: bool,
}

impl Message {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap()
    }
}

pub struct EventStream {
    pub response: Response,
    unread: String,
    ready: VecDeque<Message>,
    /// The id that EventSource sends as `Last-Event-ID` when it reconnects.
    pub last_id: String,
    pub comments: Vec<String>,
    /// The lines of the block that is not complete yet.
    lines: Vec<String>,
}

impl EventStream {
    /// Opens a stream that must be accepted.
    pub async fn open(request: RequestBuilder) -> Self {
        let response = request.header("accept", "text/event-stream").send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            response,
            unread: String::new(),
            ready: VecDeque::new(),
            last_id: String::new(),
            comments: Vec::new(),
            lines: Vec::new(),
        }
    }

    /// The next event; `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<Message> {
        while self.ready.is_empty() {
            if !self.read().await {
                return None;
            }
        }
        self.ready.pop_front()
    }

    /// The next event of a producer.
    pub async fn event(&mut self) -> Message {
        loop {
            let message = self.next().await.expect("the stream continues");
            if message.json()["source"] != "gateway" {
                return message;
            }
        }
    }

    /// Reads until the server has sent an id.
    pub async fn opened(&mut self) {
        while self.last_id.is_empty() {
            assert!(self.read().await, "the stream continues");
        }
    }

    /// Whether nothing is dispatched for a moment.
    pub async fn is_quiet(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(300), self.next()).await.is_err()
    }

    /// Reads one chunk; `false` at the end of the stream.
    pub async fn read(&mut self) -> bool {
        let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await.expect("a chunk in time").unwrap();
        let Some(chunk) = chunk else { return false };
        self.feed(std::str::from_utf8(&chunk).unwrap());
        true
    }

    /// Reads `bytes` more bytes, as if the connection were cut there. As in a browser, complete blocks are dispatched
    /// and an incomplete one is dropped.
    pub async fn cut_after(mut self, bytes: usize) -> (Vec<Message>, String) {
        let mut left = bytes;
        let mut ready = Vec::from(std::mem::take(&mut self.ready));
        while left > 0 {
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await.expect("a chunk in time").unwrap();
            let chunk = chunk.expect("the stream continues");
            let taken = chunk.len().min(left);
            left -= taken;
            self.feed(std::str::from_utf8(&chunk[..taken]).expect("the test publishes ASCII"));
        }
        ready.extend(self.ready);
        (ready, self.last_id)
    }

    fn feed(&mut self, text: &str) {
        self.unread.push_str(text);
        while let Some((line, rest)) = self.unread.split_once('\n') {
            let line = line.to_owned();
            self.unread = rest.to_owned();
            self.take(line);
        }
    }

    fn take(&mut self, line: String) {
        if let Some(comment) = line.strip_prefix(':') {
            self.comments.push(comment.trim().to_owned());
        } else if line.is_empty() {
            self.dispatch();
        } else {
            self.lines.push(line);
        }
    }

    fn dispatch(&mut self) {
        let (mut kind, mut data, mut has_id) = ("message".to_owned(), Vec::new(), false);
        for line in std::mem::take(&mut self.lines) {
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
            match field {
                "id" => (self.last_id, has_id) = (value, true),
                "event" => kind = value,
                "data" => data.push(value),
                "retry" => {}
                other => panic!("unknown field {other:?}"),
            }
        }
        if !data.is_empty() {
            self.ready.push_back(Message { kind, data: data.join("\n"), has_id });
        }
    }
}

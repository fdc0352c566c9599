//! A webhook receiver that answers as the test says and records what it receives.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// One POST as it was received.
#[derive(Clone, Debug)]
pub struct Post {
    pub at: Instant,
    pub headers: BTreeMap<String, String>,
    pub body: String,
    /// Whether the answer was 2xx.
    pub accepted: bool,
}

impl Post {
    pub fn id(&self) -> &str {
        self.headers.get("x-crewcast-event-id").map_or("", String::as_str)
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// The answer to a POST.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    Status(u16),
    /// A status, with `Retry-After` in seconds.
    Later(u16, u64),
    /// 204 after a pause.
    Slow(Duration),
    /// No answer. The connection stays open.
    Hang,
    /// No answer. The connection is closed.
    Cut,
}

impl Answer {
    fn is_accepted(self) -> bool {
        matches!(self, Answer::Status(200..300) | Answer::Slow(_))
    }
}

type Say = Arc<dyn Fn(usize) -> Answer + Send + Sync>;

pub struct Webhook {
    pub url: String,
    posts: Arc<Mutex<Vec<Post>>>,
    task: JoinHandle<()>,
}

impl Webhook {
    /// Starts a webhook that answers the n-th POST, counted from 0, with `say(n)`.
    pub async fn start(say: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let posts: Arc<Mutex<Vec<Post>>> = Arc::default();
        let (kept, say): (_, Say) = (posts.clone(), Arc::new(say));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, kept.clone(), say.clone()));
            }
        });
        Self { url, posts, task }
    }

    /// All POSTs so far.
    pub fn posts(&self) -> Vec<Post> {
        self.posts.lock().unwrap().clone()
    }

    /// The POSTs that were answered with 2xx.
    pub fn accepted(&self) -> Vec<Post> {
        self.posts().into_iter().filter(|post| post.accepted).collect()
    }

    /// Waits until `count` POSTs are accepted.
    pub async fn until_accepted(&self, count: usize) -> Vec<Post> {
        super::eventually("the webhook has its events", || async { self.accepted().len() >= count }).await;
        self.accepted()
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves one connection until it ends.
async fn serve(stream: TcpStream, posts: Arc<Mutex<Vec<Post>>>, say: Say) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (headers, body) = read(&mut stream).await?;
        let answer = {
            let mut posts = posts.lock().unwrap();
            let answer = say(posts.len());
            posts.push(Post { at: Instant::now(), headers, body, accepted: answer.is_accepted() });
            answer
        };
        let text = match answer {
            Answer::Status(204) => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
            Answer::Status(status) => format!("HTTP/1.1 {status} x\r\ncontent-length: 2\r\n\r\nno"),
            Answer::Later(status, seconds) => {
                format!("HTTP/1.1 {status} x\r\nretry-after: {seconds}\r\ncontent-length: 0\r\n\r\n")
            }
            Answer::Slow(pause) => {
                tokio::time::sleep(pause).await;
                "HTTP/1.1 204 No Content\r\n\r\n".to_owned()
            }
            Answer::Hang => std::future::pending().await,
            Answer::Cut => return None,
        };
        stream.write_all(text.as_bytes()).await.ok()?;
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<(BTreeMap<String, String>, String)> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    if !line.starts_with("POST /hook") {
        return None;
    }
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
    stream.read_exact(&mut body).await.ok()?;
    Some((headers, String::from_utf8(body).unwrap()))
}

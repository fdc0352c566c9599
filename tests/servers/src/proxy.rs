//! A network between a replica and Redis that can fail in every way a network fails.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::sleep,
};

/// What becomes of bytes, and of those who want to connect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Forward,
    Delay(Duration),
    BlackHole,
    Refuse,
}

/// A TCP proxy before one server. It forwards, until it is told otherwise.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens, with the port.
    pub address: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    way: watch::Sender<Way>,
    /// Counts the cuts of everything that stands.
    epoch: watch::Sender<u64>,
    /// The next chunk from the server that is larger than this is delivered so far, and cut.
    inside: Mutex<Option<usize>>,
    standing: AtomicUsize,
    cut: AtomicUsize,
}

impl Proxy {
    /// Forwards to `server`, an address with a port.
    pub async fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let shared = Arc::new(Shared {
            way: watch::Sender::new(Way::Forward),
            epoch: watch::Sender::new(0),
            inside: Mutex::default(),
            standing: AtomicUsize::new(0),
            cut: AtomicUsize::new(0),
        });
        let task = tokio::spawn(accept(listener, server.to_owned(), shared.clone()));
        Self { address, shared, task }
    }

    /// Its address as the one of a Redis.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// All is well again: what was held up goes on.
    pub fn forward(&self) {
        self.shared.way.send_replace(Way::Forward);
    }

    /// Whatever comes from now on comes this much later, in either direction.
    pub fn delay(&self, by: Duration) {
        self.shared.way.send_replace(Way::Delay(by));
    }

    /// Nothing comes through any more, no end either, and nobody is told: packets are lost on their way, and TCP
    /// repeats them once [`Proxy::forward`] lets it.
    pub fn black_hole(&self) {
        self.shared.way.send_replace(Way::BlackHole);
    }

    /// Cuts everything, and whoever connects is cut at once.
    pub fn refuse(&self) {
        self.shared.way.send_replace(Way::Refuse);
        self.cut();
    }

    /// Cuts every connection that stands; how many.
    pub fn cut(&self) -> usize {
        let standing = self.shared.standing.load(Ordering::SeqCst);
        self.shared.epoch.send_modify(|epoch| *epoch += 1);
        standing
    }

    /// Cuts a connection in the middle of a message: the one on which the server next sends more than `bytes` at
    /// once, behind the first `bytes` of it.
    pub fn cut_inside(&self, bytes: usize) {
        *self.shared.inside.lock().expect("no panic under it") = Some(bytes);
    }

    /// Connections that were cut so far.
    pub fn cuts(&self) -> usize {
        self.shared.cut.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, server: String, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        // What has ended is not kept.
        while connections.try_join_next().is_some() {}
        if *shared.way.borrow() != Way::Refuse {
            connections.spawn(serve(client, server.clone(), shared.clone()));
        }
    }
}

async fn serve(client: TcpStream, server: String, shared: Arc<Shared>) {
    let mut epoch = shared.epoch.subscribe();
    let Ok(server) = TcpStream::connect(server).await else { return };
    // Batching would blur what the test does.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    shared.standing.fetch_add(1, Ordering::SeqCst);
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let cut = tokio::select! {
        () = pump(from_client, to_server, &shared, false) => false,
        () = pump(from_server, to_client, &shared, true) => false,
        _ = epoch.changed() => true,
    };
    shared.standing.fetch_sub(1, Ordering::SeqCst);
    if cut {
        shared.cut.fetch_add(1, Ordering::SeqCst);
    }
}

/// Carries bytes until either side ends, or until it is told to cut.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared, from_server: bool) {
    let mut way = shared.way.subscribe();
    let mut chunk = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut chunk).await;
        let now = *way.borrow_and_update();
        if let Way::Delay(by) = now {
            sleep(by).await;
        }
        // An end is lost in a black hole as everything else.
        let _ = way.wait_for(|way| *way != Way::BlackHole).await;
        let Ok(length @ 1..) = read else { return };
        let inside = if from_server { shared.take_inside(length) } else { None };
        if to.write_all(&chunk[..inside.unwrap_or(length)]).await.is_err() {
            return;
        }
        if inside.is_some() {
            shared.cut.fetch_add(1, Ordering::SeqCst);
            return;
        }
    }
}

impl Shared {
    fn take_inside(&self, length: usize) -> Option<usize> {
        self.inside.lock().expect("no panic under it").take_if(|bytes| *bytes < length)
    }
}

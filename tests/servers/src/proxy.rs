//! A network between a replica and Redis that fails on demand.

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

/// What the proxy does with bytes and with new connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Forward,
    Delay(Duration),
    BlackHole,
    Refuse,
}

/// A TCP proxy in front of one server. It forwards until the test chooses another mode.
#[derive(Debug)]
pub struct Proxy {
    /// The address with the port that it listens on.
    pub address: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    way: watch::Sender<Way>,
    /// The number of times that all open connections were cut.
    epoch: watch::Sender<u64>,
    /// The next larger chunk from the server is delivered up to this size; then its connection is cut.
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

    /// The URL of the proxy, as if it were a Redis.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Forwards again. Bytes that were held back are delivered.
    pub fn forward(&self) {
        self.shared.way.send_replace(Way::Forward);
    }

    /// Delays all bytes from now on by this much, in both directions.
    pub fn delay(&self, by: Duration) {
        self.shared.way.send_replace(Way::Delay(by));
    }

    /// Lets nothing through, not even the end of a connection, and reports nothing to either side. As TCP does, the
    /// proxy delivers everything after [`Proxy::forward`].
    pub fn black_hole(&self) {
        self.shared.way.send_replace(Way::BlackHole);
    }

    /// Cuts all connections, and every new one at once.
    pub fn refuse(&self) {
        self.shared.way.send_replace(Way::Refuse);
        self.cut();
    }

    /// Cuts every open connection and returns how many.
    pub fn cut(&self) -> usize {
        let standing = self.shared.standing.load(Ordering::SeqCst);
        self.shared.epoch.send_modify(|epoch| *epoch += 1);
        standing
    }

    /// Cuts a connection in the middle of a message: the next one on which the server sends more than `bytes` at once,
    /// after its first `bytes` bytes.
    pub fn cut_inside(&self, bytes: usize) {
        *self.shared.inside.lock().expect("no panic under it") = Some(bytes);
    }

    /// The number of connections that were cut so far.
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
        // Forget the connections that have ended.
        while connections.try_join_next().is_some() {}
        if *shared.way.borrow() != Way::Refuse {
            connections.spawn(serve(client, server.clone(), shared.clone()));
        }
    }
}

async fn serve(client: TcpStream, server: String, shared: Arc<Shared>) {
    let mut epoch = shared.epoch.subscribe();
    let Ok(server) = TcpStream::connect(server).await else { return };
    // Batching would blur the timing of the test.
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

/// Forwards bytes until either side ends, or until the connection is cut.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared, from_server: bool) {
    let mut way = shared.way.subscribe();
    let mut chunk = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut chunk).await;
        let now = *way.borrow_and_update();
        if let Way::Delay(by) = now {
            sleep(by).await;
        }
        // A black hole hides the end of a connection, too.
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

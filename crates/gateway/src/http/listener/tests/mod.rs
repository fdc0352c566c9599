mod upgrade;

use std::sync::atomic::AtomicUsize;

use axum::{Extension, body::Bytes, routing::get};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinHandle,
};

use super::*;

const REQUEST: &[u8] = b"GET /address HTTP/1.1\r\nhost: localhost\r\n\r\n";
const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(30);

/// A running listener.
struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(handshake: Duration, trusted: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let trusted_proxies = vec![trusted.parse().unwrap()];
        let router = Router::new()
            .route(
                "/address",
                get(|Extension(address): Extension<ClientAddress>| async move { format!("{address:?}") }),
            )
            .route("/body", axum::routing::post(|body: Bytes| async move { format!("{} bytes", body.len()) }));
        let stop = CancellationToken::new();
        let options = ListenOptions { handshake, trusted_proxies };
        let task = tokio::spawn(serve(listener, router, options, stop.clone()));
        Self { address, stop, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// The answer to a connection that starts with `start` and continues with a request.
    async fn ask(&self, start: &[u8]) -> (SocketAddr, String) {
        let mut client = self.connect().await;
        client.write_all(&[start, REQUEST].concat()).await.unwrap();
        (client.local_addr().unwrap(), answer(&mut client).await)
    }
}

/// Reads until the body of the first answer is complete, or the connection ends.
async fn answer(client: &mut TcpStream) -> String {
    let mut received = Vec::new();
    timeout(LONG, async {
        // A reset also counts as the end.
        while client.read_buf(&mut received).await.unwrap_or(0) > 0 {
            let text = String::from_utf8_lossy(&received);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if length.and_then(|length| length.parse().ok()) == Some(body.len()) {
                break;
            }
        }
    })
    .await
    .unwrap();
    String::from_utf8(received).unwrap()
}

/// How long until the server closes the connection.
async fn until_cut(client: &mut TcpStream) -> Duration {
    let started = Instant::now();
    timeout(LONG, async { while client.read_buf(&mut Vec::new()).await.unwrap_or(0) > 0 {} }).await.unwrap();
    started.elapsed()
}

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &(body.len() as u16).to_be_bytes(), body].concat()
}

#[tokio::test]
async fn a_request_knows_its_peer() {
    let server = Server::start(LONG, "192.0.2.0/24").await;
    let (peer, answer) = server.ask(b"").await;
    assert!(answer.ends_with(&format!("{:?}", ClientAddress { peer, via: None })), "{answer}");
}

#[tokio::test]
async fn proxy_headers_of_trusted_peers_are_read() {
    let server = Server::start(LONG, "127.0.0.0/8").await;
    let four = [192, 0, 2, 7, 10, 0, 0, 1, 0x13, 0x88, 0, 80];
    for (header, via) in [
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 5000 80\r\n".to_vec(), Some("192.0.2.7:5000")),
        (b"PROXY TCP6 2001:db8::7 ::1 5000 80\r\n".to_vec(), Some("[2001:db8::7]:5000")),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (v2(0x21, 0x11, &four), Some("192.0.2.7:5000")),
        (v2(0x21, 0x11, &[&four[..], &[4; 100]].concat()), Some("192.0.2.7:5000")),
        (v2(0x20, 0, &[]), None),
        (Vec::new(), None),
    ] {
        let (peer, answer) = server.ask(&header).await;
        let expected = ClientAddress { peer, via: via.map(|via| via.parse().unwrap()) };
        assert!(answer.ends_with(&format!("{expected:?}")), "{answer}");
        assert_eq!(expected.nearest(), expected.via.unwrap_or(peer));
    }
}

#[tokio::test]
async fn a_proxy_header_in_several_packets_is_read() {
    let server = Server::start(LONG, "127.0.0.0/8").await;
    let four = [192, 0, 2, 7, 10, 0, 0, 1, 0x13, 0x88, 0, 80];
    for header in [b"PROXY TCP4 192.0.2.7 10.0.0.1 5000 80\r\n".to_vec(), v2(0x21, 0x11, &four)] {
        let mut client = server.connect().await;
        client.set_nodelay(true).unwrap();
        for byte in [&header[..], REQUEST].concat() {
            client.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let answer = answer(&mut client).await;
        assert!(answer.contains("via: Some(192.0.2.7:5000)"), "{answer}");
    }
}

#[tokio::test]
async fn proxy_headers_of_untrusted_peers_are_ignored() {
    let server = Server::start(LONG, "192.0.2.0/24").await;
    for header in [b"PROXY TCP4 192.0.2.7 10.0.0.1 5000 80\r\n".to_vec(), v2(0x21, 0x11, &[9; 12])] {
        let (_, answer) = server.ask(&header).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
}

#[tokio::test]
async fn malformed_proxy_headers_end_the_connection() {
    let server = Server::start(LONG, "127.0.0.0/8").await;
    let too_long = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat();
    for header in [b"PROXY nonsense\r\n".to_vec(), too_long, v2(0x31, 0x11, &[0; 12]), v2(0x21, 0x11, &[0; 5000])] {
        let (_, answer) = server.ask(&header).await;
        assert_eq!(answer, "");
    }
}

#[tokio::test]
async fn an_incomplete_request_is_closed_after_the_handshake_time() {
    let server = Server::start(SHORT, "127.0.0.0/8").await;
    for half in [&b""[..], b"PROX", b"PROXY TCP4 ", b"\r\n\r\n\0\r\nQUIT\n!", &REQUEST[..20]] {
        let mut client = server.connect().await;
        client.write_all(half).await.unwrap();
        let cut = until_cut(&mut client).await;
        assert!(cut >= SHORT / 2 && cut < LONG / 3, "{half:?}: {cut:?}");
    }
}

#[tokio::test]
async fn slowly_arriving_bytes_do_not_extend_the_handshake_time() {
    let server = Server::start(SHORT, "192.0.2.0/24").await;
    let (mut reader, mut writer) = server.connect().await.into_split();
    let dripping = tokio::spawn(async move {
        let mut tick = tokio::time::interval(SHORT / 10);
        writer.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
        while writer.write_all(b"x").await.is_ok() {
            tick.tick().await;
        }
    });
    let ended = timeout(LONG / 3, async { while reader.read_buf(&mut Vec::new()).await.unwrap_or(0) > 0 {} });
    ended.await.unwrap();
    dripping.abort();
}

#[tokio::test]
async fn an_idle_connection_is_kept_for_the_handshake_time_and_no_longer() {
    let server = Server::start(SHORT, "192.0.2.0/24").await;
    let mut client = server.connect().await;
    for _ in 0..2 {
        client.write_all(REQUEST).await.unwrap();
        assert!(answer(&mut client).await.starts_with("HTTP/1.1 200 "));
    }
    let cut = until_cut(&mut client).await;
    assert!(cut >= SHORT / 2 && cut < LONG / 3, "{cut:?}");
}

#[tokio::test]
async fn a_head_over_the_limit_is_refused() {
    let server = Server::start(LONG, "192.0.2.0/24").await;
    for (size, status) in [(MAX_HEAD - 200, "200"), (MAX_HEAD + 1, "431")] {
        let mut client = server.connect().await;
        let head = format!("GET /address HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "x".repeat(size));
        client.write_all(head.as_bytes()).await.unwrap();
        assert!(answer(&mut client).await.starts_with(&format!("HTTP/1.1 {status} ")));
    }
}

#[tokio::test]
async fn after_stop_requests_in_flight_are_answered_and_nothing_is_accepted() {
    let server = Server::start(LONG, "192.0.2.0/24").await;
    let mut idle = server.connect().await;
    idle.write_all(REQUEST).await.unwrap();
    answer(&mut idle).await;
    let mut busy = server.connect().await;
    busy.write_all(b"POST /body HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n")
        .await
        .unwrap();
    let mut interim = [0; 25];
    busy.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");

    server.stop.cancel();
    assert!(until_cut(&mut idle).await < LONG / 3);
    assert!(TcpStream::connect(server.address).await.is_err(), "the port is closed");
    assert!(!server.task.is_finished());
    busy.write_all(b"four").await.unwrap();
    assert!(answer(&mut busy).await.ends_with("4 bytes"));
    timeout(LONG, server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_connection_without_a_request_does_not_hold_up_the_stop() {
    let server = Server::start(LONG, "192.0.2.0/24").await;
    // A browser's spare connection. The answer on the other one shows that both were accepted.
    let _spare = server.connect().await;
    server.ask(b"").await;
    server.stop.cancel();
    timeout(LONG / 3, server.task).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn failing_accepts_pause_and_are_logged_once_a_minute() {
    let calls = AtomicUsize::new(0);
    let out_of_files = || async {
        calls.fetch_add(1, Ordering::Relaxed);
        Err(io::Error::other("too many open files"))
    };
    let stop = CancellationToken::new();
    let mut failures = AcceptFailures::default();
    let minutes = timeout(Duration::from_secs(150), next_connection(out_of_files, &mut failures, &stop));
    assert!(minutes.await.is_err(), "never accepts");
    let calls = calls.into_inner() as u64;
    assert!((140..170).contains(&calls), "{calls} calls in 150 s");
    assert!((25..40).contains(&failures.unreported), "logged at 0, 60 and 120 s: {}", failures.unreported);
    assert_eq!(failures.pause, PAUSES.1);

    stop.cancel();
    assert!(next_connection(out_of_files_never, &mut failures, &stop).await.is_none());
}

async fn out_of_files_never() -> io::Result<(TcpStream, SocketAddr)> {
    std::future::pending().await
}

#[tokio::test]
async fn an_aborted_connection_does_not_delay_the_next() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let calls = AtomicUsize::new(0);
    let accept = || async {
        match calls.fetch_add(1, Ordering::Relaxed) {
            0 => Err(io::ErrorKind::ConnectionAborted.into()),
            _ => listener.accept().await,
        }
    };
    let mut failures = AcceptFailures::default();
    assert!(next_connection(accept, &mut failures, &CancellationToken::new()).await.is_some());
    assert_eq!(failures.unreported, 0);
    assert!(failures.reported.is_none());
}

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket},
    time::Instant,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self,
        protocol::{
            Role,
            frame::{
                Frame,
                coding::{Data, OpCode},
            },
        },
    },
};

use super::*;
use crate::{CloseCode, ping_frame, pong_frame, text_frame};

const LIMIT: usize = 1 << 20;

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A socket and the bare stream of its client.
async fn raw_pair() -> (Socket, TcpStream) {
    let (listener, address) = listener().await;
    let client = TcpStream::connect(address).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    (Socket::new(server, LIMIT, Bytes::new()), client)
}

/// A socket and tungstenite as its client.
async fn pair() -> (Socket, WebSocketStream<TcpStream>) {
    let (server, client) = raw_pair().await;
    (server, WebSocketStream::from_raw_socket(client, Role::Client, None).await)
}

impl Socket {
    async fn message(&mut self) -> Option<Result<Message, ProtocolError>> {
        poll_fn(|cx| self.poll_message(cx)).await
    }

    async fn flush(&mut self) {
        poll_fn(|cx| self.poll_flush(cx)).await.unwrap();
    }
}

fn fragment(text: &str, opcode: OpCode, last: bool) -> tungstenite::Message {
    tungstenite::Message::Frame(Frame::message(text.as_bytes().to_vec(), opcode, last))
}

#[tokio::test]
async fn reads_what_tungstenite_sends() {
    let (mut server, mut client) = pair().await;
    let big = "x".repeat(LIMIT);
    let sent = big.clone();
    let sender = tokio::spawn(async move {
        client.send(tungstenite::Message::text("hello")).await.unwrap();
        client.send(fragment("one ", OpCode::Data(Data::Text), false)).await.unwrap();
        client.send(tungstenite::Message::Ping(Bytes::from_static(b"p"))).await.unwrap();
        client.send(fragment("two", OpCode::Data(Data::Continue), true)).await.unwrap();
        client.send(tungstenite::Message::text(sent)).await.unwrap();
        client.close(None).await.unwrap();
        client
    });
    assert_eq!(server.message().await, Some(Ok(Message::Text("hello".into()))));
    assert_eq!(server.message().await, Some(Ok(Message::Ping(Bytes::from_static(b"p")))));
    assert_eq!(server.message().await, Some(Ok(Message::Text("one two".into()))));
    assert!(server.message().await == Some(Ok(Message::Text(big))), "1 MiB");
    assert_eq!(server.message().await, Some(Ok(Message::Close(None))));
    drop(sender.await.unwrap());
    assert_eq!(server.message().await, None, "the end of the stream");
}

#[tokio::test]
async fn decoder_errors_are_returned() {
    for (message, code) in [
        (tungstenite::Message::binary(&b"\xFF"[..]), 1003),
        (tungstenite::Message::text("x".repeat(LIMIT + 1)), 1009),
        (tungstenite::Message::Frame(Frame::message(vec![0xFF], OpCode::Data(Data::Text), true)), 1007),
        (fragment("x", OpCode::Data(Data::Continue), true), 1002),
    ] {
        let (mut server, mut client) = pair().await;
        let sender = tokio::spawn(async move { client.send(message).await });
        let error = server.message().await.unwrap().unwrap_err();
        assert_eq!(error.close_code().number(), code);
        sender.abort();
    }
}

#[tokio::test]
async fn bytes_that_came_with_the_request_are_read_first() {
    let (listener, address) = listener().await;
    let mut client = TcpStream::connect(address).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let masked = |text: &[u8; 2]| [0x81, 0x82, 0, 0, 0, 0, text[0], text[1]];
    let leftover = [&masked(b"ab")[..], &masked(b"cd"), &masked(b"ef")[..7]].concat();
    let mut server = Socket::new(stream, LIMIT, leftover.into());
    client.write_all(b"f").await.unwrap();
    for expected in ["ab", "cd", "ef"] {
        assert_eq!(server.message().await, Some(Ok(Message::Text(expected.into()))));
    }
    assert!(server.arriving.is_none());
}

#[tokio::test]
async fn an_idle_socket_owns_no_buffer() {
    let (mut server, mut client) = pair().await;
    for number in 0..100 {
        server.queue(text_frame(b"event"));
        client.feed(tungstenite::Message::text(number.to_string())).await.unwrap();
    }
    client.flush().await.unwrap();
    for number in 0..100 {
        assert_eq!(server.message().await, Some(Ok(Message::Text(number.to_string()))));
    }
    server.flush().await;
    let waiting = poll_fn(|cx| Poll::Ready(server.poll_message(cx).is_pending())).await;
    assert!(waiting && server.arriving.is_none());
    server.give_back_queue(&mut None);
    assert!(server.queue.is_none());
    assert!(size_of::<Socket>() <= 96, "{}", size_of::<Socket>());
}

#[tokio::test]
async fn writes_what_tungstenite_reads() {
    let (mut server, mut client) = pair().await;
    for frame in [text_frame(b"one"), ping_frame(b"two"), pong_frame(b"three"), text_frame("vier é".as_bytes())] {
        server.queue(frame);
    }
    assert_eq!((server.queued_frames(), server.queued_bytes()), (4, 5 + 5 + 7 + 9));
    server.flush().await;
    assert_eq!((server.queued_frames(), server.queued_bytes(), server.written_bytes()), (0, 0, 26));
    assert_eq!(client.next().await.unwrap().unwrap(), tungstenite::Message::text("one"));
    assert_eq!(client.next().await.unwrap().unwrap(), tungstenite::Message::Ping(Bytes::from_static(b"two")));
    assert_eq!(client.next().await.unwrap().unwrap(), tungstenite::Message::Pong(Bytes::from_static(b"three")));
    assert_eq!(client.next().await.unwrap().unwrap(), tungstenite::Message::text("vier é"));
}

#[tokio::test]
async fn flushing_waits_for_a_slow_reader_which_gets_everything_in_order() {
    const FRAMES: usize = 5000;
    let (listener, address) = listener().await;
    let connector = TcpSocket::new_v4().unwrap();
    connector.set_recv_buffer_size(4096).unwrap();
    let client = connector.connect(address).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let mut server = Socket::new(stream, LIMIT, Bytes::new());
    let mut total = 0;
    for number in 0..FRAMES {
        let frame = text_frame(format!("{number}:{}", "x".repeat(number % 4000)).as_bytes());
        total += frame.len();
        server.queue(frame);
    }

    let stuck = poll_fn(|cx| Poll::Ready(server.poll_flush(cx).is_pending())).await;
    assert!(stuck && server.queued_bytes() > 0);
    assert_eq!(server.written_bytes() as usize + server.queued_bytes(), total);

    let reader = tokio::spawn(async move {
        let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        for number in 0..FRAMES {
            let expected = format!("{number}:{}", "x".repeat(number % 4000));
            assert_eq!(client.next().await.unwrap().unwrap(), tungstenite::Message::text(expected));
        }
    });
    server.flush().await;
    reader.await.unwrap();
    assert_eq!((server.written_bytes() as usize, server.queued_bytes(), server.queued_frames()), (total, 0, 0));
    // Another socket has used the thread's queue in the meantime: this socket still keeps none.
    let mut lent = Some(Box::default());
    server.lend_queue(&mut lent);
    assert!(lent.is_some(), "the socket has a queue of its own");
    server.give_back_queue(&mut lent);
    assert!(server.queue.is_none() && lent.is_some(), "a burst's memory is given back");
}

#[tokio::test]
async fn flushing_to_a_dead_peer_fails() {
    let (mut server, client) = raw_pair().await;
    client.set_zero_linger().unwrap();
    drop(client);
    assert_eq!(server.message().await, None);
    let failed = async {
        loop {
            server.queue(text_frame(b"x"));
            if poll_fn(|cx| server.poll_flush(cx)).await.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), failed).await.unwrap();
}

#[tokio::test]
async fn closing_sends_the_queue_then_the_code_and_reason() {
    let (mut server, mut client) = pair().await;
    server.queue(text_frame(b"last words"));
    let started = Instant::now();
    let closing = tokio::spawn(server.close(CloseCode::Unauthorized, "token expired: get a new one"));
    assert_eq!(client.next().await.unwrap().unwrap(), tungstenite::Message::text("last words"));
    let tungstenite::Message::Close(Some(close)) = client.next().await.unwrap().unwrap() else { panic!() };
    assert_eq!((u16::from(close.code), close.reason.as_str()), (4401, "token expired: get a new one"));
    assert!(client.next().await.is_none());
    assert!(started.elapsed() < LINGER / 2, "an answered close ends the connection at once");
    drop(client);
    closing.await.unwrap();
}

/// If the server stopped reading, the kernel would answer what the client still sends with a reset, and the code would
/// be lost.
#[tokio::test]
async fn the_code_reaches_a_client_that_keeps_sending() {
    let (mut server, mut client) = raw_pair().await;
    client.write_all(&[0x82, 0x81, 0, 0, 0, 0, 0xFF]).await.unwrap();
    let error = server.message().await.unwrap().unwrap_err();
    let closing = tokio::spawn(server.close(error.close_code(), error.close_code().reason()));
    // Far more than both kernels' buffers hold.
    let junk = vec![b'j'; 64 * 1024];
    for _ in 0..256 {
        client.write_all(&junk).await.unwrap();
    }
    client.shutdown().await.unwrap();
    closing.await.unwrap();
    let mut received = Vec::new();
    client.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, close_frame(1003, CloseCode::Binary.reason()));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_closes_is_dropped_after_five_seconds() {
    let (server, client) = raw_pair().await;
    let started = Instant::now();
    server.close(CloseCode::GoingAway, "").await;
    assert_eq!(started.elapsed().as_secs(), 5);
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_is_dropped_after_five_seconds() {
    let (mut server, client) = raw_pair().await;
    for _ in 0..20_000 {
        server.queue(text_frame(&[b'x'; 1000]));
    }
    let started = Instant::now();
    server.close(CloseCode::Stalled, "").await;
    assert_eq!(started.elapsed().as_secs(), 5);
    drop(client);
}

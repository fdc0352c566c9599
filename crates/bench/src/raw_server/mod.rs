//! The raw write loop: the most that this machine and its kernel can do with one thread.
//!
//! The loop subscribes over one connection to Redis and groups the messages of each read by channel. It builds the
//! frames of a channel once and writes them with one call per socket. There are no tokens, limits or history. The path
//! of a socket's request names its channel: `/graph:c1`.

mod client;
mod feed;

use std::{collections::HashMap, io::ErrorKind, net::SocketAddr, time::Duration};

use anyhow::Result;
use mio::{Events, Interest, Poll, Token, net::TcpListener};

use socket2::{Domain, Type};

use client::Client;
use feed::Feed;

const LISTENER: Token = Token(usize::MAX);
const FEED: Token = Token(usize::MAX - 1);
/// How often sockets with full buffers are retried.
const RETRY: Duration = Duration::from_millis(1);

/// Connections that may wait to be accepted. The system applies its own limit as well.
const BACKLOG: i32 = 65_535;

/// A channel: its sockets, and the frames of the current batch.
#[derive(Default)]
struct Channel {
    clients: Vec<Client>,
    frames: Vec<u8>,
}

struct WriteLoop {
    poll: Poll,
    listener: TcpListener,
    feed: Feed,
    /// Connections whose request is still incomplete.
    newcomers: HashMap<usize, Client>,
    next: usize,
    numbers: HashMap<Vec<u8>, usize>,
    channels: Vec<Channel>,
    touched: Vec<usize>,
    waiting: usize,
}

/// Listens on `address` until the process ends. Prints `ready` on standard output when listening.
///
/// # Errors
/// If Redis cannot be reached, or closes the connection.
pub fn serve(address: SocketAddr, redis: SocketAddr) -> Result<()> {
    let poll = Poll::new()?;
    let mut listener = listen(address)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let feed = Feed::connect(redis, poll.registry(), FEED)?;
    let mut server = WriteLoop {
        poll,
        listener,
        feed,
        newcomers: HashMap::new(),
        next: 0,
        numbers: HashMap::new(),
        channels: Vec::new(),
        touched: Vec::new(),
        waiting: 0,
    };
    println!("ready");
    let mut events = Events::with_capacity(1024);
    loop {
        server.turn(&mut events)?;
    }
}

/// A listener with a backlog large enough for a storm of connections.
fn listen(address: SocketAddr) -> Result<TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

impl WriteLoop {
    fn turn(&mut self, events: &mut Events) -> Result<()> {
        let longest = if self.waiting > 0 { Some(RETRY) } else { None };
        match self.poll.poll(events, longest) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &*events {
            match event.token() {
                LISTENER => self.accept()?,
                FEED => self.deliver()?,
                Token(newcomer) => self.welcome(newcomer)?,
            }
        }
        if self.waiting > 0 {
            self.retry();
        }
        Ok(())
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            match self.listener.accept() {
                Ok((mut stream, _)) => {
                    stream.set_nodelay(true)?;
                    self.poll.registry().register(&mut stream, Token(self.next), Interest::READABLE)?;
                    self.newcomers.insert(self.next, Client::new(stream));
                    self.welcome(self.next)?;
                    self.next += 1;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads a newcomer's request. Once the request is complete, the socket leaves the poll and joins its channel.
    fn welcome(&mut self, newcomer: usize) -> Result<()> {
        let Some(client) = self.newcomers.get_mut(&newcomer) else { return Ok(()) };
        let Some(channel) = client.requested() else {
            if client.is_gone() {
                self.newcomers.remove(&newcomer);
            }
            return Ok(());
        };
        let Some(mut client) = self.newcomers.remove(&newcomer) else { return Ok(()) };
        client.accept(self.poll.registry())?;
        let number = match self.numbers.get(&channel) {
            Some(number) => *number,
            None => {
                self.feed.subscribe(&channel)?;
                self.numbers.insert(channel, self.channels.len());
                self.channels.push(Channel::default());
                self.channels.len() - 1
            }
        };
        self.channels[number].clients.push(client);
        Ok(())
    }

    /// Reads what Redis has sent, batch by batch, and writes it to sockets.
    fn deliver(&mut self) -> Result<()> {
        loop {
            let (numbers, channels, touched) = (&self.numbers, &mut self.channels, &mut self.touched);
            let more = self.feed.read(|name, payload| {
                let Some(number) = numbers.get(name) else { return };
                let channel = &mut channels[*number];
                if channel.frames.is_empty() {
                    touched.push(*number);
                }
                crate::wire::frame::push(&mut channel.frames, crate::wire::frame::TEXT, payload);
            })?;
            for number in self.touched.drain(..) {
                let Channel { clients, frames } = &mut self.channels[number];
                for client in clients.iter_mut() {
                    let waited = client.waits();
                    client.send(frames);
                    self.waiting += usize::from(client.waits() && !waited);
                }
                clients.retain(|client| !client.is_gone());
                frames.clear();
            }
            if !more {
                return Ok(());
            }
        }
    }

    fn retry(&mut self) {
        self.waiting = 0;
        for client in self.channels.iter_mut().flat_map(|channel| &mut channel.clients) {
            client.send(&[]);
            self.waiting += usize::from(client.waits());
        }
    }
}

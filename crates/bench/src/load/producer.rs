use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use crewcast_publisher::Publisher;
use mio::{Registry, Token};
use tokio::runtime::Runtime;

use super::{Load, event::Template, pipe::Pipe};
use crate::{
    protocol::{Protocol, Via},
    wire::mark::Mark,
};

/// Large enough for every event of a burst: dropped events are not what is measured.
const QUEUE_EVENTS: usize = 1_000_000;
const QUEUE_BYTES: usize = 1 << 30;

/// Makes and publishes events.
pub(crate) struct Producer {
    protocol: Arc<dyn Protocol>,
    channels: Vec<Source>,
    route: Route,
    /// Events published so far.
    pub(crate) published: u64,
}

struct Source {
    templates: Vec<Template>,
    next: u64,
    logged: String,
}

enum Route {
    Pipes(Vec<Pipe>),
    Logged {
        publisher: Publisher,
        /// Runs the publisher's task.
        _runtime: Runtime,
    },
}

impl Producer {
    /// Connections get tokens from `first` on.
    pub(crate) fn new(
        load: &Load,
        protocol: Arc<dyn Protocol>,
        address: SocketAddr,
        registry: &Registry,
        first: usize,
    ) -> Result<Self> {
        let route = if load.logged { logged(address)? } else { pipes(&*protocol, address, registry, first)? };
        let source = |channel| Source {
            templates: load.body.templates(channel),
            next: 0,
            logged: protocol.logged_channel(channel).unwrap_or_default(),
        };
        let channels = (0..load.channels).map(source).collect();
        Ok(Self { protocol, channels, route, published: 0 })
    }

    /// The number of the channel's next event.
    pub(crate) fn next(&self, channel: usize) -> u64 {
        self.channels[channel].next
    }

    /// Queues the channel's next event, due at `time`, and returns its number. [`Producer::flush`] writes the event.
    pub(crate) fn publish(&mut self, channel: usize, time: u64) -> Result<u64> {
        let source = &mut self.channels[channel];
        let number = source.next;
        source.next += 1;
        self.published += 1;
        let turn = number as usize % source.templates.len();
        let event = source.templates[turn].marked(Mark { number, time });
        match &mut self.route {
            Route::Pipes(pipes) => {
                let pipe = self.protocol.connection(channel, pipes.len());
                self.protocol.publish(channel, event, pipes[pipe].out());
            }
            Route::Logged { publisher, .. } => publisher.publish_raw(&source.logged, event.to_vec())?,
        }
        Ok(number)
    }

    /// Writes as much as the connections accept.
    pub(crate) fn flush(&mut self) -> Result<()> {
        match &mut self.route {
            Route::Pipes(pipes) => pipes.iter_mut().try_for_each(Pipe::flush),
            Route::Logged { .. } => Ok(()),
        }
    }

    /// Reads and discards the answers of a connection.
    pub(crate) fn discard(&mut self, pipe: usize, buffer: &mut Vec<u8>) -> Result<()> {
        match &mut self.route {
            Route::Pipes(pipes) => pipes.get_mut(pipe).map_or(Ok(()), |pipe| pipe.discard(buffer)),
            Route::Logged { .. } => Ok(()),
        }
    }

    /// Events that the publisher has not sent yet.
    pub(crate) fn queued(&self) -> usize {
        match &self.route {
            Route::Pipes(_) => 0,
            Route::Logged { publisher, .. } => publisher.queued(),
        }
    }

    /// Events that were sent, as far as the producer knows.
    pub(crate) fn sent(&self) -> u64 {
        match &self.route {
            Route::Pipes(_) => self.published,
            Route::Logged { publisher, .. } => publisher.stats().published,
        }
    }

    /// The last answer or the counters, for messages about events that do not arrive.
    pub(crate) fn last_answer(&self) -> String {
        match &self.route {
            Route::Pipes(pipes) => pipes.first().map(Pipe::last_answer).unwrap_or_default(),
            Route::Logged { publisher, .. } => format!("{:?}", publisher.stats()),
        }
    }
}

fn pipes(protocol: &dyn Protocol, address: SocketAddr, registry: &Registry, first: usize) -> Result<Route> {
    let (addresses, preamble) = match protocol.publish_over() {
        Via::Redis => (vec![address], Vec::new()),
        Via::Cluster(masters) => (masters, Vec::new()),
        Via::Tcp { connections, preamble } => (vec![address; connections], preamble),
    };
    let open = |(n, address)| Pipe::open(registry, Token(first + n), address, &preamble);
    Ok(Route::Pipes(addresses.into_iter().enumerate().map(open).collect::<Result<_>>()?))
}

fn logged(redis: SocketAddr) -> Result<Route> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let builder = Publisher::builder().queue_events(QUEUE_EVENTS).queue_bytes(QUEUE_BYTES);
    let publisher = runtime
        .block_on(async {
            tokio::time::timeout(Duration::from_secs(5), builder.connect(&format!("redis://{redis}"))).await
        })
        .context("Redis does not answer the publisher")??;
    Ok(Route::Logged { publisher, _runtime: runtime })
}

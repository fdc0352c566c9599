//! The client and what one asks it for.

use std::{fmt, future::Future, io, pin::Pin, sync::Arc};

use crewcast_events::{BadChannel, Channel};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use url::Url;

use crate::{
    endpoint::{self, Endpoint, Start},
    error::ClientError,
    subscription::Subscription,
    token::{Source, TokenError},
};

/// A byte stream to a gateway.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

pub(crate) type Dialing = Pin<Box<dyn Future<Output = io::Result<Box<dyn Io>>> + Send>>;
/// Opens a byte stream to a host and port.
pub(crate) type Dial = Arc<dyn Fn(String, u16) -> Dialing + Send + Sync>;

/// Opens subscriptions to one gateway. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    pub(crate) settings: Arc<Settings>,
}

/// What every subscription of a client shares.
pub(crate) struct Settings {
    pub(crate) gateway: Url,
    pub(crate) source: Source,
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
    pub(crate) dial: Dial,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("gateway", &self.settings.gateway.as_str()).finish_non_exhaustive()
    }
}

/// Builds a [`Client`].
pub struct ClientBuilder {
    url: String,
    source: Source,
    tls: Option<Arc<rustls::ClientConfig>>,
    dial: Dial,
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder").field("url", &self.url).finish_non_exhaustive()
    }
}

impl ClientBuilder {
    /// The JWT of every socket. Where it may expire while a subscription lives, use
    /// [`ClientBuilder::token_source`].
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.source = Source::Fixed(token.into());
        self
    }

    /// Asks for a JWT when one is needed: for the first socket, shortly before the one in use expires (as
    /// its `exp` says; the fresh one is sent over the open socket), and when the gateway refused it (4401).
    /// An error is treated as a lost connection: it is told, and tried again with backoff.
    #[must_use]
    pub fn token_source<F, Fut, E>(mut self, source: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<TokenError>,
    {
        self.source = Source::asking(source);
        self
    }

    /// TLS settings for `https` and `wss`, for example with a private certificate authority. Without,
    /// Mozilla's root certificates count.
    #[must_use]
    pub fn tls(mut self, config: Arc<rustls::ClientConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    #[cfg(test)]
    pub(crate) fn dial(mut self, dial: Dial) -> Self {
        self.dial = dial;
        self
    }

    /// The client. Nothing is connected yet.
    ///
    /// # Errors
    /// [`ClientError::Url`] when the address is none of a gateway.
    pub fn build(self) -> Result<Client, ClientError> {
        let gateway = endpoint::gateway(&self.url)?;
        if gateway.scheme() == "wss" && self.tls.is_none() && rustls::crypto::CryptoProvider::get_default().is_none() {
            // Without a choice rustls panics when it meets two providers. Losing a race is fine: one is installed.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let settings = Settings { gateway, source: self.source, tls: self.tls, dial: self.dial };
        Ok(Client { settings: Arc::new(settings) })
    }
}

impl Client {
    /// A client of the gateway at this address: `https://host[:port][/prefix]`, or `http`, `ws`, `wss`.
    pub fn builder(url: impl Into<String>) -> ClientBuilder {
        let dial: Dial = Arc::new(|host, port| {
            Box::pin(async move {
                let stream = TcpStream::connect((host.as_str(), port)).await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream) as Box<dyn Io>)
            })
        });
        ClientBuilder { url: url.into(), source: Source::None, tls: None, dial }
    }

    /// One run, from its first event unless [`Request::since`] says more; ends when the run has ended.
    pub fn run(&self, run: &str) -> Request {
        self.request(Endpoint::run(run))
    }

    /// The tool events of one crew: live, unless [`Request::since`] says more. Where nothing may be missed, say
    /// it: until it knows its position a live subscription that is cut goes on live.
    pub fn graph(&self, crew: &str) -> Request {
        self.request(Endpoint::graph(crew))
    }

    /// The tool events of every crew that the token grants, over one socket: live after a cut.
    pub fn graphs(&self) -> Request {
        self.request(Ok(Endpoint::Graphs))
    }

    /// The status of every crew that the token grants, over one socket. Each connection begins with the
    /// last signal of each crew, so that nothing but intermediate states is missed.
    pub fn missions(&self) -> Request {
        self.request(Ok(Endpoint::Mission))
    }

    /// Any channels over one socket, and where each starts: live with [`Start::Default`]. Each is resumed behind its own
    /// position. At most as many as the gateway's `limits.subscriptions`, 256 by default; one that is named twice
    /// starts as it was named last. A channel that is refused is told with [`crate::Delivery::Refused`], and the
    /// others go on.
    pub fn stream(&self, channels: impl IntoIterator<Item = (Channel, Start)>) -> Request {
        Request { channels: channels.into_iter().collect(), ..self.request(Ok(Endpoint::Stream)) }
    }

    fn request(&self, endpoint: Result<Endpoint, BadChannel>) -> Request {
        Request { client: self.clone(), endpoint, start: Start::Default, types: Vec::new(), channels: Vec::new() }
    }
}

/// A subscription to be.
#[derive(Clone, Debug)]
#[must_use = "nothing happens before connect()"]
pub struct Request {
    pub(crate) client: Client,
    pub(crate) endpoint: Result<Endpoint, BadChannel>,
    pub(crate) start: Start,
    pub(crate) types: Vec<String>,
    /// Of [`Client::stream`].
    pub(crate) channels: Vec<(Channel, Start)>,
}

impl Request {
    /// Where to start: an [`crewcast_events::EventId`] that was seen last, or [`Start::Beginning`]. Without effect
    /// on sockets that carry several channels; those of [`Client::stream`] have each their own start.
    pub fn since(mut self, start: impl Into<Start>) -> Self {
        self.start = start.into();
        self
    }

    /// Only events of these types.
    pub fn types(mut self, types: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.types = types.into_iter().map(Into::into).collect();
        self
    }

    /// The channel, where it is one.
    pub fn channel(&self) -> Option<&Channel> {
        self.endpoint.as_ref().ok().and_then(Endpoint::channel)
    }

    /// Every channel whose positions are kept, and where it starts.
    pub(crate) fn starts(&self) -> Vec<(Channel, Start)> {
        match &self.endpoint {
            Ok(Endpoint::Stream) => self.channels.clone(),
            Ok(endpoint) => endpoint.channel().map(|channel| (channel.clone(), self.start)).into_iter().collect(),
            Err(_) => Vec::new(),
        }
    }

    /// Begins to connect in a task of its own, which ends with the subscription. Needs a tokio runtime.
    pub fn connect(self) -> Subscription {
        Subscription::begin(self)
    }
}

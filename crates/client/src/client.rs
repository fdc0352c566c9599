//! The client, its builder, and the subscriptions that it can request.

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
    token::{TokenError, TokenSource},
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

/// The settings that all subscriptions of a client share.
pub(crate) struct Settings {
    pub(crate) gateway: Url,
    pub(crate) source: TokenSource,
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
    source: TokenSource,
    tls: Option<Arc<rustls::ClientConfig>>,
    dial: Dial,
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder").field("url", &self.url).finish_non_exhaustive()
    }
}

impl ClientBuilder {
    /// Sets the JWT for every socket.
    ///
    /// If the token may expire while a subscription lives, use [`ClientBuilder::token_source`].
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.source = TokenSource::Fixed(token.into());
        self
    }

    /// Sets a function that provides a JWT when one is needed.
    ///
    /// The client calls it for the first socket, shortly before the current token expires (by its `exp`), and after
    /// the gateway has refused a token (4401). A renewed token is sent over the open socket. An error counts as a lost
    /// connection: the client reports [`Delivery::Disconnected`](crate::Delivery::Disconnected) and retries with
    /// backoff.
    #[must_use]
    pub fn token_source<F, Fut, E>(mut self, source: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<TokenError>,
    {
        self.source = TokenSource::from_fn(source);
        self
    }

    /// Sets the TLS configuration for `https` and `wss`, for example with a private certificate authority.
    ///
    /// By default the client trusts Mozilla's root certificates.
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

    /// Builds the client. It does not connect yet.
    ///
    /// # Errors
    /// [`ClientError::Url`] when the address cannot be the address of a gateway.
    pub fn build(self) -> Result<Client, ClientError> {
        let gateway = endpoint::gateway(&self.url)?;
        if gateway.scheme() == "wss" && self.tls.is_none() && rustls::crypto::CryptoProvider::get_default().is_none() {
            // rustls panics if two providers are compiled in and none is chosen. Losing this race is fine.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let settings = Settings { gateway, source: self.source, tls: self.tls, dial: self.dial };
        Ok(Client { settings: Arc::new(settings) })
    }
}

impl Client {
    /// Starts a client of the gateway at `url`: `https://host[:port][/prefix]`.
    ///
    /// The scheme is `https`, `http`, `wss` or `ws`.
    pub fn builder(url: impl Into<String>) -> ClientBuilder {
        let dial: Dial = Arc::new(|host, port| {
            Box::pin(async move {
                let stream = TcpStream::connect((host.as_str(), port)).await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream) as Box<dyn Io>)
            })
        });
        ClientBuilder { url: url.into(), source: TokenSource::None, tls: None, dial }
    }

    /// Requests one run, from its first event unless [`Request::since`] says otherwise.
    ///
    /// The subscription ends when the run has ended.
    pub fn run(&self, run: &str) -> Request {
        self.request(Endpoint::run(run))
    }

    /// Requests the tool events of one crew: live, unless [`Request::since`] says otherwise.
    ///
    /// If you must not miss an event, call [`Request::since`]: a live subscription that loses its connection before it
    /// knows its position goes on live.
    pub fn graph(&self, crew: &str) -> Request {
        self.request(Endpoint::graph(crew))
    }

    /// Requests the tool events of every crew that the token grants, over one socket.
    ///
    /// After a lost connection the subscription goes on live.
    pub fn graphs(&self) -> Request {
        self.request(Ok(Endpoint::Graphs))
    }

    /// Requests the status of every crew that the token grants, over one socket.
    ///
    /// Each connection begins with the last signal of each crew, so only intermediate states can be missed.
    pub fn missions(&self) -> Request {
        self.request(Ok(Endpoint::Mission))
    }

    /// Requests any channels over one socket, each with its start. [`Start::Default`] is live.
    ///
    /// Each channel resumes after its own position. The gateway's `limits.subscriptions`, 256 by default, bounds the
    /// number of channels. If a channel appears twice, its last start counts. For a refused channel you get
    /// [`Delivery::Refused`](crate::Delivery::Refused), and the others go on.
    pub fn stream(&self, channels: impl IntoIterator<Item = (Channel, Start)>) -> Request {
        Request { channels: channels.into_iter().collect(), ..self.request(Ok(Endpoint::Stream)) }
    }

    fn request(&self, endpoint: Result<Endpoint, BadChannel>) -> Request {
        Request { client: self.clone(), endpoint, start: Start::Default, types: Vec::new(), channels: Vec::new() }
    }
}

/// A subscription that is not connected yet.
#[derive(Clone, Debug)]
#[must_use = "nothing happens before connect()"]
pub struct Request {
    pub(crate) client: Client,
    pub(crate) endpoint: Result<Endpoint, BadChannel>,
    pub(crate) start: Start,
    pub(crate) types: Vec<String>,
    /// The channels of [`Client::stream`].
    pub(crate) channels: Vec<(Channel, Start)>,
}

impl Request {
    /// Sets where to start: after the last [`EventId`](crewcast_events::EventId) that you saw, or [`Start::Beginning`].
    ///
    /// Has no effect on subscriptions to several channels. In [`Client::stream`] each channel has its own start.
    pub fn since(mut self, start: impl Into<Start>) -> Self {
        self.start = start.into();
        self
    }

    /// Delivers only events of these types.
    pub fn types(mut self, types: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.types = types.into_iter().map(Into::into).collect();
        self
    }

    /// The channel, if the subscription is to exactly one.
    pub fn channel(&self) -> Option<&Channel> {
        self.endpoint.as_ref().ok().and_then(Endpoint::channel)
    }

    /// Every channel with a position, and where it starts.
    pub(crate) fn starts(&self) -> Vec<(Channel, Start)> {
        match &self.endpoint {
            Ok(Endpoint::Stream) => self.channels.clone(),
            Ok(endpoint) => endpoint.channel().map(|channel| (channel.clone(), self.start)).into_iter().collect(),
            Err(_) => Vec::new(),
        }
    }

    /// Connects in a task of its own, which ends with the subscription.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn connect(self) -> Subscription {
        Subscription::begin(self)
    }
}

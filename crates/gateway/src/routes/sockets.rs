//! The WebSocket endpoints: from a request to an open connection, or to a close frame with the reason.
//!
//! A browser cannot see the status of a refused handshake. A refusal therefore completes the handshake and closes the
//! socket with a code (spec, "Close codes"). There are two exceptions: an invalid handshake, and a handshake with a
//! draining replica, whose 503 lets the proxy in front ask the next one.

use std::{
    borrow::Cow,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Router,
    extract::{MatchedPath, Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::get,
};
use crewcast_events::Channel;
use hyper::upgrade::OnUpgrade;

use super::{
    not_found,
    problem::{Problem, ProblemType},
    socket_query::{SocketQuery, asks_for_binary, batch},
};
use crate::{
    app::App,
    auth::{AuthError, Credential, Presented},
    config::SubscribeMode,
    connection::{self, Admission, Principal},
    dashboards::Dashboard,
    dialect::{
        Dialect,
        crew::{CrewDialect, CrewEndpoint},
        forge::{self, ForgeDialect},
        hub::HubDialect,
        stream::StreamDialect,
        tracking::{TrackingDialect, is_client_id},
    },
    limits::{CloseDelay, ConnectionPermit, LimitReached, UserPermit},
    telemetry::metrics::{Metric, counter},
};
use crewcast_websocket::{
    close::CloseCode,
    decode::Message,
    deflate::{self, Agreed},
    socket::Socket,
    upgrade::{self, take_stream},
};

/// All socket endpoints. A new dialect adds its routes here.
pub(crate) fn socket_routes() -> Router<Arc<App>> {
    Router::new()
        .route("/ws/runs/{run_id}", get(run))
        .route("/ws/mission", get(mission))
        .route("/ws/graph", get(graphs))
        .route("/ws/graph/{crew}", get(graph))
        .route("/ws", get(hub))
        .route("/ws/agents", get(agents))
        .route("/ws/tasks", get(tasks))
        .route("/ws/knowledge", get(knowledge))
        .route("/ws/metrics", get(metrics))
        .route("/ws/dashboard", get(dashboard))
        .route("/ws/stream", get(stream))
        .route("/stream", get(stream))
        .route("/ws/agent-tracking/{client_id}", get(tracking))
        .route("/", get(root))
}

/// Handles unknown paths: a socket is closed with 4404, any other request gets a 404.
pub(crate) async fn no_such_endpoint(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    if upgrade::check(&parts.headers, &parts.method).is_err() {
        return not_found(parts.uri).await.into_response();
    }
    open(app, parts, Err((CloseCode::NotFound, "there is no such endpoint: see the documentation".into()))).await
}

/// The code and the reason of a close frame.
pub(super) type CloseReason = (CloseCode, Cow<'static, str>);

/// An id in a path. One that is not UTF-8 is refused by a close frame, like every malformed id.
type PathId = Result<Path<String>, PathRejection>;

fn text(id: PathId) -> String {
    id.map(|Path(id)| id).unwrap_or_default()
}

/// A refusal, and the permit that its socket holds until it is closed, if it got one.
struct Refused {
    refusal: CloseReason,
    permit: Option<ConnectionPermit>,
    /// Set if the same client was refused the same credential before.
    delay: Option<CloseDelay>,
}

impl From<CloseReason> for Refused {
    fn from(refusal: CloseReason) -> Self {
        Self { refusal, permit: None, delay: None }
    }
}

/// Why a socket got no principal.
enum NotIntroduced {
    Credential(AuthError),
    Limit(LimitReached),
}

impl From<AuthError> for NotIntroduced {
    fn from(error: AuthError) -> Self {
        Self::Credential(error)
    }
}

impl From<LimitReached> for NotIntroduced {
    fn from(limit: LimitReached) -> Self {
        Self::Limit(limit)
    }
}

/// The parsed request for a socket.
struct SocketRequest {
    dialect: Box<dyn Dialect>,
    /// How a socket without a token is treated.
    without_token: WithoutToken,
}

/// How a socket without a token is treated if `auth.anonymous` is not set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WithoutToken {
    /// Refused.
    Refused,
    /// Accepted: the endpoint's channels are public (`auth.public_runs`).
    Served,
    /// Accepted: the token comes in the first message.
    Introduces,
}

async fn run(State(app): State<Arc<App>>, run_id: PathId, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let socket_request = one_run(&app, &text(run_id), &parts);
    open(app, parts, socket_request).await
}

async fn mission(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let endpoint = CrewEndpoint::Mission { offline_after: app.config.mission.offline_after };
    let socket_request = SocketQuery::of(&parts).map(|query| {
        let dialect = Box::new(CrewDialect::new(endpoint, None, query.types));
        SocketRequest { dialect, without_token: WithoutToken::Refused }
    });
    open(app, parts, socket_request).await
}

async fn graphs(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let socket_request = SocketQuery::of(&parts).and_then(|query| match query.crew_id.clone() {
        Some(crew) => one_graph(&crew, query),
        None => {
            let dialect = Box::new(CrewDialect::new(CrewEndpoint::AllGraphs, None, query.types));
            Ok(SocketRequest { dialect, without_token: WithoutToken::Refused })
        }
    });
    open(app, parts, socket_request).await
}

async fn graph(State(app): State<Arc<App>>, crew: PathId, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let socket_request = SocketQuery::of(&parts).and_then(|query| one_graph(&text(crew), query));
    open(app, parts, socket_request).await
}

async fn hub(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let socket_request = SocketQuery::of(&parts).and_then(|query| {
        let batch = query.batch_ms.as_deref().map(batch).transpose()?;
        let dialect = Box::new(HubDialect::new(query.since, query.types, batch));
        Ok(SocketRequest { dialect, without_token: WithoutToken::Refused })
    });
    open(app, parts, socket_request).await
}

async fn agents(State(app): State<Arc<App>>, request: Request) -> Response {
    open_forge(app, request, forge::ForgeEndpoint::WithSnapshot("agents")).await
}

async fn tasks(State(app): State<Arc<App>>, request: Request) -> Response {
    open_forge(app, request, forge::ForgeEndpoint::WithSnapshot("tasks")).await
}

async fn knowledge(State(app): State<Arc<App>>, request: Request) -> Response {
    open_forge(app, request, forge::ForgeEndpoint::Events("knowledge")).await
}

async fn metrics(State(app): State<Arc<App>>, request: Request) -> Response {
    open_forge(app, request, forge::ForgeEndpoint::Dashboard(Dashboard::Metrics)).await
}

async fn dashboard(State(app): State<Arc<App>>, request: Request) -> Response {
    open_forge(app, request, forge::ForgeEndpoint::Dashboard(Dashboard::Dashboard)).await
}

async fn open_forge(app: Arc<App>, request: Request, endpoint: forge::ForgeEndpoint) -> Response {
    let (parts, _) = request.into_parts();
    let socket_request = SocketQuery::of(&parts).map(|query| {
        let dialect = Box::new(ForgeDialect::new(endpoint, query.since));
        SocketRequest { dialect, without_token: WithoutToken::Refused }
    });
    open(app, parts, socket_request).await
}

async fn stream(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let replaces = app.config.stream.subscribe == SubscribeMode::Replace;
    let dialect = Box::new(StreamDialect::new(app.config.limits.subscriptions, replaces));
    open(app, parts, Ok(SocketRequest { dialect, without_token: WithoutToken::Introduces })).await
}

async fn tracking(State(app): State<Arc<App>>, client_id: PathId, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let (client, config) = (text(client_id), &app.config.tracking);
    let socket_request = if is_client_id(&client, config.strict_client_id) {
        let dialect = Box::new(TrackingDialect::new(config.takeover.then_some(client), config.session_ttl));
        Ok(SocketRequest { dialect, without_token: WithoutToken::Refused })
    } else {
        Err((CloseCode::Policy, "invalid client id".into()))
    };
    open(app, parts, socket_request).await
}

/// `/` is a socket endpoint for WebSocket handshakes. A browser that opens it as a page is sent to the console.
async fn root(State(app): State<Arc<App>>, request: Request) -> Response {
    if upgrade::check(request.headers(), request.method()).is_err() {
        if wants_page(request.headers()) {
            // Relative, so that it also holds behind a proxy that serves the gateway below a path.
            return (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "ws/client"), (header::VARY, "accept")])
                .into_response();
        }
        return not_found(request.uri().clone()).await.into_response();
    }
    stream(State(app), request).await
}

fn wants_page(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    !headers.contains_key(header::UPGRADE) && accepts.into_iter().any(|accept| accept.contains("text/html"))
}

fn one_run(app: &App, run_id: &str, parts: &Parts) -> Result<SocketRequest, CloseReason> {
    let (channel, query) = (channel("run", run_id)?, SocketQuery::of(parts)?);
    let terminal = app.config.namespaces.of(&channel).map(|run| run.terminal.clone()).unwrap_or_default();
    let dialect = Box::new(CrewDialect::new(CrewEndpoint::Run { channel, terminal }, query.since, query.types));
    let without_token = if app.config.auth.public_runs { WithoutToken::Served } else { WithoutToken::Refused };
    Ok(SocketRequest { dialect, without_token })
}

fn one_graph(crew: &str, query: SocketQuery) -> Result<SocketRequest, CloseReason> {
    let dialect = Box::new(CrewDialect::new(CrewEndpoint::Graph(channel("graph", crew)?), query.since, query.types));
    Ok(SocketRequest { dialect, without_token: WithoutToken::Refused })
}

fn channel(namespace: &str, id: &str) -> Result<Channel, CloseReason> {
    let malformed = "malformed id: 1 to 128 characters of [A-Za-z0-9._-]";
    Channel::new(namespace, id).map_err(|_| (CloseCode::NotFound, malformed.into()))
}

/// How a socket's messages travel.
struct WireFormat {
    agreed: Option<Agreed>,
    sends_binary: bool,
}

/// Completes the handshake, then serves the socket or closes it with the reason for the refusal.
async fn open(app: Arc<App>, mut parts: Parts, request: Result<SocketRequest, CloseReason>) -> Response {
    let handshake = match upgrade::check(&parts.headers, &parts.method) {
        Ok(handshake) => handshake,
        Err(error) => {
            refused(error.label());
            return error.into_response();
        }
    };
    if app.drain.is_draining() {
        // Refused before the handshake, so that a proxy asks the next replica.
        refused("draining");
        let detail = "this replica is going away: connect to another";
        return Problem::new(ProblemType::NotReady, detail).retry_after(Duration::from_secs(1)).into_response();
    }
    let Some(on_upgrade) = parts.extensions.remove::<OnUpgrade>() else {
        return upgrade::HandshakeError::NotAnUpgrade.into_response();
    };
    let presented = Presented::of(&parts.headers, parts.uri.query(), app.config.auth.query_token);
    let select_token = presented.token_subprotocol;
    let admitted = match request {
        Ok(request) => admit(&app, &parts, presented, request).await,
        Err(refusal) => {
            refused(if refusal.0 == CloseCode::NotFound { "not_found" } else { "malformed" });
            Err(refusal.into())
        }
    };
    // A refused socket gets only a close frame, which is not worth compressing.
    let sends_binary = asks_for_binary(&parts);
    let is_compressed = app.config.compression.enabled && admitted.is_ok();
    let extensions = is_compressed.then(|| deflate::agree(&parts.headers)).flatten();
    let (agreed, extensions) = extensions.map(|answer| (answer.agreed, answer.header)).unzip();
    app.sockets.clone().spawn(serve(app, on_upgrade, admitted, WireFormat { agreed, sends_binary }));
    handshake.accept(select_token, extensions)
}

struct Admitted {
    principal: Principal,
    dialect: Box<dyn Dialect>,
    admission: Admission,
}

async fn admit(
    app: &Arc<App>,
    parts: &Parts,
    presented: Presented,
    request: SocketRequest,
) -> Result<Admitted, Refused> {
    let Some(leave) = app.drain.enter() else {
        refused("draining");
        return Err(Refused::from((CloseCode::GoingAway, "this replica is going away: reconnect".into())));
    };
    let address = app.client_ip(parts);
    let permit = app.limits.connect(address).map_err(|limit| Refused::from(refused_by_limit(limit)))?;
    let path = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let (endpoint, client) = (app.shared.usage.endpoint(path), app.limits.client_key(address, path));
    match introduce(app, parts, &presented.credential, request.without_token).await {
        Ok((principal, user)) => Ok(Admitted {
            principal,
            dialect: request.dialect,
            admission: Admission { leave, _permit: permit, client, endpoint, user },
        }),
        Err(NotIntroduced::Credential(error)) => {
            let is_final = !error.is_ours();
            let delay = is_final.then(|| app.limits.count_refusal(client, presented.credential.text())).flatten();
            Err(Refused { refusal: refused_by(&error), permit: Some(permit), delay })
        }
        Err(NotIntroduced::Limit(limit)) => {
            Err(Refused { refusal: refused_by_limit(limit), permit: Some(permit), delay: None })
        }
    }
}

/// The principal of the socket, and its permit among the connections of the same user.
async fn introduce(
    app: &Arc<App>,
    parts: &Parts,
    credential: &Credential,
    without_token: WithoutToken,
) -> Result<(Principal, Option<UserPermit>), NotIntroduced> {
    let principal = match (without_token, credential) {
        (WithoutToken::Served, Credential::None) => Principal::Public,
        (_, credential) => match app.auth.identify(credential).await? {
            Some(identity) => Principal::User(identity),
            // The token comes in the first message, and a page of any origin may send it.
            None if without_token == WithoutToken::Introduces => return Ok((Principal::Pending, None)),
            None => return Err(AuthError::Missing.into()),
        },
    };
    if let Some(page) = app.page(parts) {
        let is_anonymous = principal.identity().is_none_or(|identity| identity.anonymous);
        page.check_socket(&app.config, is_anonymous)?;
    }
    let user = match principal.identity() {
        Some(identity) if !identity.anonymous => Some(app.limits.identify(&identity.sub)?),
        _ => None,
    };
    // What is public needs no grant, with a token or without.
    let is_public = without_token == WithoutToken::Served;
    Ok((if is_public { Principal::Public } else { principal }, user))
}

fn refused(reason: &str) {
    counter(Metric::HandshakesRefused, &[("reason", reason)]).increment(1);
}

fn refused_by(error: &AuthError) -> CloseReason {
    refused(error.label());
    (connection::close_code(error), error.reason())
}

fn refused_by_limit(limit: LimitReached) -> CloseReason {
    refused(limit.label());
    (CloseCode::TooMany, limit.to_string().into())
}

async fn serve(app: Arc<App>, on_upgrade: OnUpgrade, admitted: Result<Admitted, Refused>, format: WireFormat) {
    let Ok(Ok((stream, leftover))) = tokio::time::timeout(app.config.limits.handshake, take_stream(on_upgrade)).await
    else {
        return refused("lost");
    };
    let mut socket = Socket::new(stream, app.config.limits.message.0, leftover)
        .with_deflate(format.agreed)
        .with_binary(format.sends_binary);
    match admitted {
        Ok(Admitted { principal, dialect, admission }) => {
            // A task of its own: the memory that this task used for the handshake would otherwise stay allocated as
            // long as the socket.
            app.sockets.spawn(connection::run(app.shared.clone(), socket, principal, dialect, admission));
        }
        Err(Refused { refusal: (code, reason), mut permit, delay }) => {
            if let Some(delay) = delay {
                if let Some(permit) = &mut permit {
                    permit.release_address();
                }
                tokio::select! {
                    () = delay.wait() => {}
                    () = app.drain.begun() => {}
                    () = poll_fn(|cx| poll_departure(&mut socket, cx)) => {}
                }
            }
            // A client that does not take its close frame holds a descriptor meanwhile. Over the limit of such sockets
            // the connection is dropped.
            if let Some(_permit) = app.limits.refuse() {
                socket.close(code, &reason).await;
            }
            drop(permit);
        }
    }
}

/// Ready when the peer of a refused socket leaves. What else it sends is discarded.
fn poll_departure(socket: &mut Socket, cx: &mut Context<'_>) -> Poll<()> {
    loop {
        match ready!(socket.poll_message(cx)) {
            Some(Ok(Message::Text(_) | Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Poll::Ready(()),
        }
    }
}

//! Signing keys from a JWKS URL (RFC 7517): cached, refreshed, rotated by `kid`, and kept while the URL is down.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use jsonwebtoken::Algorithm;
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use url::Url;

use super::{
    AuthError, AuthSetupError,
    jwk_set::{KeySet, Keyed},
    keys::VerifyingKey,
};

/// How often the keys are fetched again, even without a request for them.
const REFRESH: Duration = Duration::from_secs(300);
/// Shortest time between two fetches, whatever tokens arrive (the spec).
const FLOOR: Duration = Duration::from_secs(30);
/// How long one fetch may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest document, in bytes. Real documents have a few thousand.
const MAX_BODY: usize = 256 << 10;
/// Most `kid`s that are remembered as unknown.
const MAX_UNKNOWN: usize = 1024;

/// The algorithms if the configuration names none.
const DEFAULT_ALGORITHMS: [Algorithm; 2] = [Algorithm::RS256, Algorithm::ES256];

/// A cached JWKS document.
pub(super) struct Jwks {
    shared: Arc<JwksState>,
    /// The fetch under way, if any. It does not belong to a request, so a client that leaves does not cancel it.
    flight: Mutex<Option<AbortOnDropHandle<()>>>,
}

struct JwksState {
    url: Url,
    client: reqwest::Client,
    algorithms: Vec<Algorithm>,
    state: Mutex<CachedKeys>,
    /// Counts fetches that have ended.
    landed: watch::Sender<u64>,
}

#[derive(Default)]
struct CachedKeys {
    /// `None` until a fetch has succeeded.
    keys: Option<KeySet>,
    /// When the last fetch began.
    began: Option<Instant>,
    /// Whether a fetch is under way.
    flying: bool,
    /// Whether the last fetch failed.
    failed: bool,
    /// `kid`s that were missing after a successful fetch, with the time until which they cause no other fetch.
    unknown: VecDeque<(Box<str>, Instant)>,
}

impl Jwks {
    pub(super) fn new(url: &str, algorithms: &[Algorithm]) -> Result<Self, AuthSetupError> {
        let wrong = |why: &dyn ToString| AuthSetupError::JwksUrl(why.to_string());
        let url: Url = url.parse().map_err(|error: url::ParseError| wrong(&error))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong(&"must be http:// or https://"));
        }
        let algorithms = if algorithms.is_empty() { &DEFAULT_ALGORITHMS } else { algorithms };
        if let Some(&algorithm) = algorithms.iter().find(|a| a.family() == jsonwebtoken::AlgorithmFamily::Hmac) {
            return Err(AuthSetupError::Algorithm { algorithm, key: "a JWKS URL, whose keys are public" });
        }
        // The HTTP client panics without a provider. An error means that one is already installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::limited(3))
            // A redirect must not lead from HTTPS to plain HTTP, where an attacker could replace the keys.
            .https_only(url.scheme() == "https")
            .build()
            .map_err(|error| wrong(&error))?;
        let shared = JwksState {
            url,
            client,
            algorithms: algorithms.to_vec(),
            state: Mutex::default(),
            landed: watch::Sender::new(0),
        };
        Ok(Self { shared: Arc::new(shared), flight: Mutex::new(None) })
    }

    /// The key that verifies a token with this header. Fetches at most once.
    pub(super) async fn key(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<Arc<VerifyingKey>, AuthError> {
        if !self.shared.algorithms.contains(&algorithm) {
            return Err(AuthError::Algorithm);
        }
        if let Some(answer) = self.shared.known(kid, algorithm) {
            return answer;
        }
        let fetched = self.refresh().await;
        self.shared.answer(kid, algorithm, fetched)
    }

    /// Fetches the keys, or waits for the fetch under way. Returns whether a fetch has ended. No fetch starts within
    /// [`FLOOR`] of the previous one.
    pub(super) async fn refresh(&self) -> bool {
        let mut landed = {
            let mut state = self.shared.state.lock();
            // Subscribed under the lock: the fetch cannot end between the check of `flying` and this line.
            let landed = self.shared.landed.subscribe();
            if !state.flying {
                if state.began.is_some_and(|began| began.elapsed() < FLOOR) {
                    return false;
                }
                state.flying = true;
                state.began = Some(Instant::now());
                let landing = Landing(self.shared.clone());
                let task = tokio::spawn(async move { landing.0.fetch().await });
                *self.flight.lock() = Some(AbortOnDropHandle::new(task));
            }
            landed
        };
        // `self.shared` owns the sender, so only the end of the fetch ends this wait.
        landed.changed().await.is_ok()
    }

    /// Fetches every five minutes, sooner after a failure, until `stop`.
    pub(super) async fn keep_fresh(&self, stop: CancellationToken) {
        loop {
            let wait = if self.shared.state.lock().failed { FLOOR } else { REFRESH };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            self.refresh().await;
        }
    }
}

/// Marks a fetch as ended even if its task is aborted or panics, so that no caller waits forever.
struct Landing(Arc<JwksState>);

impl Drop for Landing {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.flying = false;
        // Under the lock: a caller that sees the next fetch under way must not mistake this end for its end.
        self.0.landed.send_modify(|count| *count += 1);
    }
}

impl JwksState {
    /// The answer without a fetch; `None` if a fetch might change it.
    fn known(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<Result<Arc<VerifyingKey>, AuthError>> {
        let state = self.state.lock();
        match state.keys.as_ref()?.find(kid, algorithm) {
            Keyed::One(key) => Some(Ok(key)),
            Keyed::WrongAlgorithm => Some(Err(AuthError::Algorithm)),
            Keyed::Ambiguous => Some(Err(AuthError::UnknownKey)),
            Keyed::Unknown => {
                let kid = kid?;
                let now = Instant::now();
                let remembered = state.unknown.iter().any(|(name, until)| **name == *kid && now < *until);
                remembered.then_some(Err(AuthError::UnknownKey))
            }
        }
    }

    /// The final answer. `fetched` tells whether a fetch ended on behalf of this token.
    fn answer(&self, kid: Option<&str>, algorithm: Algorithm, fetched: bool) -> Result<Arc<VerifyingKey>, AuthError> {
        if let Some(answer) = self.known(kid, algorithm) {
            return answer;
        }
        let mut state = self.state.lock();
        if state.failed || state.keys.is_none() {
            // It is unknown whether the key exists.
            return Err(AuthError::KeysUnavailable);
        }
        if let (Some(kid), true) = (kid, fetched) {
            let now = Instant::now();
            state.unknown.retain(|(_, until)| now < *until);
            if state.unknown.len() >= MAX_UNKNOWN {
                state.unknown.pop_front();
            }
            state.unknown.push_back((kid.into(), now + REFRESH));
        }
        Err(AuthError::UnknownKey)
    }

    async fn fetch(&self) {
        let fetched = tokio::time::timeout(TIMEOUT, self.download()).await;
        let fetched = fetched.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        let mut state = self.state.lock();
        state.failed = fetched.is_err();
        match fetched {
            Ok(keys) => state.keys = Some(keys),
            Err(error) => {
                let kept = state.keys.is_some();
                drop(state);
                tracing::warn!(url = %public(&self.url), error, kept, "cannot fetch the JWKS");
            }
        }
    }

    async fn download(&self) -> Result<KeySet, String> {
        let request = self.client.get(self.url.clone()).header(http::header::ACCEPT, "application/json");
        let mut response = request.send().await.map_err(|error| error.without_url().to_string())?;
        if !response.status().is_success() {
            return Err(format!("status {}", response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| error.without_url().to_string())? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(format!("more than {MAX_BODY} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        KeySet::parse(&body, &self.algorithms)
    }
}

/// The URL without the parts that may be secret.
fn public(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

#[cfg(test)]
mod tests;

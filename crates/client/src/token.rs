//! The token of a subscription: its source and its renewal.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use tokio::time::{Instant, sleep_until, timeout};

use crate::error::Cut;

/// Any error of a token source.
pub type TokenError = Box<dyn std::error::Error + Send + Sync>;
type TokenFuture = Pin<Box<dyn Future<Output = Result<String, TokenError>> + Send>>;

/// How long a token source may take.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(10);
/// A token is renewed this long before it expires, or in the last quarter of a shorter lifetime.
const RENEWAL_MARGIN: Duration = Duration::from_secs(60);
/// The delay before the next call of a source that failed or returned the same token.
const SOURCE_RETRY: Duration = Duration::from_secs(1);

/// Where tokens come from.
#[derive(Clone)]
pub(crate) enum TokenSource {
    None,
    Fixed(String),
    Ask(Arc<dyn Fn() -> TokenFuture + Send + Sync>),
}

impl TokenSource {
    pub(crate) fn from_fn<F, Fut, E>(source: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<TokenError>,
    {
        TokenSource::Ask(Arc::new(move || {
            let answer = source();
            Box::pin(async move { answer.await.map_err(Into::into) })
        }))
    }
}

/// The tokens of one subscription.
pub(crate) struct Tokens {
    source: TokenSource,
    current: Option<CurrentToken>,
    pending: Option<TokenFuture>,
}

struct CurrentToken {
    token: String,
    expires: Option<Instant>,
    /// When to call the source for the next token.
    renew: Option<Instant>,
}

impl Tokens {
    pub(crate) fn new(source: TokenSource) -> Self {
        let current = match &source {
            TokenSource::Fixed(token) => {
                Some(CurrentToken { token: token.trim().to_owned(), expires: None, renew: None })
            }
            TokenSource::None | TokenSource::Ask(_) => None,
        };
        Self { source, current, pending: None }
    }

    /// Returns the token for a handshake: the current one until it expires, then a new one.
    pub(crate) async fn for_handshake(&mut self) -> Result<Option<&str>, Cut> {
        let alive = self.current.as_ref().is_some_and(|current| current.expires.is_none_or(|at| Instant::now() < at));
        if let (false, TokenSource::Ask(ask)) = (alive, &self.source) {
            self.pending = None;
            let answer = timeout(SOURCE_TIMEOUT, ask()).await;
            let token = answer
                .map_err(|_| Cut::Token(format!("no token within {} s", SOURCE_TIMEOUT.as_secs())))?
                .map_err(|error| Cut::Token(error.to_string()))?;
            self.hold(token);
        }
        Ok(self.current.as_ref().map(|current| current.token.as_str()))
    }

    /// The gateway has refused the token. Returns whether the source can provide another.
    pub(crate) fn refused(&mut self) -> bool {
        let renewable = matches!(self.source, TokenSource::Ask(_));
        if renewable {
            self.current = None;
        }
        renewable
    }

    /// Waits for the next token, until shortly before the current one expires. Never returns if nothing can be renewed.
    ///
    /// Cancel safe: a pending call of the source is kept for the next call of this method.
    pub(crate) async fn renewed(&mut self) -> String {
        loop {
            if let Some(pending) = &mut self.pending {
                let answer = pending.await;
                self.pending = None;
                match answer {
                    Ok(token) if self.current.as_ref().is_none_or(|current| current.token != token.trim()) => {
                        self.hold(token.clone());
                        return token.trim().to_owned();
                    }
                    Ok(_) => tracing::debug!("the token source returned the same token again"),
                    Err(error) => tracing::warn!(%error, "the token source failed: the current token stays in use"),
                }
                if let Some(current) = &mut self.current {
                    current.renew = Some(Instant::now() + SOURCE_RETRY);
                }
            }
            let (TokenSource::Ask(ask), Some(at)) =
                (&self.source, self.current.as_ref().and_then(|current| current.renew))
            else {
                return std::future::pending().await;
            };
            sleep_until(at).await;
            self.pending = Some(ask());
        }
    }

    fn hold(&mut self, token: String) {
        let token = token.trim().to_owned();
        let left = expiry(&token).map(|at| at.duration_since(SystemTime::now()).unwrap_or_default());
        let now = Instant::now();
        let renew = left.map(|left| now + left.saturating_sub(RENEWAL_MARGIN.min(left / 4)).max(SOURCE_RETRY));
        self.current = Some(CurrentToken { token, expires: left.map(|left| now + left), renew });
    }
}

/// When a JWT expires, by its `exp` (RFC 7519). Does not verify the token: the gateway does.
fn expiry(token: &str) -> Option<SystemTime> {
    #[derive(serde::Deserialize)]
    struct Claims {
        exp: f64,
    }
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Claims = serde_json::from_slice(&payload).ok()?;
    // Beyond the lifetime of any token, and small enough to add to a clock.
    let seconds = claims.exp.clamp(0.0, 1e11);
    SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A token that expires `ttl` from now; `n` makes it unique.
    pub(crate) fn jwt(ttl: Duration, n: u32) -> String {
        let exp = (SystemTime::now() + ttl).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        let claims = format!(r#"{{"exp":{exp},"n":{n}}}"#);
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    fn counting(ttl: Duration) -> (Tokens, Arc<AtomicU32>) {
        let count = Arc::new(AtomicU32::new(0));
        let source = TokenSource::from_fn({
            let count = count.clone();
            move || {
                let n = count.fetch_add(1, Ordering::SeqCst);
                async move { Ok::<_, TokenError>(jwt(ttl, n)) }
            }
        });
        (Tokens::new(source), count)
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_is_called_once_per_lifetime_of_a_token() {
        let (mut tokens, count) = counting(Duration::from_secs(100));
        let first = tokens.for_handshake().await.unwrap().unwrap().to_owned();
        assert_eq!(tokens.for_handshake().await.unwrap(), Some(&*first));
        tokio::time::advance(Duration::from_secs(101)).await;
        assert_ne!(tokens.for_handshake().await.unwrap(), Some(&*first));
        assert_eq!(count.load(Ordering::SeqCst), 2);
        assert!(tokens.refused());
        tokens.for_handshake().await.unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_renewed_before_it_expires() {
        let (mut tokens, _) = counting(Duration::from_secs(3600));
        let first = tokens.for_handshake().await.unwrap().unwrap().to_owned();
        let start = Instant::now();
        let second = tokens.renewed().await;
        assert_ne!(first, second);
        let waited = start.elapsed().as_secs();
        assert!((3530..3541).contains(&waited), "{waited}");
        // The caller may cancel the wait any number of times.
        let start = Instant::now();
        while timeout(Duration::from_secs(1), tokens.renewed()).await.is_err() {}
        assert!((3530..3542).contains(&start.elapsed().as_secs()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_fails_is_called_again() {
        let count = Arc::new(AtomicU32::new(0));
        let source = TokenSource::from_fn({
            let count = count.clone();
            move || {
                let n = count.fetch_add(1, Ordering::SeqCst);
                async move { if (1..4).contains(&n) { Err("down") } else { Ok(jwt(Duration::from_secs(40), n)) } }
            }
        });
        let mut tokens = Tokens::new(source);
        tokens.for_handshake().await.unwrap();
        let start = Instant::now();
        tokens.renewed().await;
        assert_eq!(count.load(Ordering::SeqCst), 5);
        assert!((32..35).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_hangs_or_fails_counts_as_a_lost_connection() {
        let mut tokens =
            Tokens::new(TokenSource::from_fn(|| async { std::future::pending::<Result<String, TokenError>>().await }));
        assert!(matches!(tokens.for_handshake().await, Err(Cut::Token(_))));
        let mut tokens = Tokens::new(TokenSource::from_fn(|| async { Err::<String, _>("down") }));
        assert_eq!(tokens.for_handshake().await, Err(Cut::Token("down".to_owned())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fixed_token_is_never_renewed() {
        let mut tokens = Tokens::new(TokenSource::Fixed(format!(" {}\n", jwt(Duration::from_secs(1), 0))));
        assert!(!tokens.for_handshake().await.unwrap().unwrap().contains(char::is_whitespace));
        assert!(timeout(Duration::from_secs(9999), tokens.renewed()).await.is_err());
        assert!(!tokens.refused());
    }

    #[test]
    fn reads_exp_and_nothing_else() {
        assert_eq!(expiry("opaque"), None);
        assert_eq!(expiry("a.b.c"), None);
        let absurd = URL_SAFE_NO_PAD.encode(r#"{"exp":1e300}"#);
        assert!(expiry(&format!("e30.{absurd}.x")).is_some());
        assert_eq!(expiry(&format!("e30.{}.x", URL_SAFE_NO_PAD.encode(r#"{"exp":"soon"}"#))), None);
    }
}

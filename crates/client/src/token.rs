//! Where the token comes from, and when it is renewed.

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
type Answer = Pin<Box<dyn Future<Output = Result<String, TokenError>> + Send>>;

/// How long a token source may take.
const ASKING: Duration = Duration::from_secs(10);
/// A token is renewed this long before it expires, or, if it lives short, in the last quarter of its life.
const MARGIN: Duration = Duration::from_secs(60);
/// The wait before a source that failed, or gave a token that lives no longer, is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// Where tokens come from.
#[derive(Clone)]
pub(crate) enum Source {
    None,
    Fixed(String),
    Ask(Arc<dyn Fn() -> Answer + Send + Sync>),
}

impl Source {
    pub(crate) fn asking<F, Fut, E>(source: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<TokenError>,
    {
        Source::Ask(Arc::new(move || {
            let answer = source();
            Box::pin(async move { answer.await.map_err(Into::into) })
        }))
    }
}

/// One subscription's token.
pub(crate) struct Tokens {
    source: Source,
    held: Option<Held>,
    asking: Option<Answer>,
}

struct Held {
    token: String,
    expires: Option<Instant>,
    /// When the source is asked for the next one.
    renew: Option<Instant>,
}

impl Tokens {
    pub(crate) fn new(source: Source) -> Self {
        let held = match &source {
            Source::Fixed(token) => Some(Held { token: token.trim().to_owned(), expires: None, renew: None }),
            Source::None | Source::Ask(_) => None,
        };
        Self { source, held, asking: None }
    }

    /// The token for a handshake: the one held while it lives, else a new one.
    pub(crate) async fn for_handshake(&mut self) -> Result<Option<&str>, Cut> {
        let alive = self.held.as_ref().is_some_and(|held| held.expires.is_none_or(|at| Instant::now() < at));
        if let (false, Source::Ask(ask)) = (alive, &self.source) {
            self.asking = None;
            let answer = timeout(ASKING, ask()).await;
            let token = answer
                .map_err(|_| Cut::Token(format!("the source gave none within {} s", ASKING.as_secs())))?
                .map_err(|error| Cut::Token(error.to_string()))?;
            self.hold(token);
        }
        Ok(self.held.as_ref().map(|held| held.token.as_str()))
    }

    /// The token was refused. Whether the source could give another.
    pub(crate) fn refused(&mut self) -> bool {
        let renewable = matches!(self.source, Source::Ask(_));
        if renewable {
            self.held = None;
        }
        renewable
    }

    /// The next token, shortly before the present one expires; never when there is nothing to renew.
    /// Cancel safe: an answer under way is kept for the next call.
    pub(crate) async fn renewed(&mut self) -> String {
        loop {
            if let Some(asking) = &mut self.asking {
                let answer = asking.await;
                self.asking = None;
                match answer {
                    Ok(token) if self.held.as_ref().is_none_or(|held| held.token != token.trim()) => {
                        self.hold(token.clone());
                        return token.trim().to_owned();
                    }
                    Ok(_) => tracing::debug!("the token source gave the same token again"),
                    Err(error) => tracing::warn!(%error, "no fresh token"),
                }
                if let Some(held) = &mut self.held {
                    held.renew = Some(Instant::now() + AGAIN);
                }
            }
            let (Source::Ask(ask), Some(at)) = (&self.source, self.held.as_ref().and_then(|held| held.renew)) else {
                return std::future::pending().await;
            };
            sleep_until(at).await;
            self.asking = Some(ask());
        }
    }

    fn hold(&mut self, token: String) {
        let token = token.trim().to_owned();
        let left = expiry(&token).map(|at| at.duration_since(SystemTime::now()).unwrap_or_default());
        let now = Instant::now();
        let renew = left.map(|left| now + left.saturating_sub(MARGIN.min(left / 4)).max(AGAIN));
        self.held = Some(Held { token, expires: left.map(|left| now + left), renew });
    }
}

/// When a JWT says that it expires (RFC 7519, `exp`). Nothing is verified: that is the gateway's office.
fn expiry(token: &str) -> Option<SystemTime> {
    #[derive(serde::Deserialize)]
    struct Claims {
        exp: f64,
    }
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Claims = serde_json::from_slice(&payload).ok()?;
    // Far beyond any token, and within what the clocks can add up.
    let seconds = claims.exp.clamp(0.0, 1e11);
    SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A token that says it expires `ttl` from now; `n` makes it unlike others.
    pub(crate) fn jwt(ttl: Duration, n: u32) -> String {
        let exp = (SystemTime::now() + ttl).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        let claims = format!(r#"{{"exp":{exp},"n":{n}}}"#);
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    fn counting(ttl: Duration) -> (Tokens, Arc<AtomicU32>) {
        let count = Arc::new(AtomicU32::new(0));
        let source = Source::asking({
            let count = count.clone();
            move || {
                let n = count.fetch_add(1, Ordering::SeqCst);
                async move { Ok::<_, TokenError>(jwt(ttl, n)) }
            }
        });
        (Tokens::new(source), count)
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_asked_for_once_while_it_lives() {
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
    async fn it_is_renewed_before_it_expires() {
        let (mut tokens, _) = counting(Duration::from_secs(3600));
        let first = tokens.for_handshake().await.unwrap().unwrap().to_owned();
        let start = Instant::now();
        let second = tokens.renewed().await;
        assert_ne!(first, second);
        let waited = start.elapsed().as_secs();
        assert!((3530..3541).contains(&waited), "{waited}");
        // Waiting for it may be cancelled as often as it pleases the caller.
        let start = Instant::now();
        while timeout(Duration::from_secs(1), tokens.renewed()).await.is_err() {}
        assert!((3530..3542).contains(&start.elapsed().as_secs()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_fails_is_asked_again() {
        let count = Arc::new(AtomicU32::new(0));
        let source = Source::asking({
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
    async fn a_source_that_hangs_or_fails_is_a_cut() {
        let mut tokens =
            Tokens::new(Source::asking(|| async { std::future::pending::<Result<String, TokenError>>().await }));
        assert!(matches!(tokens.for_handshake().await, Err(Cut::Token(_))));
        let mut tokens = Tokens::new(Source::asking(|| async { Err::<String, _>("down") }));
        assert_eq!(tokens.for_handshake().await, Err(Cut::Token("down".to_owned())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fixed_token_is_never_renewed() {
        let mut tokens = Tokens::new(Source::Fixed(format!(" {}\n", jwt(Duration::from_secs(1), 0))));
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

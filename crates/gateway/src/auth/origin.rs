//! Which pages may connect: the browser's `Origin`, checked against the configuration.

use crate::config::{Config, is_same_host};

use super::AuthError;

/// A browser's page, by what its request says. Clients other than browsers send no `Origin`.
pub(crate) struct RequestingPage<'a> {
    /// `Origin`.
    pub origin: &'a str,
    /// The host that the browser requested.
    pub host: Option<&'a str>,
}

impl RequestingPage<'_> {
    /// Whether the page may open a socket.
    ///
    /// Always allowed are pages that this gateway served itself, and listed ones. If nothing is listed, all others are
    /// allowed if the socket has a token and this is not development mode: a page of another origin cannot obtain a
    /// user's token.
    ///
    /// # Errors
    /// [`AuthError::Origin`].
    pub(crate) fn check_socket(&self, config: &Config, is_anonymous: bool) -> Result<(), AuthError> {
        let listed = config.socket_origins();
        let open = listed.allowed.is_empty() && !is_anonymous && !config.auth.development;
        let is_own = || self.host.is_some_and(|host| is_same_host(self.origin, host));
        if open || is_own() || listed.contain(self.origin) { Ok(()) } else { Err(self.refusal(listed.key)) }
    }

    /// Whether the page may use HTTP and event streams: if it may open a socket, or is listed for HTTP.
    ///
    /// # Errors
    /// [`AuthError::Origin`].
    pub(crate) fn check_http(&self, config: &Config, is_anonymous: bool) -> Result<(), AuthError> {
        let listed = config.http_origins();
        if listed.contain(self.origin) || self.check_socket(config, is_anonymous).is_ok() {
            Ok(())
        } else {
            Err(self.refusal(listed.key))
        }
    }

    fn refusal(&self, key: &'static str) -> AuthError {
        AuthError::Origin { origin: self.origin.into(), key }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Option<&str> = Some("gw.example.com");

    fn config(allowed: &[&str]) -> Config {
        let allowed_origins = allowed.iter().map(|entry| entry.parse().unwrap()).collect();
        Config { allowed_origins, ..Config::default() }
    }

    fn allows(config: &Config, origin: &str, is_anonymous: bool) -> bool {
        RequestingPage { origin, host: HERE }.check_socket(config, is_anonymous).is_ok()
    }

    #[test]
    fn listed_pages_and_the_gateways_own_may_connect_with_a_token_or_without() {
        let config = config(&["https://app.example.com", "http://localhost:*"]);
        for is_anonymous in [false, true] {
            for good in ["https://app.example.com", "http://localhost:5173", "https://gw.example.com"] {
                assert!(allows(&config, good, is_anonymous), "{good}");
            }
            for bad in ["https://evil.org", "null", "", "file:///etc/passwd"] {
                assert!(!allows(&config, bad, is_anonymous), "{bad}");
            }
        }
    }

    #[test]
    fn with_nothing_listed_a_page_of_any_origin_may_use_a_token() {
        for origin in ["https://wherever.org", "null"] {
            assert!(allows(&config(&[]), origin, false));
            assert!(!allows(&config(&[]), origin, true));
        }
    }

    #[test]
    fn development_mode_needs_the_same_origin_or_a_listed_one() {
        let mut development = config(&["http://localhost:*"]);
        development.auth.development = true;
        for is_anonymous in [false, true] {
            assert!(allows(&development, "http://gw.example.com", is_anonymous));
            assert!(allows(&development, "http://localhost:3000", is_anonymous));
            assert!(!allows(&development, "https://wherever.org", is_anonymous));
        }
        let page = RequestingPage { origin: "https://gw.example.com", host: None };
        assert!(page.check_socket(&development, false).is_err());
    }

    #[test]
    fn a_refusal_names_the_key_that_counts() {
        let refusal = |config: &Config| {
            let page = RequestingPage { origin: "http://localhost:5173", host: HERE };
            let texts = [page.check_socket(config, true), page.check_http(config, true)];
            texts.map(|refused| refused.unwrap_err().reason().into_owned())
        };
        let expected = |key| format!("origin http://localhost:5173 is not allowed: add it to {key}");
        assert_eq!(refusal(&config(&[])), [expected("allowed_origins"), expected("allowed_origins")]);
        let mut own = config(&[]);
        own.auth.allowed_origins = Some(Vec::new());
        own.cors.allowed_origins = Some(Vec::new());
        assert_eq!(refusal(&own), [expected("auth.allowed_origins"), expected("cors.allowed_origins")]);
    }

    #[test]
    fn a_page_that_is_listed_for_either_may_use_http() {
        let mut config = config(&[]);
        config.auth.allowed_origins = Some(vec!["https://sockets.org".parse().unwrap()]);
        config.cors.allowed_origins = Some(vec!["https://http.org".parse().unwrap()]);
        let http = |origin| RequestingPage { origin, host: HERE }.check_http(&config, true).is_ok();
        assert!(http("https://sockets.org") && http("https://http.org") && !http("https://evil.org"));
        assert!(!allows(&config, "https://http.org", true));
    }
}

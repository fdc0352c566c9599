//! Which pages may connect: the browser's `Origin`, checked against the configuration.

use url::{Origin, Url};

use super::AuthSetupError;

/// The rules of `auth.allowed_origins`.
#[derive(Clone, Debug)]
pub(crate) struct OriginPolicy {
    allowed: Vec<Allowed>,
    development: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Allowed {
    Any,
    Exact(Origin),
    /// Subdomains of `.example.com` at any depth, but not `example.com` itself.
    Below {
        scheme: String,
        suffix: String,
        port: Option<u16>,
    },
}

impl OriginPolicy {
    /// Parses the configured origins.
    ///
    /// # Errors
    /// [`AuthSetupError::AllowedOrigin`] for an entry that is not an origin.
    pub(crate) fn new(allowed: &[String], development: bool) -> Result<Self, AuthSetupError> {
        let parse = |entry: &String| Allowed::parse(entry).ok_or_else(|| AuthSetupError::AllowedOrigin(entry.clone()));
        Ok(Self { allowed: allowed.iter().map(parse).collect::<Result<_, _>>()?, development })
    }

    /// Whether a request with this `Origin` may connect.
    ///
    /// Always allowed: clients that are not browsers (no `Origin`), and pages that this gateway served itself. `host`
    /// is the `Host` that the browser used. Other pages are allowed if they are listed. If nothing is listed, they are
    /// allowed if the socket has a token and this is not development mode: a page of another origin cannot obtain a
    /// user's token.
    pub(crate) fn allows(&self, origin: Option<&str>, host: Option<&str>, anonymous: bool) -> bool {
        let Some(origin) = origin else { return true };
        if self.allowed.is_empty() && !anonymous && !self.development {
            return true;
        }
        let parsed = Url::parse(origin).ok().map(|url| (url.origin(), url));
        match parsed {
            Some((origin, url)) if origin.is_tuple() => {
                same_host(&url, host) || self.allowed.iter().any(|allowed| allowed.matches(&origin))
            }
            // `null` and similar: the page hides its origin.
            _ => self.allowed.contains(&Allowed::Any),
        }
    }
}

impl Allowed {
    fn parse(entry: &str) -> Option<Self> {
        if entry == "*" {
            return Some(Self::Any);
        }
        let (wildcard, entry) = match entry.split_once("://*.") {
            Some((scheme, rest)) => (true, format!("{scheme}://{rest}")),
            None => (false, entry.to_owned()),
        };
        let url = Url::parse(&entry).ok()?;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        match url.origin() {
            Origin::Tuple(..) if !bare || entry.contains('*') => None,
            Origin::Tuple(scheme, host, port) if wildcard => {
                Some(Self::Below { scheme, suffix: format!(".{host}"), port: Some(port) })
            }
            origin @ Origin::Tuple(..) => Some(Self::Exact(origin)),
            Origin::Opaque(_) => None,
        }
    }

    fn matches(&self, origin: &Origin) -> bool {
        match (self, origin) {
            (Self::Any, _) => true,
            (Self::Exact(allowed), origin) => allowed == origin,
            (Self::Below { scheme, suffix, port }, Origin::Tuple(own_scheme, host, own_port)) => {
                scheme == own_scheme && *port == Some(*own_port) && host.to_string().ends_with(suffix.as_str())
            }
            (Self::Below { .. }, Origin::Opaque(_)) => false,
        }
    }
}

/// Whether a page's origin is the host that the request was sent to. The scheme is taken from the page, because behind
/// a proxy that terminates TLS nothing else reveals it.
fn same_host(origin: &Url, host: Option<&str>) -> bool {
    let here = host.and_then(|host| Url::parse(&format!("{}://{host}", origin.scheme())).ok());
    here.is_some_and(|here| here.origin() == origin.origin())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(allowed: &[&str]) -> OriginPolicy {
        let allowed: Vec<_> = allowed.iter().map(|entry| (*entry).to_owned()).collect();
        OriginPolicy::new(&allowed, false).unwrap()
    }

    const HERE: Option<&str> = Some("gw.example.com");

    #[test]
    fn listed_origins_match_exactly() {
        let policy = policy(&["https://app.example.com", "http://localhost:3000"]);
        for good in ["https://app.example.com", "https://app.example.com:443", "http://localhost:3000"] {
            assert!(policy.allows(Some(good), HERE, false), "{good}");
            assert!(policy.allows(Some(good), HERE, true), "{good}");
        }
        for bad in [
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://evil.app.example.com",
            "https://app.example.com.evil.org",
            "https://xapp.example.com",
            "http://localhost",
            "null",
            "",
        ] {
            assert!(!policy.allows(Some(bad), HERE, false), "{bad}");
        }
    }

    #[test]
    fn wildcards() {
        let below = policy(&["https://*.example.com"]);
        assert!(below.allows(Some("https://a.example.com"), None, false));
        assert!(below.allows(Some("https://a.b.example.com"), None, false));
        for bad in ["https://example.com", "https://aexample.com", "http://a.example.com", "https://a.example.com:444"]
        {
            assert!(!below.allows(Some(bad), None, false), "{bad}");
        }
        let any = policy(&["*"]);
        assert!(any.allows(Some("https://wherever.org"), HERE, true) && any.allows(Some("null"), HERE, true));
    }

    #[test]
    fn with_nothing_listed_a_page_of_any_origin_may_use_a_token() {
        let open = policy(&[]);
        for origin in [None, Some("https://wherever.org"), Some("null")] {
            assert!(open.allows(origin, HERE, false));
        }
    }

    #[test]
    fn anonymous_and_development_sockets_need_the_same_origin() {
        let development = OriginPolicy::new(&[], true).unwrap();
        for (policy, anonymous) in [(policy(&[]), true), (development.clone(), false), (development, true)] {
            assert!(policy.allows(None, HERE, anonymous), "no browser");
            assert!(policy.allows(Some("https://gw.example.com"), HERE, anonymous));
            assert!(policy.allows(Some("http://gw.example.com"), Some("GW.example.com:80"), anonymous));
            assert!(policy.allows(Some("http://[::1]:8000"), Some("[::1]:8000"), anonymous));
            for (origin, host) in [
                ("https://evil.org", HERE),
                ("https://gw.example.com:8443", HERE),
                ("http://localhost:3000", Some("localhost:8000")),
                ("null", HERE),
                ("https://gw.example.com", None),
                ("https://gw.example.com", Some("")),
                ("file:///etc/passwd", HERE),
            ] {
                assert!(!policy.allows(Some(origin), host, anonymous), "{origin} {host:?}");
            }
        }
    }

    #[test]
    fn an_invalid_origin_is_a_configuration_error() {
        for entry in
            ["example.com", "https://example.com/app", "https://a*.example.com", "*.example.com", "https://", ""]
        {
            assert!(OriginPolicy::new(&[entry.to_owned()], false).is_err(), "{entry}");
        }
    }
}

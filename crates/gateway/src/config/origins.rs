//! Origins of pages, as `allowed_origins` lists them and as browsers send them in `Origin` (RFC 6454).

use std::str::FromStr;

use url::Url;

use super::Config;

/// An entry of `allowed_origins`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AllowedOrigin {
    /// As the operator wrote it.
    text: String,
    pattern: OriginPattern,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum OriginPattern {
    /// `*`
    Any,
    /// `null`: pages without an origin of their own, such as local files and sandboxed frames.
    Null,
    Page {
        scheme: String,
        host: HostPattern,
        /// `None`: any port.
        port: Option<Option<u16>>,
    },
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum HostPattern {
    Exact(String),
    /// Subdomains of `.example.com` at any depth, but not `example.com` itself.
    Below(String),
}

/// The origin of a page, by its parts. `port` is the scheme's default where the text names none.
#[derive(PartialEq, Eq)]
struct PageOrigin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

/// The origins that one kind of access allows, and the key that lists them.
#[derive(Clone, Copy, Debug)]
pub struct OriginList<'a> {
    /// The key that the operator has to change.
    pub key: &'static str,
    /// Its entries.
    pub allowed: &'a [AllowedOrigin],
}

impl Config {
    /// Origins whose pages may open sockets.
    pub fn socket_origins(&self) -> OriginList<'_> {
        self.origins("auth.allowed_origins", self.auth.allowed_origins.as_deref())
    }

    /// Origins whose pages may use HTTP and event streams.
    pub fn http_origins(&self) -> OriginList<'_> {
        self.origins("cors.allowed_origins", self.cors.allowed_origins.as_deref())
    }

    fn origins<'a>(&'a self, key: &'static str, own: Option<&'a [AllowedOrigin]>) -> OriginList<'a> {
        match own {
            Some(allowed) => OriginList { key, allowed },
            None => OriginList { key: "allowed_origins", allowed: &self.allowed_origins },
        }
    }
}

impl OriginList<'_> {
    /// Whether the list allows pages of this `Origin`.
    pub fn contain(&self, origin: &str) -> bool {
        let page = PageOrigin::parse(origin);
        self.allowed.iter().any(|allowed| match &allowed.pattern {
            OriginPattern::Any => true,
            OriginPattern::Null => origin == "null",
            OriginPattern::Page { scheme, host, port } => page.as_ref().is_some_and(|page| {
                *scheme == page.scheme && host.contains(&page.host) && port.is_none_or(|port| port == page.port)
            }),
        })
    }

    /// Whether the list is `*`, or has it among others.
    pub fn contain_all(&self) -> bool {
        self.allowed.iter().any(|allowed| allowed.pattern == OriginPattern::Any)
    }
}

/// Whether a page's origin is the host that its request was sent to. The scheme is taken from the page, because behind
/// a proxy that terminates TLS nothing else reveals it.
pub(crate) fn is_same_host(origin: &str, host: &str) -> bool {
    let page = PageOrigin::parse(origin).filter(|page| matches!(&*page.scheme, "http" | "https"));
    page.is_some_and(|page| PageOrigin::parse(&format!("{}://{host}", page.scheme)).is_some_and(|here| here == page))
}

impl FromStr for AllowedOrigin {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let pattern = OriginPattern::parse(text).ok_or(())?;
        Ok(Self { text: text.to_owned(), pattern })
    }
}

impl AsRef<str> for AllowedOrigin {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl OriginPattern {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "*" => return Some(Self::Any),
            "null" => return Some(Self::Null),
            _ => {}
        }
        let (text, any_port) = text.strip_suffix(":*").map_or((text, false), |text| (text, true));
        let (scheme, rest) = text.split_once("://")?;
        let below = rest.strip_prefix("*.");
        let PageOrigin { scheme, host, port } = PageOrigin::parse(&format!("{scheme}://{}", below.unwrap_or(rest)))?;
        let names_port = rest.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
        if any_port && names_port {
            return None;
        }
        let host = if below.is_some() { HostPattern::Below(format!(".{host}")) } else { HostPattern::Exact(host) };
        Some(Self::Page { scheme, host, port: (!any_port).then_some(port) })
    }
}

impl HostPattern {
    fn contains(&self, host: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == host,
            Self::Below(suffix) => host.ends_with(suffix.as_str()),
        }
    }
}

impl PageOrigin {
    /// `None` for anything but `scheme://host` and `scheme://host:port`. Schemes of applications, such as
    /// `capacitor://localhost`, have origins too, although the URL standard calls them opaque.
    fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let is_bare = matches!(url.path(), "" | "/")
            && !text.ends_with(['/', '?', '#'])
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        let host = url.host_str().filter(|host| is_bare && !host.is_empty() && !host.contains('*'))?;
        Some(Self {
            scheme: url.scheme().to_owned(),
            host: host.to_ascii_lowercase(),
            port: url.port_or_known_default(),
        })
    }
}

//! Parses the URL of a Redis: one server, the master of a Sentinel group, or a Cluster.

use std::fmt;

use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, TlsCertificates,
};

/// The port of Sentinels unless the URL names one.
const SENTINEL_PORT: u16 = 26379;
/// The port of servers unless the URL names one.
const SERVER_PORT: u16 = 6379;

/// Why a Redis cannot be set up. Never repeats the URL: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedisSetupError {
    /// The URL has none of the supported forms.
    #[error(
        "must be a URL such as redis://127.0.0.1:6379, rediss://user:password@host:6379/0, unix:///run/redis.sock, \
         redis+sentinel://host:26379,host:26379/<master>, redis+cluster://host:6379,host:6379, or several \
         redis://host:port of a Cluster with commas between"
    )]
    Url,
    /// The URL of a Sentinel group does not name the master.
    #[error(
        "a Sentinel's URL ends with the name of the master that it watches: redis+sentinel://host:26379,host:26379/<master>"
    )]
    NoMaster,
    /// The URL of a Cluster names a database; a Cluster has only database 0.
    #[error("a Cluster has no databases: write its URL without a number at the end")]
    ClusterDatabase,
    /// The certificates or the key are invalid.
    #[error("the TLS certificates or the key cannot be read: they must be PEM, and need rediss://")]
    Tls,
    /// The pool has no connections.
    #[error("a pool has at least one connection")]
    Size,
}

/// PEM files for `rediss://`. Without them, Mozilla's roots are trusted and no client certificate is sent.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates of the authority that signed the servers' certificates.
    pub ca: Option<Vec<u8>>,
    /// This client's certificate and key, for servers that ask for them.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("ca", &self.ca.is_some()).field("identity", &self.identity.is_some()).finish()
    }
}

/// A parsed URL.
#[derive(Clone)]
pub(super) enum Address {
    One(ConnectionInfo),
    Sentinel { sentinels: Vec<ConnectionInfo>, master: String, node: NodeTemplate },
    Cluster { seeds: Vec<ConnectionInfo>, node: NodeTemplate },
}

/// How to connect to a server whose host and port are learned from others.
#[derive(Clone)]
pub(super) struct NodeTemplate {
    info: ConnectionInfo,
}

impl NodeTemplate {
    pub(super) fn at(&self, host: &str, port: u16) -> ConnectionInfo {
        let addr = match self.info.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls {
                host: host.to_owned(),
                port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            ConnectionAddr::Tcp(..) | ConnectionAddr::Unix(_) | _ => ConnectionAddr::Tcp(host.to_owned(), port),
        };
        self.info.clone().set_addr(addr)
    }
}

impl Address {
    /// # Errors
    /// [`RedisSetupError`].
    pub(super) fn parse(url: &str, tls: &Tls) -> Result<Self, RedisSetupError> {
        let (scheme, rest) = url.trim().split_once("://").ok_or(RedisSetupError::Url)?;
        match scheme {
            "redis+sentinel" => Self::sentinel("redis", rest, tls),
            "rediss+sentinel" => Self::sentinel("rediss", rest, tls),
            "redis+cluster" => Self::cluster("redis", rest, tls),
            "rediss+cluster" => Self::cluster("rediss", rest, tls),
            "redis" | "rediss" if rest.contains(',') => Self::cluster(scheme, rest, tls),
            "redis" | "rediss" | "unix" | "redis+unix" => Ok(Self::One(server(url.trim(), tls)?)),
            _ => Err(RedisSetupError::Url),
        }
    }

    fn sentinel(scheme: &str, rest: &str, tls: &Tls) -> Result<Self, RedisSetupError> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (hosts, path) = rest.split_once('/').ok_or(RedisSetupError::NoMaster)?;
        let (master, database) = path.split_once('/').unwrap_or((path, ""));
        if master.is_empty() {
            return Err(RedisSetupError::NoMaster);
        }
        let (credentials, hosts) =
            hosts.rsplit_once('@').map_or((None, hosts), |(before, hosts)| (Some(before), hosts));
        let credentials = credentials.map(|before| format!("{before}@")).unwrap_or_default();
        let info = server(&format!("{scheme}://{credentials}host:{SERVER_PORT}/{database}"), tls)?;
        let sentinel = |host: &str| {
            let asked = server(&format!("{scheme}://{}", with_port(host, SENTINEL_PORT)), tls)?;
            let settings = sentinel_credentials(asked.redis_settings().clone(), query)?;
            Ok(asked.set_redis_settings(settings))
        };
        let sentinels = hosts.split(',').map(sentinel).collect::<Result<_, _>>()?;
        Ok(Self::Sentinel { sentinels, master: master.to_owned(), node: NodeTemplate { info } })
    }

    fn cluster(scheme: &str, rest: &str, tls: &Tls) -> Result<Self, RedisSetupError> {
        let mut seeds: Vec<ConnectionInfo> = Vec::new();
        for part in rest.split(',') {
            let url = if part.contains("://") { part.to_owned() } else { format!("{scheme}://{part}") };
            let mut seed = server(&url, tls)?;
            // Credentials that are given once are for all seeds.
            if let Some(first) = seeds.first()
                && seed.redis_settings().password().is_none()
            {
                seed = seed.set_redis_settings(first.redis_settings().clone());
            }
            if seed.redis_settings().db() != 0 {
                return Err(RedisSetupError::ClusterDatabase);
            }
            if matches!(seed.addr(), ConnectionAddr::Unix(_)) {
                return Err(RedisSetupError::Url);
            }
            seeds.push(seed);
        }
        let node = NodeTemplate { info: seeds.first().cloned().ok_or(RedisSetupError::Url)? };
        Ok(Self::Cluster { seeds, node })
    }
}

fn with_port(host: &str, port: u16) -> String {
    // A colon inside brackets belongs to an IPv6 address.
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port { host.to_owned() } else { format!("{host}:{port}") }
}

/// `sentinel_username` and `sentinel_password`: the credentials of the Sentinels themselves.
fn sentinel_credentials(
    mut settings: RedisConnectionInfo,
    query: &str,
) -> Result<RedisConnectionInfo, RedisSetupError> {
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or(RedisSetupError::Url)?;
        let value = percent_decode(value).ok_or(RedisSetupError::Url)?;
        settings = match key {
            "sentinel_username" => settings.set_username(value),
            "sentinel_password" => settings.set_password(value),
            _ => return Err(RedisSetupError::Url),
        };
    }
    Ok(settings)
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let hex = [rest.next()?, rest.next()?];
            u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(bytes).ok()
}

/// One server by its URL, with the certificates for TLS.
fn server(url: &str, tls: &Tls) -> Result<ConnectionInfo, RedisSetupError> {
    let info = url.into_connection_info().map_err(|_| RedisSetupError::Url)?;
    if *tls == Tls::default() {
        return Ok(info);
    }
    let client_tls = tls.identity.clone().map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
    let certificates = TlsCertificates { client_tls, root_cert: tls.ca.clone() };
    let client = Client::build_with_tls(info, certificates).map_err(|_| RedisSetupError::Tls)?;
    Ok(client.get_connection_info().clone())
}

/// `host:port`, or the path of a socket. Names a server in logs and identifies it.
pub(super) fn name_of(info: &ConnectionInfo) -> String {
    info.addr().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Address, RedisSetupError> {
        Address::parse(url, &Tls::default())
    }

    fn names(infos: &[ConnectionInfo]) -> Vec<String> {
        infos.iter().map(name_of).collect()
    }

    #[test]
    fn one_server() {
        for (url, name) in [
            ("redis://h:7", "h:7"),
            ("rediss://u:p@h/3", "h:6379"),
            ("unix:///tmp/r.sock", "/tmp/r.sock"),
            ("redis+unix:///tmp/r.sock?db=2", "/tmp/r.sock"),
        ] {
            let Ok(Address::One(info)) = parse(url) else { panic!("{url}") };
            assert_eq!(name_of(&info), name);
        }
    }

    #[test]
    fn a_sentinel_group() {
        let url = "redis+sentinel://app:s%40p@a,b:1,[::1]:2/main/4?sentinel_username=s&sentinel_password=x%2Cy";
        let Ok(Address::Sentinel { sentinels, master, node }) = parse(url) else { panic!("{url}") };
        assert_eq!(
            (names(&sentinels), master.as_str()),
            (["a:26379", "b:1", "::1:2"].map(String::from).into(), "main")
        );
        assert!(sentinels.iter().all(|sentinel| sentinel.redis_settings().password() == Some("x,y")));
        let info = node.at("c", 9);
        assert_eq!(name_of(&info), "c:9");
        let settings = info.redis_settings();
        assert_eq!((settings.username(), settings.password(), settings.db()), (Some("app"), Some("s@p"), 4));
        let Ok(Address::Sentinel { node, .. }) = parse("rediss+sentinel://a/m") else { panic!("tls") };
        assert!(matches!(node.at("c", 9).addr(), ConnectionAddr::TcpTls { .. }));
    }

    #[test]
    fn a_cluster() {
        for url in [
            "redis://:pw@a:1,redis://b:2",
            "redis://:pw@a:1,b:2",
            "redis+cluster://:pw@a:1,b:2",
            "redis://:pw@a:1,redis://:pw@b:2",
        ] {
            let Ok(Address::Cluster { seeds, node }) = parse(url) else { panic!("{url}") };
            assert_eq!(names(&seeds), ["a:1", "b:2"]);
            assert!(seeds.iter().all(|seed| seed.redis_settings().password() == Some("pw")), "{url}");
            assert_eq!(node.at("c", 3).redis_settings().password(), Some("pw"));
        }
        assert!(matches!(parse("rediss+cluster://a:1"), Ok(Address::Cluster { seeds, .. }) if seeds.len() == 1));
    }

    #[test]
    fn what_names_nothing_says_what_would() {
        for (url, error) in [
            ("", RedisSetupError::Url),
            ("localhost", RedisSetupError::Url),
            ("http://h", RedisSetupError::Url),
            ("redis://h:x", RedisSetupError::Url),
            ("redis+sentinel://a,b", RedisSetupError::NoMaster),
            ("redis+sentinel://a,b/", RedisSetupError::NoMaster),
            ("redis+sentinel://a/m?master=x", RedisSetupError::Url),
            ("redis://a:1/2,b:2", RedisSetupError::ClusterDatabase),
            ("redis://a:1,unix:///x", RedisSetupError::Url),
        ] {
            assert_eq!(parse(url).err(), Some(error), "{url}");
        }
        let bad = Tls { ca: Some(b"no pem".to_vec()), identity: None };
        assert!(matches!(Address::parse("redis://h", &bad), Err(RedisSetupError::Tls)));
    }
}

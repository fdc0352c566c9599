//! The client's address and host when proxies stand in front of the gateway.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, header::HOST};
use ipnet::IpNet;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Whether an address is one of `trusted_proxies`.
pub(crate) fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    // A dual-stack listener sees IPv4 peers as ::ffff:a.b.c.d.
    let address = address.to_canonical();
    trusted.iter().any(|net| net.contains(&address))
}

/// The client's address: the peer's, or, when the peer is a trusted proxy, the rightmost entry of `X-Forwarded-For`
/// that is not itself a trusted proxy. Entries to the left of it were written by the client and are ignored.
pub(crate) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let mut client = peer.to_canonical();
    let hops = headers.get_all(FORWARDED_FOR).iter().rev();
    let mut hops = hops.flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
    while is_trusted(client, trusted) {
        match hops.next().and_then(parse) {
            Some(hop) => client = hop,
            None => break,
        }
    }
    client
}

/// The host that the browser requested: `X-Forwarded-Host` from a trusted proxy, otherwise `Host`.
pub(crate) fn requested_host<'a>(peer: IpAddr, headers: &'a HeaderMap, trusted: &[IpNet]) -> Option<&'a str> {
    let forwarded = headers.get_all(FORWARDED_HOST).iter().next_back().filter(|_| is_trusted(peer, trusted));
    let forwarded = forwarded.and_then(|value| value.to_str().ok()?.rsplit(',').next()).map(str::trim);
    forwarded.filter(|host| !host.is_empty()).or_else(|| headers.get(HOST)?.to_str().ok())
}

/// Parses an entry: an address, optionally with a port and brackets, as some proxies write it.
fn parse(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim();
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
    let address = bare.parse().ok().or_else(|| Some(entry.parse::<SocketAddr>().ok()?.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, forwarded: &[&str]) -> String {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, value.parse().unwrap());
        }
        client_address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn headers_of_untrusted_peers_are_ignored() {
        assert_eq!(client("203.0.113.9", &["198.51.100.1"]), "203.0.113.9");
        assert_eq!(client("203.0.113.9", &[]), "203.0.113.9");
    }

    #[test]
    fn the_rightmost_untrusted_entry_counts() {
        assert_eq!(client("10.0.0.1", &["1.1.1.1, 198.51.100.1"]), "198.51.100.1");
        assert_eq!(client("10.0.0.1", &["1.1.1.1, 198.51.100.1, 10.2.3.4"]), "198.51.100.1");
        assert_eq!(client("10.0.0.1", &["1.1.1.1", "198.51.100.1", "10.2.3.4"]), "198.51.100.1");
        assert_eq!(client("::ffff:10.0.0.1", &["198.51.100.1:4711"]), "198.51.100.1");
        assert_eq!(client("fd00::1", &["[2001:db8::7]:443"]), "2001:db8::7");
        assert_eq!(client("fd00::1", &["[2001:db8::7]"]), "2001:db8::7");
    }

    #[test]
    fn an_unreadable_entry_ends_the_search() {
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["1.1.1.1, unknown"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["1.1.1.1, , 10.9.9.9"]), "10.9.9.9");
        assert_eq!(client("10.0.0.1", &["10.1.1.1, 10.2.2.2"]), "10.1.1.1");
    }

    #[test]
    fn forwarded_host_is_taken_from_trusted_proxies_only() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let mut headers = HeaderMap::new();
        headers.insert(HOST, "inner:8000".parse().unwrap());
        headers.insert(FORWARDED_HOST, "evil.org, live.example.com".parse().unwrap());
        let host = |peer: &str| requested_host(peer.parse().unwrap(), &headers, &trusted);
        assert_eq!(host("10.0.0.1"), Some("live.example.com"));
        assert_eq!(host("203.0.113.9"), Some("inner:8000"));
    }
}

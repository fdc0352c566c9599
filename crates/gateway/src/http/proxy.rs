//! The PROXY protocol, versions 1 and 2: a load balancer reports the client that it forwards (haproxy's
//! `proxy-protocol.txt`).
//!
//! Only the header's own bytes are consumed, so the stream stays a plain TCP stream.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{io::AsyncReadExt, net::TcpStream};

const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Longest line of version 1, including its end.
const V1_MAX: usize = 107;

/// Most bytes after the fixed part of version 2: addresses and a load balancer's own fields.
const V2_MAX: usize = 4096;

/// How long to wait for more bytes if those received may still become a header. This is rare, because senders write
/// the header at once. Peeking at the same bytes again would not wait.
const UNDECIDED: Duration = Duration::from_millis(5);

/// Why a connection is dropped before its first request.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyError {
    #[error("reading the PROXY header: {0}")]
    Io(#[from] io::Error),
    #[error("malformed PROXY header")]
    Malformed,
}

/// Consumes the header, if there is one. Also returns `None` if it contains no address (health checks of the load
/// balancer).
///
/// Waits for the first bytes: use it with a timeout.
pub(super) async fn read_header(stream: &mut TcpStream) -> Result<Option<SocketAddr>, ProxyError> {
    let mut start = [0; V2_START.len()];
    loop {
        let peeked = stream.peek(&mut start).await?;
        let start = &start[..peeked];
        if start.starts_with(V1_START) {
            return read_v1(stream).await;
        }
        if start == V2_START {
            return read_v2(stream).await;
        }
        if start.is_empty() || !(V1_START.starts_with(start) || V2_START.starts_with(start)) {
            return Ok(None);
        }
        tokio::time::sleep(UNDECIDED).await;
    }
}

async fn read_v1(stream: &mut TcpStream) -> Result<Option<SocketAddr>, ProxyError> {
    let mut line = [0; V1_MAX];
    let mut have = 0;
    while !line[..have].ends_with(b"\n") {
        let there = stream.peek(&mut line[have..]).await?;
        if there == 0 {
            return Err(ProxyError::Malformed);
        }
        let fresh = &mut line[have..have + there];
        let taken = fresh.iter().position(|&byte| byte == b'\n').map_or(there, |end| end + 1);
        have += stream.read_exact(&mut fresh[..taken]).await?;
    }
    let line = std::str::from_utf8(&line[..have]).ok().and_then(|line| line.strip_suffix("\r\n"));
    parse_v1(line.ok_or(ProxyError::Malformed)?)
}

fn parse_v1(line: &str) -> Result<Option<SocketAddr>, ProxyError> {
    let fields: Vec<&str> = line.split(' ').collect();
    match fields[..] {
        ["PROXY", "UNKNOWN", ..] => Ok(None),
        ["PROXY", family @ ("TCP4" | "TCP6"), source, _destination, port, _destination_port] => {
            let ip: IpAddr = source.parse().map_err(|_| ProxyError::Malformed)?;
            let port: u16 = port.parse().map_err(|_| ProxyError::Malformed)?;
            if ip.is_ipv4() == (family == "TCP4") {
                Ok(Some(SocketAddr::new(ip.to_canonical(), port)))
            } else {
                Err(ProxyError::Malformed)
            }
        }
        _ => Err(ProxyError::Malformed),
    }
}

async fn read_v2(stream: &mut TcpStream) -> Result<Option<SocketAddr>, ProxyError> {
    let mut fixed = [0; 16];
    stream.read_exact(&mut fixed).await?;
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > V2_MAX {
        return Err(ProxyError::Malformed);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    parse_v2(fixed[12], fixed[13], &body)
}

fn parse_v2(command: u8, family: u8, body: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
    match (command, family) {
        (0x20, _) => Ok(None),
        (0x21, 0x11) => {
            let (ip, rest) = body.split_first_chunk::<4>().ok_or(ProxyError::Malformed)?;
            Ok(Some(SocketAddr::new(Ipv4Addr::from(*ip).into(), port_behind(rest, 4)?)))
        }
        (0x21, 0x21) => {
            let (ip, rest) = body.split_first_chunk::<16>().ok_or(ProxyError::Malformed)?;
            Ok(Some(SocketAddr::new(Ipv6Addr::from(*ip).to_canonical(), port_behind(rest, 16)?)))
        }
        (0x21, _) => Ok(None),
        _ => Err(ProxyError::Malformed),
    }
}

/// The source port: after the destination address and before the destination port.
fn port_behind(rest: &[u8], address_len: usize) -> Result<u16, ProxyError> {
    match rest.get(address_len..address_len + 4) {
        Some(&[high, low, _, _]) => Ok(u16::from_be_bytes([high, low])),
        _ => Err(ProxyError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_lines() {
        let ok = |line| parse_v1(line).unwrap();
        assert_eq!(ok("PROXY TCP4 192.0.2.7 10.0.0.1 5000 80"), Some("192.0.2.7:5000".parse().unwrap()));
        assert_eq!(ok("PROXY TCP6 2001:db8::7 ::1 5000 80"), Some("[2001:db8::7]:5000".parse().unwrap()));
        assert_eq!(ok("PROXY TCP6 ::ffff:192.0.2.7 ::1 1 80"), Some("192.0.2.7:1".parse().unwrap()));
        assert_eq!(ok("PROXY UNKNOWN"), None);
        assert_eq!(ok("PROXY UNKNOWN ffff:: ffff:: 1 2"), None);
        for bad in [
            "PROXY",
            "PROXY ",
            "PROXY TCP5 192.0.2.7 10.0.0.1 5000 80",
            "PROXY TCP4 2001:db8::7 ::1 5000 80",
            "PROXY TCP4 192.0.2.7 10.0.0.1 70000 80",
            "PROXY TCP4 192.0.2.7 10.0.0.1 5000",
            "PROXY TCP4  192.0.2.7 10.0.0.1 5000 80",
        ] {
            assert!(matches!(parse_v1(bad), Err(ProxyError::Malformed)), "{bad}");
        }
    }

    #[test]
    fn version_2_bodies() {
        let four = [192, 0, 2, 7, 10, 0, 0, 1, 0x13, 0x88, 0, 80];
        assert_eq!(parse_v2(0x21, 0x11, &four).unwrap(), Some("192.0.2.7:5000".parse().unwrap()));
        let mut six = Ipv6Addr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 7]).octets().to_vec();
        six.extend([0; 16]);
        six.extend([0x13, 0x88, 0, 80, 4, 0, 1, 9]);
        assert_eq!(parse_v2(0x21, 0x21, &six).unwrap(), Some("[2001:db8::7]:5000".parse().unwrap()));
        assert_eq!(parse_v2(0x20, 0x11, &four).unwrap(), None, "LOCAL");
        assert_eq!(parse_v2(0x21, 0x31, &[0; 216]).unwrap(), None, "a Unix socket");
        for (command, family, body) in
            [(0x21, 0x11, &four[..11]), (0x21, 0x21, &six[..35]), (0x31, 0x11, &four), (0x22, 0x11, &four)]
        {
            assert!(matches!(parse_v2(command, family, body), Err(ProxyError::Malformed)));
        }
    }
}

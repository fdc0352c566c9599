//! HTTP requests that publish.

use std::io::Write;

/// Appends a POST request. The connection stays open.
pub fn post(out: &mut Vec<u8>, path: &str, headers: &[(&str, &str)], body: &[u8]) {
    let _ = write!(out, "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        let _ = write!(out, "{name}: {value}\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
}

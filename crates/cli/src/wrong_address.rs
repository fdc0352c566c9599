//! Finds out why an address can never work, by asking it over plain HTTP.

use std::time::Duration;

use reqwest::{Client, Url, redirect::Policy};

const TIMEOUT: Duration = Duration::from_secs(3);

/// What is wrong with the address of a gateway, if that can be told.
pub(crate) async fn find(gateway: &str) -> Option<String> {
    let url = Url::parse(gateway).ok()?;
    let authority = format!("{}:{}", url.host_str()?, url.port_or_known_default()?);
    let client = Client::builder().no_proxy().redirect(Policy::none()).timeout(TIMEOUT).build().ok()?;
    let answers = async |path: &str| {
        let answer = client.get(format!("http://{authority}{path}")).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    };
    if answers("/livez").await {
        return Some(format!(
            "{gateway} is the gateway's admin listener (admin.listen), which serves no sockets: use the address of \
             `listen`, by default port 8000"
        ));
    }
    if matches!(url.scheme(), "https" | "wss") && answers("/health").await {
        return Some(format!("{gateway}: the gateway speaks no TLS on this port: use http://{authority}"));
    }
    None
}

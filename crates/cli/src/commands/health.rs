//! `crewcast health`: asks a gateway whether it is healthy, for containers without a shell.

use std::{process::ExitCode, time::Duration};

use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;

use crate::{backend::browsable, duration, error::CliError, output, settings::ConfigArgs};

/// What the admin listener answers.
const READY: &str = "/readyz";
/// What the public listener answers.
const SERVING: &str = "/health";

/// Arguments of `health`.
#[derive(clap::Args, Debug)]
pub(crate) struct HealthArgs {
    /// What to ask, for example http://127.0.0.1:8000/health. An address without a path is asked for /readyz, and for
    /// /health if it has no /readyz [default: /readyz of admin.listen on this machine]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// How long to wait for the answer
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "5s")]
    pub timeout: Duration,
}

/// An answer of the gateway: a status, or the detail of a problem document.
#[derive(Deserialize, Default)]
struct Answer {
    status: Option<serde_json::Value>,
    detail: Option<String>,
}

/// Asks once and prints the answer.
///
/// # Errors
/// `Failed` when the gateway is not healthy, `Unreachable` when it does not answer, `Usage` for an invalid address.
pub(crate) async fn run(args: HealthArgs, config: &ConfigArgs) -> Result<ExitCode, CliError> {
    let url = match &args.url {
        Some(url) => url.clone(),
        None => format!("http://{}", browsable(config.load()?.config.admin.listen)),
    };
    let url = parse(&url)?;
    // Asks the gateway itself, not a proxy of the environment.
    let client = Client::builder().no_proxy().timeout(args.timeout).build().map_err(CliError::failed)?;
    let text = match url.path() {
        "" | "/" => match ask(&client, &at(&url, READY)).await? {
            (StatusCode::NOT_FOUND, _) => healthy(ask(&client, &at(&url, SERVING)).await?, &at(&url, SERVING)),
            answer => healthy(answer, &at(&url, READY)),
        },
        _ => healthy(ask(&client, &url).await?, &url),
    }?;
    output::line(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn parse(text: &str) -> Result<Url, CliError> {
    let bad =
        |why: &str| CliError::Usage(format!("--url {text}: {why}: write for example http://127.0.0.1:9090/readyz"));
    let url = Url::parse(text).map_err(|error| bad(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad("it must begin with http:// or https://"));
    }
    Ok(url)
}

fn at(url: &Url, path: &str) -> Url {
    let mut url = url.clone();
    url.set_path(path);
    url
}

async fn ask(client: &Client, url: &Url) -> Result<(StatusCode, String), CliError> {
    let unreachable = |error: reqwest::Error| {
        let why = if error.is_timeout() { "no answer in time".to_owned() } else { cause(&error) };
        CliError::Unreachable(format!("{url}: {why}\nCheck that the gateway runs and listens there"))
    };
    let response = client.get(url.clone()).send().await.map_err(unreachable)?;
    let status = response.status();
    Ok((status, response.text().await.map_err(unreachable)?))
}

/// The innermost error says what happened, for example "Connection refused".
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn healthy((status, body): (StatusCode, String), url: &Url) -> Result<String, CliError> {
    let answer: Answer = serde_json::from_str(&body).unwrap_or_default();
    if status.is_success() {
        return Ok(answer.status.as_ref().and_then(serde_json::Value::as_str).unwrap_or("ok").to_owned());
    }
    let detail = answer.detail.map(|detail| format!(": {}", crate::render::remark(&detail))).unwrap_or_default();
    Err(CliError::Failed(format!("not healthy: {url} answers {}{detail}", status.as_u16())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_decides() {
        let url = parse("http://127.0.0.1:9090/readyz").unwrap();
        let of = |status, body: &str| healthy((status, body.to_owned()), &url);
        assert_eq!(of(StatusCode::OK, r#"{"status":"ready"}"#).unwrap(), "ready");
        assert_eq!(of(StatusCode::OK, "fine").unwrap(), "ok");
        let problem = r#"{"type":"about:blank","status":503,"detail":"the broker is away"}"#;
        let refused = of(StatusCode::SERVICE_UNAVAILABLE, problem).unwrap_err();
        assert!(
            matches!(&refused, CliError::Failed(text) if text.ends_with("answers 503: the broker is away")),
            "{refused}"
        );
    }

    #[test]
    fn only_web_addresses_are_asked() {
        for bad in ["127.0.0.1:9090", "redis://h", "nothing"] {
            assert!(matches!(parse(bad), Err(CliError::Usage(_))), "{bad}");
        }
    }
}

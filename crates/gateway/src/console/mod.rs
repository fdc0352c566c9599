//! The console: `/ws/client` shows the three crew sockets live. Its files are part of the binary. They load nothing
//! from other hosts and run under a policy without inline scripts or styles.

use axum::{
    Router,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use sha1::{Digest, Sha1};

/// Everything that the page may do. `ws:` and `wss:` are listed besides `'self'`, because for older browsers `'self'`
/// does not include sockets of the same host.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' ws: wss:; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

struct File {
    name: &'static str,
    content_type: &'static str,
    content: &'static str,
}

macro_rules! file {
    ($name:literal, $content_type:expr) => {
        File { name: $name, content_type: $content_type, content: include_str!($name) }
    };
}

static INDEX: File = file!("index.html", HTML);

/// The files that the page loads, under `/ws/client/`.
static PARTS: [File; 9] = [
    file!("style.css", CSS),
    file!("page.js", JS),
    file!("agents.js", JS),
    file!("crews.js", JS),
    file!("dom.js", JS),
    file!("log.js", JS),
    file!("meter.js", JS),
    file!("run.js", JS),
    file!("socket.js", JS),
];

/// `GET /ws/client` and the files that it loads.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let get_file = |file: &'static File| get(move |headers: HeaderMap| async move { serve(file, &headers) });
    let router = Router::new().route("/ws/client", get_file(&INDEX));
    PARTS.iter().fold(router, |router, file| router.route(&format!("/ws/client/{}", file.name), get_file(file)))
}

/// Browsers cache the file but revalidate it each time, so that a new release shows immediately.
fn serve(file: &File, request: &HeaderMap) -> Response {
    let etag = etag(file);
    let known = request.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let fresh = known.is_some_and(|known| known.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag));
    let mut response = if fresh { StatusCode::NOT_MODIFIED.into_response() } else { file.content.into_response() };
    let headers = response.headers_mut();
    let fixed = [
        (header::CONTENT_TYPE, file.content_type),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(header::ETAG, etag);
    }
    response
}

fn etag(file: &File) -> String {
    let digest = Sha1::digest(file.content);
    digest.iter().take(8).fold(String::from("\""), |tag, byte| tag + &format!("{byte:02x}")) + "\""
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn get_with(path: &str, etag: Option<&HeaderValue>) -> Response {
        let mut request = Request::get(path);
        if let Some(etag) = etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        routes::<()>().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    async fn text(response: Response) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn the_page_has_a_strict_policy() {
        let response = get_with("/ws/client", None).await;
        assert_eq!(response.status(), StatusCode::OK);
        let headers = response.headers();
        assert_eq!(headers[header::CONTENT_TYPE], HTML);
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        let page = text(response).await;
        assert!(!page.contains("<script>") && !page.contains("<style") && !page.contains("style="));
        assert!(!page.contains("onclick") && !page.contains("href=\"http") && !page.contains("src=\"http"));
    }

    #[tokio::test]
    async fn every_file_that_the_page_names_is_served() {
        let sources = std::iter::once(&INDEX).chain(&PARTS);
        let quoted = sources.flat_map(|file| file.content.split('"'));
        let names: Vec<_> = quoted
            .filter_map(|part| part.strip_prefix("./").or_else(|| part.strip_prefix("client/")))
            .filter(|name| name.ends_with(".js") || name.ends_with(".css"))
            .collect();
        assert!(names.contains(&"style.css") && names.contains(&"page.js") && names.len() >= PARTS.len(), "{names:?}");
        for name in names {
            let response = get_with(&format!("/ws/client/{name}"), None).await;
            assert_eq!(response.status(), StatusCode::OK, "{name}");
            let content_type = if name.ends_with(".css") { CSS } else { JS };
            assert_eq!(response.headers()[header::CONTENT_TYPE], content_type, "{name}");
            assert!(!text(response).await.is_empty());
        }
    }

    #[tokio::test]
    async fn only_the_files_of_the_page_are_served() {
        for path in ["/ws/client/mod.rs", "/ws/client/index.html", "/ws/client/..%2Fmod.rs", "/ws/client/"] {
            assert_eq!(get_with(path, None).await.status(), StatusCode::NOT_FOUND, "{path}");
        }
    }

    #[tokio::test]
    async fn an_unchanged_file_is_not_sent_again() {
        let first = get_with("/ws/client/page.js", None).await;
        let etag = first.headers()[header::ETAG].clone();
        let again = get_with("/ws/client/page.js", Some(&etag)).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(text(again).await, "");
        let other = HeaderValue::from_static("\"0000\"");
        assert_eq!(get_with("/ws/client/page.js", Some(&other)).await.status(), StatusCode::OK);
    }

    /// Text from producers must never become markup.
    #[test]
    fn no_script_of_the_page_writes_markup() {
        let markup = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "setTimeout(\"",
        ];
        for file in &PARTS {
            for way in markup {
                assert!(!file.content.contains(way), "{} uses {way}", file.name);
            }
        }
    }
}

//! The caller of a request over plain HTTP.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
};

use super::problem::{BROKER_RETRY, Problem, ProblemType};
use crate::{
    app::App,
    auth::{AuthError, Credential, Identity, Presented},
};

/// The identity behind a request's token, or the anonymous one. Requests are refused before their body is read.
/// Tickets are not accepted here: they are for sockets and event streams, whose clients cannot send headers.
pub(crate) struct Caller(pub Identity);

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let presented = Presented::of(&parts.headers, parts.uri.query(), app.config.auth.query_token);
        if matches!(presented.credential, Credential::Ticket(_)) {
            let detail = "a ticket opens a socket or an event stream: send Authorization: Bearer <jwt> here";
            return Err(Problem::new(ProblemType::Unauthorized, detail));
        }
        Ok(Caller(identify(app, parts, &presented.credential).await?))
    }
}

/// Checks a credential and, for browsers, the page's origin. Also used for event streams.
///
/// # Errors
/// [`AuthError`], which becomes a [`Problem`]: 401, 403 for a foreign page, 503 while tokens cannot be checked.
pub(crate) async fn identify(app: &App, parts: &Parts, credential: &Credential) -> Result<Identity, AuthError> {
    let identity = app.auth.identify(credential).await?.ok_or(AuthError::Missing)?;
    if let Some(page) = app.page(parts) {
        page.check_http(&app.config, identity.anonymous)?;
    }
    Ok(identity)
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        let reason = error.reason();
        match StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::UNAUTHORIZED) {
            StatusCode::FORBIDDEN => Problem::new(ProblemType::Forbidden, reason),
            StatusCode::SERVICE_UNAVAILABLE => Problem::new(ProblemType::Unavailable, reason).retry_after(BROKER_RETRY),
            _ if matches!(error, AuthError::Missing | AuthError::QueryTokenOff) => {
                Problem::new(ProblemType::Unauthorized, "no token: send Authorization: Bearer <jwt>")
            }
            _ => Problem::new(ProblemType::Unauthorized, reason).invalid_token(),
        }
    }
}

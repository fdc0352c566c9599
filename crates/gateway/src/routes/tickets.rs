//! `POST /api/v1/tickets`: a single-use substitute for the caller's token, for browsers' `EventSource`, which cannot
//! send headers.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::Serialize;

use super::{
    caller::Caller,
    problem::{Problem, ProblemType},
};
use crate::{app::App, auth::TICKET_TTL};

/// A ticket to append as `?ticket=`.
#[derive(Serialize)]
pub(crate) struct Issued {
    ticket: String,
    /// Seconds.
    expires_in: u64,
}

/// Issues a ticket.
///
/// # Errors
/// 401 without a token: anonymous callers need no ticket.
pub(crate) async fn issue(State(app): State<Arc<App>>, Caller(identity): Caller) -> Result<Json<Issued>, Problem> {
    if identity.anonymous {
        return Err(Problem::new(ProblemType::Unauthorized, "a ticket stands in for a token: send one"));
    }
    let ticket = app.auth.issue_ticket(&identity).await?;
    Ok(Json(Issued { ticket, expires_in: TICKET_TTL.as_secs() }))
}

//! `GET /ws/stats`: the usage of this replica, and of all replicas together.

use std::sync::Arc;

use axum::{Json, extract::State};

use super::{
    caller::Caller,
    problem::{Problem, ProblemType},
};
use crate::{
    app::App,
    stats::{UsageAnswer, UsageScope},
};

/// The usage of the token's org, or of everyone with the claim `admin`.
///
/// # Errors
/// 403 for a token with neither.
pub(crate) async fn stats(State(app): State<Arc<App>>, Caller(identity): Caller) -> Result<Json<UsageAnswer>, Problem> {
    let scope = match &identity.org {
        _ if identity.admin => UsageScope::All,
        Some(org) => UsageScope::Org(org),
        None => {
            let detail = "figures are an org's: the token names none, nor has it the claim \"admin\"";
            return Err(Problem::new(ProblemType::Forbidden, detail));
        }
    };
    Ok(Json(app.stats.answer(scope).await?))
}

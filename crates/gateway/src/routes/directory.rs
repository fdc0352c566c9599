//! `POST /api/v1/directory`: registers the org that owns a crew, run, stream or session.
//!
//! Callers register ids for their token's org only, and the first owner keeps an id. Only an operator can move an id,
//! on the command line. A token that cannot publish cannot register either, so that readers do not take ids.

use std::sync::Arc;

use axum::{Json, body::Body, extract::State};
use crewcast_events::{Kind, is_id};
use crewcast_store::{Ownership, OwnershipMode, OwnershipOutcome};
use serde::{Deserialize, Serialize};

use super::{
    body::{json, read, text},
    caller::Caller,
    problem::{Problem, ProblemType},
};
use crate::{app::App, auth::Identity};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RegisterRequest {
    kind: Kind,
    id: String,
    org: Option<String>,
    crew: Option<String>,
}

/// The entry as it is now.
#[derive(Debug, Serialize)]
pub(crate) struct Registered {
    kind: Kind,
    id: String,
    org: String,
}

/// Registers an id. Registering it again changes nothing.
///
/// # Errors
/// 403 for another org than the token's, 409 if another org owns the id.
pub(crate) async fn register(
    State(app): State<Arc<App>>,
    Caller(identity): Caller,
    body: Body,
) -> Result<Json<Registered>, Problem> {
    let body = read(&app.limits, body).await?;
    let request: RegisterRequest = json(text(&body)?)?;
    let ownership = ownership(request, &identity)?;
    own_crew(&app, &ownership).await?;
    match app.broker.transport.register(&ownership, OwnershipMode::Keep).await? {
        OwnershipOutcome::Done => Ok(Json(Registered { kind: ownership.kind, id: ownership.id, org: ownership.org })),
        // The answer does not name the owner: an org learns nothing about other orgs.
        OwnershipOutcome::OwnedBy(_) => Err(Problem::new(
            ProblemType::OwnedByAnother,
            format!("the {} {} belongs to another org", ownership.kind.as_str(), ownership.id),
        )),
    }
}

fn ownership(request: RegisterRequest, identity: &Identity) -> Result<Ownership, Problem> {
    let malformed = |detail: &str| Err(Problem::new(ProblemType::Malformed, detail));
    if !is_id(&request.id) || !request.crew.as_deref().is_none_or(is_id) {
        return malformed("\"id\" and \"crew\" are 1 to 128 characters of [A-Za-z0-9._-]");
    }
    if request.crew.is_some() && request.kind != Kind::Run {
        return malformed("only a run has a \"crew\"");
    }
    let forbidden = |detail: &str| Err(Problem::new(ProblemType::Forbidden, detail));
    if identity.grants.publish.0.is_empty() {
        return forbidden("registering needs a token that may publish: its claim \"publish\" is empty");
    }
    match &identity.org {
        None => forbidden("registering needs a token with an org"),
        Some(own) if request.org.as_deref().is_some_and(|org| org != &**own) => {
            forbidden("one registers under one's token's own org only")
        }
        Some(own) => Ok(Ownership { kind: request.kind, id: request.id, org: own.to_string(), crew: request.crew }),
    }
}

/// Checks that a run's crew does not belong to another org, because the crew's readers may read the run.
async fn own_crew(app: &App, ownership: &Ownership) -> Result<(), Problem> {
    let Some(crew) = &ownership.crew else { return Ok(()) };
    let owners = app.directory.owners(Kind::Crew, std::slice::from_ref(crew)).await?;
    match owners.get(crew) {
        Some(owner) if owner.org != ownership.org => {
            Err(Problem::new(ProblemType::Forbidden, format!("the crew {crew} belongs to another org")))
        }
        _ => Ok(()),
    }
}

//! Sessions that only live events on `tracking:<org>` told of: nobody has registered them, so that their own channel is
//! not granted, but their org may see them.

use std::sync::Arc;

use bytes::Bytes;
use crewcast_events::{Channel, catalog::session::STATE_KEY};

use super::{ConnectionContext, Principal, jobs::if_granted};
use crate::{
    broker::{
        Live,
        captured::{SESSION, lines_of, session_name, state_of},
    },
    replay::{StateDocuments, Tail},
};

/// What live events told of a session to the principal's org.
async fn live(shared: &ConnectionContext, principal: &Principal, session: &Channel) -> Option<Arc<Live>> {
    let org = principal.identity()?.org.as_deref()?;
    let channel = Channel::new("tracking", org).ok().filter(|_| session.namespace() == SESSION)?;
    let read = || shared.channel_reads.live(channel.clone(), session_name(session.id()));
    let live = if_granted(&shared.auth, principal, &channel, read).await?;
    (*live != Live::default()).then_some(live)
}

/// The state of a session, or else what live events said last.
pub(super) async fn state(
    shared: &ConnectionContext,
    principal: &Principal,
    session: &Channel,
    state: Option<Arc<StateDocuments>>,
) -> Option<Arc<StateDocuments>> {
    let has_state = |state: &Arc<StateDocuments>| state.documents.iter().any(|(key, _)| key == STATE_KEY);
    if state.as_ref().is_some_and(has_state) {
        return state;
    }
    let message = live(shared, principal, session).await.and_then(|live| live.last.clone());
    let Some(document) = message.and_then(|message: Bytes| state_of(&message)) else { return state };
    let documents = vec![(STATE_KEY.to_owned(), document)];
    Some(Arc::new(StateDocuments { documents, ..StateDocuments::default() }))
}

/// The last lines of a session, with those that live events brought.
pub(super) async fn tail(
    shared: &ConnectionContext,
    principal: &Principal,
    session: &Channel,
    tail: Option<Arc<Tail>>,
) -> Option<Arc<Tail>> {
    let Some(live) = live(shared, principal, session).await else { return tail };
    let known = tail.as_deref();
    let mut lines = known.and_then(|tail| tail.live.clone()).unwrap_or_default();
    lines.extend(lines_of(&live.lines));
    let (head, entries) = known.map(|tail| (tail.head, tail.entries.clone())).unwrap_or_default();
    Some(Arc::new(Tail { head, entries, live: Some(lines) }))
}

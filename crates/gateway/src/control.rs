//! Control messages to every replica: revocations, changes of the directory, new connections of clients. Passes each
//! one to the sockets that it concerns.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use crewcast_events::Kind;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    adoption::Adoption,
    app::App,
    connection::ConnectionRegistry,
    hub::{Flag, Hub},
    registry::Control,
    relay::ControlSink,
};

/// How long changes of the directory are collected before the sockets of their orgs review their grants.
const GATHER: Duration = Duration::from_millis(100);

/// Applies control messages immediately.
pub(crate) struct Controls {
    app: Arc<App>,
    hub: Arc<Hub>,
    adoption: Arc<Adoption>,
    reviews: Arc<Reviews>,
}

/// The orgs whose sockets are to review their grants. Collected, so that a burst of changes costs one review.
#[derive(Default)]
pub(crate) struct Reviews {
    orgs: Mutex<BTreeSet<String>>,
    asked: Notify,
}

impl Reviews {
    fn ask<'a>(&self, orgs: impl Iterator<Item = &'a String>) {
        self.orgs.lock().extend(orgs.cloned());
        self.asked.notify_one();
    }

    /// Makes the sockets of the collected orgs review their grants. Never returns.
    pub(crate) async fn serve(self: Arc<Self>, registry: Arc<ConnectionRegistry>) {
        loop {
            self.asked.notified().await;
            tokio::time::sleep(GATHER).await;
            let orgs = std::mem::take(&mut *self.orgs.lock());
            registry.raise(Flag::Grants, |org| org.is_some_and(|org| orgs.contains(org))).await;
        }
    }
}

impl Controls {
    /// Applies messages to this replica.
    pub(crate) fn new(app: Arc<App>, hub: Arc<Hub>, adoption: Arc<Adoption>, reviews: Arc<Reviews>) -> Self {
        Self { app, hub, adoption, reviews }
    }
}

impl ControlSink for Controls {
    fn on_control(&self, control: &Control) {
        self.app.auth.on_control(control);
        match control {
            Control::Directory { ownership, from, removed } => {
                for channel in self.app.config.namespaces.channels_of(ownership.kind, &ownership.id) {
                    if from.is_some() || *removed {
                        self.adoption.owner_changed(ownership.kind, &ownership.id);
                        // The stored past of the channel must not reach the new owner.
                        self.hub.forget_past(&channel);
                    }
                    self.hub.raise(&channel, Flag::Grants);
                }
                if ownership.kind == Kind::Crew {
                    // Sockets that read every crew of the org learn that one was added or removed.
                    self.reviews.ask(std::iter::once(&ownership.org).chain(from));
                }
            }
            Control::Client { client, number } => self.app.shared.client_sessions.announced(client, *number),
            Control::Revoked(_) => {
                let registry = self.app.shared.connections.clone();
                self.app.sockets.spawn(async move { registry.raise(Flag::Grants, |_| true).await });
            }
        }
    }

    fn on_link_up(&self) {
        self.adoption.on_link_up();
        self.app.auth.on_link_up();
    }
}

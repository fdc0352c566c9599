//! What every replica is told: revocations, changes of the directory, clients that come, and whom they concern.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use crewcast_events::Kind;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    app::App,
    broker::Control,
    connection::ConnectionRegistry,
    hub::{Flag, Hub},
    relay::ControlSink,
};

/// How long changes of the directory are gathered before the sockets of their orgs review what they may read.
const GATHER: Duration = Duration::from_millis(100);

/// Acts on control messages at once, for those whom they concern.
pub struct Controls {
    app: Arc<App>,
    hub: Arc<Hub>,
    reviews: Arc<Reviews>,
}

/// Whose sockets are to review their grants: gathered, so that many changes at once cost one review.
#[derive(Default)]
pub struct Reviews {
    orgs: Mutex<BTreeSet<String>>,
    asked: Notify,
}

impl Reviews {
    fn ask<'a>(&self, orgs: impl Iterator<Item = &'a String>) {
        self.orgs.lock().extend(orgs.cloned());
        self.asked.notify_one();
    }

    /// Lets the sockets of the orgs that were asked for review their grants, for ever.
    pub async fn serve(self: Arc<Self>, registry: Arc<ConnectionRegistry>) {
        loop {
            self.asked.notified().await;
            tokio::time::sleep(GATHER).await;
            let orgs = std::mem::take(&mut *self.orgs.lock());
            registry.raise(Flag::Grants, |org| org.is_some_and(|org| orgs.contains(org))).await;
        }
    }
}

impl Controls {
    /// Acts for this replica.
    pub fn new(app: Arc<App>, hub: Arc<Hub>, reviews: Arc<Reviews>) -> Self {
        Self { app, hub, reviews }
    }
}

impl ControlSink for Controls {
    fn on_control(&self, control: &Control) {
        self.app.auth.on_control(control);
        match control {
            Control::Directory { ownership, from, removed } => {
                for channel in self.app.config.namespaces.channels_of(ownership.kind, &ownership.id) {
                    if from.is_some() || *removed {
                        // What this replica remembers of the channel is not the new owner's.
                        self.hub.forget_past(&channel);
                    }
                    self.hub.raise(&channel, Flag::Grants);
                }
                if ownership.kind == Kind::Crew {
                    // Who reads every crew of an org learns of one that came or went.
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
        self.app.auth.on_link_up();
    }
}

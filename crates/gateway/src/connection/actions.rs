//! Executes the actions of the dialect.

use crewcast_events::Channel;
use crewcast_websocket::frame::is_deflated;

use super::{Connection, jobs::GrantRequest};
use crate::{
    dashboards::{Dashboard, DashboardWatch},
    dialect::{Action, Denied},
    outbox::Outbox,
    replay::Start,
};

impl<O: Outbox> Connection<O> {
    /// Executes the queued actions, and those that the dialect adds meanwhile, until the connection ends.
    pub(super) fn perform(&mut self) {
        while self.end.is_none() && !self.actions.is_empty() {
            let mut actions = std::mem::take(&mut self.actions);
            for action in actions.drain(..) {
                self.execute(action);
                if self.end.is_some() {
                    break;
                }
            }
            // An action may have made the dialect queue others. Otherwise the emptied buffer is used again.
            if self.actions.is_empty() {
                self.actions = actions;
            }
        }
        self.subscriptions.metrics.flush(self.dialect.label());
    }

    fn execute(&mut self, action: Action) {
        match action {
            Action::Send(frame) => self.outbox.queue(frame),
            Action::Deliver(frame, encoding, entry) => {
                let frame = self.frame_for_peer(frame, encoding, &entry);
                // A frame of a WebSocket says itself that it is compressed; the text of an event stream cannot.
                let is_compressed = self.outbox.agreed().is_some() && is_deflated(&frame);
                self.subscriptions.metrics.count(&frame, is_compressed, &entry);
                self.outbox.queue(frame);
            }
            Action::DeliverBatch { frame, events } => {
                self.subscriptions.metrics.count_batch(&frame, events);
                self.outbox.queue(frame);
            }
            Action::Subscribe { channel, start } => {
                let key = self.subscriptions.request(channel.clone(), start);
                self.jobs.request_grant(&self.shared, &self.principal, GrantRequest::now(key, channel));
            }
            Action::SubscribeAll { namespace, start, appearing } => {
                self.subscriptions.request_all(namespace, start, appearing);
                self.jobs.list(
                    &self.shared,
                    &self.principal,
                    GrantRequest::now(0, namespace),
                    self.subscriptions.listed(),
                );
            }
            Action::SubscribeOwn { namespace, start } => self.subscribe_own(namespace, start),
            Action::Unsubscribe(channel) => self.subscriptions.drop_channel(&channel),
            Action::Resume => self.subscriptions.resume(),
            Action::UnsubscribeAll { namespace } => self.subscriptions.drop_all(namespace),
            Action::Fetch { channel, offset } => self.jobs.fetch(&self.shared, channel, offset),
            Action::ReadSnapshot { channel } => self.jobs.snapshot(&self.shared, &self.principal, channel),
            Action::ReadState { channel, within } => {
                self.jobs.read_state(&self.shared, &self.principal, channel, within);
            }
            Action::ReadTail { channel, kind } => self.jobs.read_tail(&self.shared, &self.principal, channel, kind),
            Action::Replace { client } => {
                let takeover =
                    self.shared.client_sessions.add_socket(&client, self.principal.identity(), self.notifier.clone());
                self.jobs.register_client(&self.shared, takeover.client());
                self.takeover = Some(Box::new(takeover));
            }
            Action::Watch(dashboard) => self.watch(dashboard, None),
            Action::Authenticate(token) => {
                self.jobs.verify(&self.shared, self.principal.identity(), token, self.admission.client);
            }
            Action::Publish { channel, event, reference } => {
                self.jobs.publish(&self.shared, self.principal.identity(), channel, event, reference);
            }
            Action::WakeAt(at) => self.deadlines.wake_dialect_at(at),
            Action::Close(code, reason) => self.end = Some(Box::new((code, reason))),
        }
    }

    /// Queues what the dialect holds back, before the outbox is closed.
    pub(super) fn flush_on_close(&mut self) {
        if !self.peer_gone {
            if let Some((code, reason)) = self.end.as_deref() {
                self.dialect.on_close(*code, reason, &mut self.actions);
            }
            std::mem::take(&mut self.actions).into_iter().for_each(|action| self.execute(action));
            self.subscriptions.metrics.flush(self.dialect.label());
        }
    }

    fn subscribe_own(&mut self, namespace: &'static str, start: Start) {
        let own = self.org().and_then(|org| Channel::new(namespace, &org).ok());
        let Some(channel) = own else {
            return self.dialect.on_refused(Denied::Own, &mut self.actions);
        };
        let key = self.subscriptions.request(channel.clone(), start);
        self.jobs.request_grant(&self.shared, &self.principal, GrantRequest::now(key, channel));
    }

    /// Waits for the next document of a dashboard. `watching`: the watch so far, if there is one.
    pub(super) fn watch(&mut self, dashboard: Dashboard, watching: Option<DashboardWatch>) {
        let Some(org) = self.org() else {
            return self.dialect.on_refused(Denied::Own, &mut self.actions);
        };
        let watching = watching.unwrap_or_else(|| self.shared.dashboards.watch(dashboard, org.clone()));
        self.jobs.dashboard(&self.shared, &self.principal, dashboard, org, watching);
    }
}

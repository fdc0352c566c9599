//! The registry of all open connections of this replica: revocations, a drain or a lost link reach them through it.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::hub::{Flag, Notifier};

/// The notifiers of all open connections.
#[derive(Default)]
pub(crate) struct ConnectionRegistry {
    slots: Mutex<Slots>,
}

struct RegisteredConnection {
    notifier: Arc<Notifier>,
    org: Option<Arc<str>>,
}

#[derive(Default)]
struct Slots {
    connections: Vec<Option<RegisteredConnection>>,
    free: Vec<usize>,
}

/// A connection's entry in the registry; dropping it removes the entry.
pub(crate) struct Registration {
    registry: Arc<ConnectionRegistry>,
    index: usize,
}

impl ConnectionRegistry {
    /// Adds a connection, with the org of its principal.
    pub(crate) fn register(self: &Arc<Self>, notifier: Arc<Notifier>, org: Option<Arc<str>>) -> Registration {
        let mut slots = self.slots.lock();
        let registered = Some(RegisteredConnection { notifier, org });
        let index = match slots.free.pop() {
            Some(index) => {
                slots.connections[index] = registered;
                index
            }
            None => {
                slots.connections.push(registered);
                slots.connections.len() - 1
            }
        };
        Registration { registry: self.clone(), index }
    }

    /// Raises a flag for every connection whose org fulfils `concerns`. The lock is released after each thousand, so
    /// that connections can open and close meanwhile.
    pub(crate) async fn raise(&self, flag: Flag, concerns: impl Fn(Option<&str>) -> bool) {
        let mut begin = 0;
        loop {
            {
                let slots = self.slots.lock();
                if begin >= slots.connections.len() {
                    return;
                }
                let end = (begin + 1000).min(slots.connections.len());
                let concerned = slots.connections[begin..end].iter().flatten().filter(|s| concerns(s.org.as_deref()));
                concerned.for_each(|registered| registered.notifier.raise(flag));
                begin = end;
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut slots = self.registry.slots.lock();
        slots.connections[self.index] = None;
        slots.free.push(self.index);
    }
}

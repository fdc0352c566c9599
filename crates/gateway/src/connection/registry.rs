//! Every connection of this replica, so that a revocation, a drain or a lost link reaches each.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::hub::{Flag, Notifier};

/// The wakes of all connections.
#[derive(Default)]
pub struct ConnectionRegistry {
    slots: Mutex<Slots>,
}

struct RegisteredConnection {
    notifier: Arc<Notifier>,
    org: Option<Arc<str>>,
}

#[derive(Default)]
struct Slots {
    notifiers: Vec<Option<RegisteredConnection>>,
    free: Vec<usize>,
}

/// A connection's place in the crowd; dropping it leaves.
pub struct Registration {
    registry: Arc<ConnectionRegistry>,
    index: usize,
}

impl ConnectionRegistry {
    /// Adds a connection of somebody of this org.
    pub fn enter(self: &Arc<Self>, notifier: Arc<Notifier>, org: Option<Arc<str>>) -> Registration {
        let mut slots = self.slots.lock();
        let registered = Some(RegisteredConnection { notifier, org });
        let index = match slots.free.pop() {
            Some(index) => {
                slots.notifiers[index] = registered;
                index
            }
            None => {
                slots.notifiers.push(registered);
                slots.notifiers.len() - 1
            }
        };
        Registration { registry: self.clone(), index }
    }

    /// Raises a flag for every connection of the orgs that `concerns` names, a thousand at a time, so that
    /// entering and leaving go on meanwhile.
    pub async fn raise(&self, flag: Flag, concerns: impl Fn(Option<&str>) -> bool) {
        let mut begin = 0;
        loop {
            {
                let slots = self.slots.lock();
                if begin >= slots.notifiers.len() {
                    return;
                }
                let end = (begin + 1000).min(slots.notifiers.len());
                let meant = slots.notifiers[begin..end].iter().flatten().filter(|s| concerns(s.org.as_deref()));
                meant.for_each(|registered| registered.notifier.raise(flag));
                begin = end;
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut slots = self.registry.slots.lock();
        slots.notifiers[self.index] = None;
        slots.free.push(self.index);
    }
}

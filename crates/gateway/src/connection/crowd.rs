//! Every connection of this replica, so that a revocation, a drain or a lost link reaches each.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::hub::{Flag, Notifier};

/// The wakes of all connections.
#[derive(Default)]
pub struct Crowd {
    places: Mutex<Places>,
}

struct Standing {
    notifier: Arc<Notifier>,
    org: Option<Arc<str>>,
}

#[derive(Default)]
struct Places {
    notifiers: Vec<Option<Standing>>,
    vacant: Vec<usize>,
}

/// A connection's place in the crowd; dropping it leaves.
pub struct Place {
    crowd: Arc<Crowd>,
    index: usize,
}

impl Crowd {
    /// Adds a connection of somebody of this org.
    pub fn enter(self: &Arc<Self>, notifier: Arc<Notifier>, org: Option<Arc<str>>) -> Place {
        let mut places = self.places.lock();
        let standing = Some(Standing { notifier, org });
        let index = match places.vacant.pop() {
            Some(index) => {
                places.notifiers[index] = standing;
                index
            }
            None => {
                places.notifiers.push(standing);
                places.notifiers.len() - 1
            }
        };
        Place { crowd: self.clone(), index }
    }

    /// Raises a flag for every connection of the orgs that `concerns` names, a thousand at a time, so that
    /// entering and leaving go on meanwhile.
    pub async fn raise(&self, flag: Flag, concerns: impl Fn(Option<&str>) -> bool) {
        let mut begin = 0;
        loop {
            {
                let places = self.places.lock();
                if begin >= places.notifiers.len() {
                    return;
                }
                let end = (begin + 1000).min(places.notifiers.len());
                let meant = places.notifiers[begin..end].iter().flatten().filter(|s| concerns(s.org.as_deref()));
                meant.for_each(|standing| standing.notifier.raise(flag));
                begin = end;
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.crowd.places.lock();
        places.notifiers[self.index] = None;
        places.vacant.push(self.index);
    }
}

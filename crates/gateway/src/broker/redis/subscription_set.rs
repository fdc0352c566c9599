//! Which channels shall be subscribed, and what must be said to Redis so that they are.

use std::collections::HashSet;

use crewcast_events::Channel;

/// The wanted set beside what the present connection has confirmed. Callers change the first and one task
/// brings the second after it, so that whatever order calls come in, the last one counts.
#[derive(Default)]
pub(super) struct SubscriptionSet {
    channels: HashSet<Channel>,
    confirmed: HashSet<Channel>,
    /// What was changed since the last [`SubscriptionSet::take`].
    touched: HashSet<Channel>,
    /// What the server has given up by itself of its sharded side: the classic subscription still stands.
    leftover: HashSet<Channel>,
    changes: u64,
}

/// What brings the confirmed set after the wanted one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) subscribe: Vec<Channel>,
    pub(super) unsubscribe: Vec<Channel>,
    /// Subscribed in the classic way only, and no longer here.
    pub(super) leftover: Vec<Channel>,
    /// The last change that is served by it.
    pub(super) upto: u64,
}

impl SubscriptionSet {
    /// Wants channels; answers the number of the change.
    pub(super) fn add(&mut self, channels: &[Channel]) -> u64 {
        for channel in channels {
            if self.channels.insert(channel.clone()) {
                self.touched.insert(channel.clone());
            }
        }
        self.changes += 1;
        self.changes
    }

    /// No longer wants channels; answers the number of the change.
    pub(super) fn remove(&mut self, channels: &[Channel]) -> u64 {
        for channel in channels {
            if self.channels.remove(channel) {
                self.touched.insert(channel.clone());
            }
        }
        self.changes += 1;
        self.changes
    }

    /// A new connection has confirmed nothing.
    pub(super) fn restart(&mut self) {
        self.confirmed.clear();
        self.leftover.clear();
        self.touched = self.channels.clone();
    }

    /// Redis has given a channel up by itself. `None` when it was not subscribed; else whether it was wanted, which
    /// it no longer is here.
    pub(super) fn lost(&mut self, channel: &Channel) -> Option<bool> {
        self.confirmed.remove(channel).then(|| {
            self.leftover.insert(channel.clone());
            self.channels.remove(channel)
        })
    }

    /// Redis has not taken a channel. Answers whether it is still wanted, which it no longer is here.
    pub(super) fn refused(&mut self, channel: &Channel) -> bool {
        self.confirmed.remove(channel);
        self.channels.remove(channel)
    }

    /// What is to be done now. It is taken as done: whoever fails at it ends the connection.
    pub(super) fn take(&mut self) -> Work {
        let leftover = self.leftover.drain().collect();
        let mut work = Work { subscribe: Vec::new(), unsubscribe: Vec::new(), leftover, upto: self.changes };
        for channel in std::mem::take(&mut self.touched) {
            match (self.channels.contains(&channel), self.confirmed.contains(&channel)) {
                (true, false) => {
                    self.confirmed.insert(channel.clone());
                    work.subscribe.push(channel);
                }
                (false, true) => {
                    self.confirmed.remove(&channel);
                    work.unsubscribe.push(channel);
                }
                _ => {}
            }
        }
        work
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(subscribe: &[&Channel], unsubscribe: &[&Channel], upto: u64) -> Work {
        let all = |channels: &[&Channel]| channels.iter().map(|&channel| channel.clone()).collect();
        Work { subscribe: all(subscribe), unsubscribe: all(unsubscribe), leftover: vec![], upto }
    }

    #[test]
    fn only_the_difference_is_said() {
        let [a, b, c] = ["run:a", "run:b", "run:c"].map(|name| name.parse::<Channel>().unwrap());
        let mut wanted = SubscriptionSet::default();
        wanted.add(&[a.clone(), b.clone()]);
        wanted.remove(std::slice::from_ref(&b));
        assert_eq!(wanted.take(), work(&[&a], &[], 2));
        wanted.remove(std::slice::from_ref(&a));
        wanted.add(&[a.clone(), a.clone()]);
        assert_eq!(wanted.take(), work(&[], &[], 4));
        wanted.remove(&[a.clone(), c.clone()]);
        assert_eq!(wanted.take(), work(&[], &[&a], 5));
        wanted.add(std::slice::from_ref(&c));
        wanted.take();
        wanted.restart();
        wanted.add(&[]);
        assert_eq!(wanted.take(), work(&[&c], &[], 7));
    }

    #[test]
    fn what_redis_gives_up_by_itself_leaves_the_classic_side() {
        let [a, b] = ["run:a", "run:b"].map(|name| name.parse::<Channel>().unwrap());
        let mut wanted = SubscriptionSet::default();
        wanted.add(&[a.clone(), b.clone()]);
        wanted.take();
        wanted.remove(std::slice::from_ref(&b));
        assert_eq!((wanted.lost(&a), wanted.lost(&b)), (Some(true), Some(false)));
        assert_eq!(wanted.lost(&a), None, "what is not subscribed cannot be lost");
        let mut next = wanted.take();
        next.leftover.sort_by(|x, y| x.as_str().cmp(y.as_str()));
        assert_eq!(next, Work { leftover: vec![a.clone(), b], ..work(&[], &[], 2) });
        wanted.add(std::slice::from_ref(&a));
        wanted.take();
        assert!(wanted.refused(&a) && !wanted.refused(&a));
        assert_eq!(wanted.take(), work(&[], &[], 3), "it is nowhere subscribed");
    }
}

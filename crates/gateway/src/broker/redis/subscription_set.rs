//! Which channels are to be subscribed, and which commands Redis needs for that.

use std::collections::HashSet;

use crewcast_events::Channel;

/// The wanted set and what the current connection has confirmed. Callers change the wanted set, and one task brings the
/// confirmed set in line, so that the last call counts whatever the order.
#[derive(Default)]
pub(super) struct SubscriptionSet {
    channels: HashSet<Channel>,
    confirmed: HashSet<Channel>,
    /// Channels changed since the last [`SubscriptionSet::take`].
    touched: HashSet<Channel>,
    /// Channels whose sharded subscription the server gave up by itself: the classic subscription is still there.
    leftover: HashSet<Channel>,
    changes: u64,
}

/// The commands that bring the confirmed set in line with the wanted one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) subscribe: Vec<Channel>,
    pub(super) unsubscribe: Vec<Channel>,
    /// Channels that are still subscribed the classic way, and no longer belong here.
    pub(super) leftover: Vec<Channel>,
    /// The last change that these commands cover.
    pub(super) upto: u64,
}

impl SubscriptionSet {
    /// Wants channels; returns the number of the change.
    pub(super) fn add(&mut self, channels: &[Channel]) -> u64 {
        for channel in channels {
            if self.channels.insert(channel.clone()) {
                self.touched.insert(channel.clone());
            }
        }
        self.changes += 1;
        self.changes
    }

    /// No longer wants channels; returns the number of the change.
    pub(super) fn remove(&mut self, channels: &[Channel]) -> u64 {
        for channel in channels {
            if self.channels.remove(channel) {
                self.touched.insert(channel.clone());
            }
        }
        self.changes += 1;
        self.changes
    }

    /// Starts over with a new connection, which has confirmed nothing.
    pub(super) fn restart(&mut self) {
        self.confirmed.clear();
        self.leftover.clear();
        self.touched = self.channels.clone();
    }

    /// Records that Redis gave a channel up by itself, and stops wanting it here. Returns whether it was wanted; `None`
    /// if it was not subscribed.
    pub(super) fn lost(&mut self, channel: &Channel) -> Option<bool> {
        self.confirmed.remove(channel).then(|| {
            self.leftover.insert(channel.clone());
            self.channels.remove(channel)
        })
    }

    /// Records that Redis refused a channel, and stops wanting it here. Returns whether it was wanted.
    pub(super) fn refused(&mut self, channel: &Channel) -> bool {
        self.confirmed.remove(channel);
        self.channels.remove(channel)
    }

    /// Takes the outstanding work and counts it as done: a caller that fails at it must end the connection.
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
    fn only_the_difference_is_sent() {
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
    fn a_channel_given_up_by_redis_leaves_its_classic_subscription() {
        let [a, b] = ["run:a", "run:b"].map(|name| name.parse::<Channel>().unwrap());
        let mut wanted = SubscriptionSet::default();
        wanted.add(&[a.clone(), b.clone()]);
        wanted.take();
        wanted.remove(std::slice::from_ref(&b));
        assert_eq!((wanted.lost(&a), wanted.lost(&b)), (Some(true), Some(false)));
        assert_eq!(wanted.lost(&a), None, "only a subscribed channel can be lost");
        let mut next = wanted.take();
        next.leftover.sort_by(|x, y| x.as_str().cmp(y.as_str()));
        assert_eq!(next, Work { leftover: vec![a.clone(), b], ..work(&[], &[], 2) });
        wanted.add(std::slice::from_ref(&a));
        wanted.take();
        assert!(wanted.refused(&a) && !wanted.refused(&a));
        assert_eq!(wanted.take(), work(&[], &[], 3), "the channel is not subscribed anywhere");
    }
}

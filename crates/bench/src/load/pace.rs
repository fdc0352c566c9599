use std::collections::VecDeque;

/// How many events of a closed loop are on their way at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// So many of each channel.
    PerChannel(usize),
    /// So many over all channels, which take turns.
    Total(usize),
}

/// A closed loop: the next event is due when the oldest one has reached all of its channel's sockets.
#[derive(Debug)]
pub struct Closed {
    window: Window,
    channels: Vec<Outstanding>,
    /// Whose turn it is, where the window is over all.
    turn: usize,
    /// Channels in which the next event is due.
    due: Vec<usize>,
}

/// The events of a channel that are on their way.
#[derive(Debug, Default)]
struct Outstanding {
    /// How many sockets have to get each.
    sockets: u32,
    /// Number of the oldest.
    oldest: u64,
    /// How many sockets have got each, from the oldest on.
    got: VecDeque<u32>,
}

impl Closed {
    /// For channels with so many sockets each.
    pub fn new(window: Window, sockets: impl IntoIterator<Item = u32>) -> Self {
        let channels: Vec<_> =
            sockets.into_iter().map(|sockets| Outstanding { sockets, ..Outstanding::default() }).collect();
        Self { window, channels, turn: 0, due: Vec::new() }
    }

    /// Makes the first events due: all that the window takes.
    pub fn begin(&mut self) {
        match self.window {
            Window::PerChannel(events) => {
                self.due = (0..events).flat_map(|_| 0..self.channels.len()).collect();
            }
            Window::Total(events) => {
                for _ in 0..events {
                    self.next_turn();
                }
            }
        }
    }

    /// The channels in which an event is due, as often as events are.
    pub fn take_due(&mut self, into: &mut Vec<usize>) {
        into.append(&mut self.due);
    }

    /// An event was published.
    pub fn published(&mut self, channel: usize, number: u64) {
        let outstanding = &mut self.channels[channel];
        if outstanding.got.is_empty() {
            outstanding.oldest = number;
        }
        outstanding.got.push_back(0);
    }

    /// A socket got an event.
    #[inline]
    pub fn received(&mut self, channel: usize, number: u64) {
        let outstanding = &mut self.channels[channel];
        let place = number.wrapping_sub(outstanding.oldest);
        let Some(got) = outstanding.got.get_mut(place as usize) else { return };
        *got += 1;
        if place == 0 && *got >= outstanding.sockets {
            self.complete(channel);
        }
    }

    /// Takes what is complete off, and makes as many events due.
    fn complete(&mut self, channel: usize) {
        let outstanding = &mut self.channels[channel];
        let mut done = 0;
        while outstanding.got.front().is_some_and(|got| *got >= outstanding.sockets) {
            outstanding.got.pop_front();
            outstanding.oldest += 1;
            done += 1;
        }
        for _ in 0..done {
            match self.window {
                Window::PerChannel(_) => self.due.push(channel),
                Window::Total(_) => self.next_turn(),
            }
        }
    }

    fn next_turn(&mut self) {
        self.due.push(self.turn);
        self.turn = (self.turn + 1) % self.channels.len();
    }

    /// Gives up on all that is on its way, and begins anew.
    pub fn restart(&mut self) {
        self.channels.iter_mut().for_each(|channel| channel.got.clear());
        self.due.clear();
        self.begin();
    }

    /// How many events are on their way.
    pub fn outstanding(&self) -> usize {
        self.channels.iter().map(|channel| channel.got.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Publishes what is due.
    fn publish(closed: &mut Closed, numbers: &mut [u64]) -> usize {
        let mut due = Vec::new();
        closed.take_due(&mut due);
        for channel in &due {
            closed.published(*channel, numbers[*channel]);
            numbers[*channel] += 1;
        }
        due.len()
    }

    #[test]
    fn never_more_than_the_window_is_on_its_way() {
        let (mut closed, mut numbers) = (Closed::new(Window::PerChannel(3), [2, 2]), [10, 20]);
        closed.begin();
        assert_eq!(publish(&mut closed, &mut numbers), 6);
        for number in 10..200 {
            closed.received(0, number);
            assert_eq!(publish(&mut closed, &mut numbers), 0, "one socket has not got {number}");
            closed.received(0, number);
            assert_eq!(publish(&mut closed, &mut numbers), 1);
            assert_eq!(closed.outstanding(), 6);
        }
        assert_eq!(numbers[1], 23);
    }

    #[test]
    fn events_that_complete_behind_an_older_one_wait_for_it() {
        let (mut closed, mut numbers) = (Closed::new(Window::PerChannel(3), [1]), [0]);
        closed.begin();
        publish(&mut closed, &mut numbers);
        closed.received(0, 2);
        closed.received(0, 1);
        assert_eq!(publish(&mut closed, &mut numbers), 0);
        closed.received(0, 0);
        assert_eq!(publish(&mut closed, &mut numbers), 3);
    }

    #[test]
    fn a_window_over_all_goes_round() {
        let (mut closed, mut numbers) = (Closed::new(Window::Total(4), [1; 3]), [0; 3]);
        closed.begin();
        assert_eq!(publish(&mut closed, &mut numbers), 4);
        assert_eq!(numbers, [2, 1, 1]);
        closed.received(2, 0);
        assert_eq!(publish(&mut closed, &mut numbers), 1);
        assert_eq!(numbers, [2, 2, 1]);
        assert_eq!(closed.outstanding(), 4);
    }

    #[test]
    fn what_is_lost_is_given_up() {
        let (mut closed, mut numbers) = (Closed::new(Window::PerChannel(2), [1]), [0]);
        closed.begin();
        publish(&mut closed, &mut numbers);
        closed.restart();
        assert_eq!(closed.outstanding(), 0);
        assert_eq!(publish(&mut closed, &mut numbers), 2);
        closed.received(0, 2);
        assert_eq!(publish(&mut closed, &mut numbers), 1);
    }
}

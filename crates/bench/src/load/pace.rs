use std::collections::VecDeque;

/// How many events of a closed loop are in flight at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InFlight {
    /// This many per channel.
    PerChannel(usize),
    /// This many over all channels, which take turns.
    Total(usize),
}

/// A closed loop: the next event is due when the oldest one has reached all sockets of its channel.
#[derive(Debug)]
pub struct ClosedLoop {
    window: InFlight,
    channels: Vec<Outstanding>,
    /// The channel whose turn is next, if the window is over all channels.
    turn: usize,
    /// Channels in which an event is due.
    due: Vec<usize>,
}

/// The events of a channel that are in flight.
#[derive(Debug, Default)]
struct Outstanding {
    /// How many sockets receive each event.
    sockets: u32,
    /// Number of the oldest event.
    oldest: u64,
    /// How many sockets have received each event, from the oldest on.
    got: VecDeque<u32>,
}

impl ClosedLoop {
    /// A loop over channels with these numbers of sockets.
    pub fn new(window: InFlight, sockets: impl IntoIterator<Item = u32>) -> Self {
        let channels: Vec<_> =
            sockets.into_iter().map(|sockets| Outstanding { sockets, ..Outstanding::default() }).collect();
        Self { window, channels, turn: 0, due: Vec::new() }
    }

    /// Makes the first events due: as many as the window allows.
    pub fn begin(&mut self) {
        match self.window {
            InFlight::PerChannel(events) => {
                self.due = (0..events).flat_map(|_| 0..self.channels.len()).collect();
            }
            InFlight::Total(events) => {
                for _ in 0..events {
                    self.next_turn();
                }
            }
        }
    }

    /// Moves the due channels to `into`, one entry per due event.
    pub fn take_due(&mut self, into: &mut Vec<usize>) {
        into.append(&mut self.due);
    }

    /// Notes that an event was published.
    pub fn published(&mut self, channel: usize, number: u64) {
        let outstanding = &mut self.channels[channel];
        if outstanding.got.is_empty() {
            outstanding.oldest = number;
        }
        outstanding.got.push_back(0);
    }

    /// Notes that a socket received an event.
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

    /// Removes complete events, and makes the same number of new events due.
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
                InFlight::PerChannel(_) => self.due.push(channel),
                InFlight::Total(_) => self.next_turn(),
            }
        }
    }

    fn next_turn(&mut self) {
        self.due.push(self.turn);
        self.turn = (self.turn + 1) % self.channels.len();
    }

    /// Gives up on everything in flight, and starts again.
    pub fn restart(&mut self) {
        self.channels.iter_mut().for_each(|channel| channel.got.clear());
        self.due.clear();
        self.begin();
    }

    /// How many events are in flight.
    pub fn outstanding(&self) -> usize {
        self.channels.iter().map(|channel| channel.got.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Publishes what is due. Returns how many events.
    fn publish(closed: &mut ClosedLoop, numbers: &mut [u64]) -> usize {
        let mut due = Vec::new();
        closed.take_due(&mut due);
        for channel in &due {
            closed.published(*channel, numbers[*channel]);
            numbers[*channel] += 1;
        }
        due.len()
    }

    #[test]
    fn never_more_events_than_the_window_are_in_flight() {
        let (mut closed, mut numbers) = (ClosedLoop::new(InFlight::PerChannel(3), [2, 2]), [10, 20]);
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
        let (mut closed, mut numbers) = (ClosedLoop::new(InFlight::PerChannel(3), [1]), [0]);
        closed.begin();
        publish(&mut closed, &mut numbers);
        closed.received(0, 2);
        closed.received(0, 1);
        assert_eq!(publish(&mut closed, &mut numbers), 0);
        closed.received(0, 0);
        assert_eq!(publish(&mut closed, &mut numbers), 3);
    }

    #[test]
    fn a_window_over_all_channels_goes_round() {
        let (mut closed, mut numbers) = (ClosedLoop::new(InFlight::Total(4), [1; 3]), [0; 3]);
        closed.begin();
        assert_eq!(publish(&mut closed, &mut numbers), 4);
        assert_eq!(numbers, [2, 1, 1]);
        closed.received(2, 0);
        assert_eq!(publish(&mut closed, &mut numbers), 1);
        assert_eq!(numbers, [2, 2, 1]);
        assert_eq!(closed.outstanding(), 4);
    }

    #[test]
    fn a_restart_gives_up_lost_events() {
        let (mut closed, mut numbers) = (ClosedLoop::new(InFlight::PerChannel(2), [1]), [0]);
        closed.begin();
        publish(&mut closed, &mut numbers);
        closed.restart();
        assert_eq!(closed.outstanding(), 0);
        assert_eq!(publish(&mut closed, &mut numbers), 2);
        closed.received(0, 2);
        assert_eq!(publish(&mut closed, &mut numbers), 1);
    }
}

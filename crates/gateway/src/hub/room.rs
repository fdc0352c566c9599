//! One channel: its ring, its position, and its members.

use std::sync::Arc;

use crewcast_events::{Channel, EventId};
use parking_lot::{Mutex, MutexGuard};

use super::{Budget, Chains, Entry, Flag, Hub, Item, Sweeps, Wake, ring::Ring, sweep::Call};
use crate::telemetry::metrics::{Metric, gauge};

/// A read ends with the entry that passes this many bytes: what a slow socket has taken out stays in memory.
const READ_BYTES: usize = 256 << 10;

/// One channel that somebody reads.
pub struct Room {
    channel: Channel,
    state: Mutex<State>,
    sweeps: Arc<Sweeps>,
    /// Of the whole namespace.
    subscriptions: metrics::Gauge,
}

struct State {
    ring: Ring,
    /// What of the channel is compressed.
    chains: Arc<Chains>,
    /// Whether the channel is subscribed and its position known.
    open: bool,
    position: Option<EventId>,
    retained: Option<Arc<Entry>>,
    /// The past was forgotten before the room was open: what was retained then is not shown either.
    forgotten: bool,
    members: Vec<Option<Bell>>,
    vacant: Vec<u32>,
    /// Members that are rung at once, since no sweep can attend to them.
    rung_at_once: usize,
    /// A sweep is to come that begins with the first member.
    is_to_be_swept: bool,
}

struct Bell {
    wake: Arc<Wake>,
    key: u32,
    /// The next entry that it reads.
    next: i64,
    /// Rung and not yet answered: ringing again would cost and say nothing.
    rung: bool,
}

impl Bell {
    fn ring(&mut self) {
        if !std::mem::replace(&mut self.rung, true) {
            self.wake.ring(self.key);
        }
    }
}

/// What a room holds at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomFigures {
    /// Entries of the ring.
    pub events: usize,
    /// What they weigh.
    pub bytes: usize,
    /// Entries by which the slowest member is behind. One that reads the log has all of the ring before it that came
    /// since it was there last.
    pub lag: u64,
}

/// Where a member begins, read in one step.
#[derive(Debug, Clone)]
pub struct Opened {
    /// Sequence number of the next entry.
    pub next: i64,
    /// The channel's position there.
    pub position: Option<EventId>,
    /// The channel's last event, where it retains one.
    pub retained: Option<Arc<Entry>>,
    /// Live events before that.
    pub live: u64,
}

/// What a member finds at its place.
#[derive(Debug)]
pub enum Caught {
    /// Entries were put into the buffer.
    Entries {
        /// There are no more; the member will be rung.
        at_end: bool,
    },
    /// There is nothing more; the member will be rung.
    UpToDate,
    /// Its place has left the ring; it goes on at `first`, if it can.
    FellOff {
        /// The oldest entry's sequence number.
        first: i64,
        /// The channel's position before that entry.
        position: Option<EventId>,
        /// Live events before that entry.
        live: u64,
    },
}

impl Room {
    pub(crate) fn new(channel: Channel, budget: Arc<Budget>, sweeps: Arc<Sweeps>) -> Self {
        let state = State {
            ring: Ring::new(budget),
            chains: Arc::default(),
            open: false,
            position: None,
            retained: None,
            forgotten: false,
            members: Vec::new(),
            vacant: Vec::new(),
            rung_at_once: 0,
            is_to_be_swept: false,
        };
        let subscriptions = gauge(Metric::Subscriptions, &[("namespace", channel.namespace())]);
        Self { channel, state: Mutex::new(state), sweeps, subscriptions }
    }

    /// The channel's name.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// What the room holds now.
    pub fn figures(&self) -> RoomFigures {
        let state = self.state.lock();
        let (first, next) = (state.ring.first(), state.ring.next());
        let slowest = state.members.iter().flatten().map(|bell| bell.next).min();
        let lag = slowest.map_or(0, |slowest| u64::try_from(next - slowest).unwrap_or(0));
        RoomFigures { events: (next - first) as usize, bytes: state.ring.bytes(), lag }
    }

    /// Opens the room: the channel is subscribed and stands at `position`.
    pub fn open(&self, position: Option<EventId>, retained: Option<Arc<Entry>>) {
        let mut state = self.state.lock();
        state.ring.start_at(position);
        state.position = position;
        state.retained = retained.filter(|_| !state.forgotten);
        state.open = true;
        state.ring_all();
    }

    /// Adds an item that leaves the channel at `position`; with `retain` it becomes the retained event.
    pub fn append(self: &Arc<Self>, item: Item, position: Option<EventId>, retain: bool) {
        let entry = Entry::new(item, position);
        let mut state = self.state.lock();
        state.push(entry, retain);
        self.tell(state);
    }

    /// Adds a reset together with the event that it announces. Whoever began between the two would take the
    /// channel for one that begins with that event.
    pub fn append_announced(self: &Arc<Self>, reset: Item, event: Item, position: Option<EventId>, retain: bool) {
        let (reset, event) = (Entry::new(reset, None), Entry::new(event, position));
        let mut state = self.state.lock();
        state.push(reset, false);
        state.push(event, retain);
        self.tell(state);
    }

    /// Tells the members that there is more.
    fn tell(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        if !state.open {
            return;
        }
        if state.rung_at_once > 0 {
            state.ring_at_once();
        }
        let is_swept = state.members.len() - state.vacant.len() > state.rung_at_once;
        if is_swept && !std::mem::replace(&mut state.is_to_be_swept, true) {
            drop(state);
            self.sweeps.add(self.clone());
        }
    }

    /// Of the members from one place on, the next `most` places: who of them waits for more. Answers where the rest begins.
    pub(super) fn take_calls(&self, from: usize, most: usize, calls: &mut Vec<Call>) -> Option<usize> {
        let mut state = self.state.lock();
        let state = &mut *state;
        if from == 0 {
            state.is_to_be_swept = false;
        }
        let (next, end) = (state.ring.next(), state.members.len().min(from + most));
        for bell in state.members.get_mut(from..end).into_iter().flatten().flatten() {
            // One that has been at the end already was attended to by a later sweep, which has overtaken this one.
            if !bell.rung && bell.next != next && bell.wake.is_attended() {
                bell.rung = true;
                calls.push(Call { wake: bell.wake.clone(), key: bell.key });
            }
        }
        (end < state.members.len()).then_some(end)
    }

    /// Lets the ring begin earlier; see [`Hub::prepend`].
    pub(crate) fn prepend(&self, before: Option<EventId>, stretch: &[Arc<Entry>]) {
        self.state.lock().ring.prepend(before, stretch);
    }

    /// See [`Member::behind`].
    pub(crate) fn behind(&self, id: EventId) -> Option<i64> {
        let state = self.state.lock();
        if state.position == Some(id) && state.ring.position_before(state.ring.next()) == Some(id) {
            return state.ring.behind(id).or(Some(state.ring.next()));
        }
        state.ring.behind(id)
    }

    /// Keeps only the newest entry.
    pub fn trim(&self) {
        let mut state = self.state.lock();
        state.ring.trim_to(1);
        state.chains.clear();
    }

    /// Forgets every entry and the retained event, which were of another owner. The position stands, and who
    /// had not read them yet finds that he fell off.
    pub fn forget_past(&self) {
        let mut state = self.state.lock();
        state.ring.trim_to(0);
        state.chains.clear();
        state.retained = None;
        state.forgotten = !state.open;
    }

    /// Raises a flag for every member.
    pub fn raise(&self, flag: Flag) {
        self.state.lock().members.iter().flatten().for_each(|bell| bell.wake.raise(flag));
    }

    /// The last logged id that was forwarded.
    pub fn position(&self) -> Option<EventId> {
        self.state.lock().position
    }

    /// Whether the ring holds a logged event with this very id.
    pub fn holds(&self, id: EventId) -> bool {
        self.state.lock().ring.holds(id)
    }

    /// Whether nobody reads.
    pub fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.members.len() == state.vacant.len()
    }
}

impl State {
    fn push(&mut self, entry: Entry, retain: bool) {
        let entry = Arc::new(entry.at(&self.chains, self.ring.next()));
        self.position = entry.position();
        if retain && entry.event().is_some() {
            self.retained = Some(entry.clone());
        }
        self.ring.push(entry);
    }

    fn ring_all(&mut self) {
        self.members.iter_mut().flatten().for_each(Bell::ring);
    }

    fn ring_at_once(&mut self) {
        self.members.iter_mut().flatten().filter(|bell| !bell.wake.is_attended()).for_each(Bell::ring);
    }
}

/// A membership; dropping it ends it.
pub struct Member {
    hub: Arc<Hub>,
    room: Arc<Room>,
    slot: u32,
    /// The next entry's sequence number when the membership began.
    joined: i64,
}

impl Member {
    pub(crate) fn enter(hub: Arc<Hub>, room: Arc<Room>, wake: Arc<Wake>, key: u32) -> Self {
        let mut state = room.state.lock();
        let joined = state.ring.next();
        state.rung_at_once += usize::from(!wake.is_attended());
        let mut bell = Bell { wake, key, next: joined, rung: false };
        if state.open {
            // A room that is open already will not ring for the opening.
            bell.rung = true;
            bell.wake.ring(key);
        }
        let slot = match state.vacant.pop() {
            Some(slot) => {
                state.members[slot as usize] = Some(bell);
                slot
            }
            None => {
                state.members.push(Some(bell));
                state.members.len() as u32 - 1
            }
        };
        drop(state);
        room.subscriptions.increment(1.0);
        Self { hub, room, slot, joined }
    }

    /// The channel's name.
    pub fn channel(&self) -> &Channel {
        &self.room.channel
    }

    /// Where the channel stood when the membership began; `None` until the room is open.
    pub fn opened_at_join(&self) -> Option<Opened> {
        let state = self.room.state.lock();
        state.open.then(|| {
            let next = self.joined.max(state.ring.first());
            state.opened(next)
        })
    }

    /// Where the channel stands now; `None` until the room is open.
    pub fn opened_now(&self) -> Option<Opened> {
        let state = self.room.state.lock();
        state.open.then(|| state.opened(state.ring.next()))
    }

    /// The sequence number behind the event `id`, if the ring still leads on from there without a hole.
    pub fn behind(&self, id: EventId) -> Option<i64> {
        self.room.behind(id)
    }

    /// Copies at most `limit` entries from `sequence` on into `buffer`. At the end the bell is armed again.
    pub fn read(&self, sequence: i64, limit: usize, buffer: &mut Vec<Arc<Entry>>) -> Caught {
        let mut state = self.room.state.lock();
        let first = state.ring.first();
        if sequence < first {
            let (position, live) = (state.ring.position_before(first), state.ring.live_before(first));
            return Caught::FellOff { first, position, live };
        }
        let end = state.ring.next().min(sequence + limit as i64);
        if sequence >= end {
            if let Some(bell) = &mut state.members[self.slot as usize] {
                (bell.rung, bell.next) = (false, sequence);
            }
            return Caught::UpToDate;
        }
        let (mut bytes, mut next) = (0, sequence);
        for entry in (sequence..end).map_while(|sequence| state.ring.get(sequence)) {
            buffer.push(entry.clone());
            next += 1;
            bytes += entry.weight();
            if bytes > READ_BYTES {
                break;
            }
        }
        let at_end = next == state.ring.next();
        if let Some(bell) = &mut state.members[self.slot as usize] {
            bell.next = next;
            bell.rung &= !at_end;
        }
        Caught::Entries { at_end }
    }
}

impl State {
    fn opened(&self, next: i64) -> Opened {
        let live = if next == self.ring.next() { self.ring.live_total() } else { self.ring.live_before(next) };
        Opened { next, position: self.ring.position_before(next), retained: self.retained.clone(), live }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.room.subscriptions.decrement(1.0);
        let mut state = self.room.state.lock();
        let bell = state.members[self.slot as usize].take();
        state.rung_at_once -= usize::from(bell.is_some_and(|bell| !bell.wake.is_attended()));
        state.vacant.push(self.slot);
        let idle = state.members.len() == state.vacant.len();
        if idle {
            // A room that once had thousands of members does not keep their places.
            state.members = Vec::new();
            state.vacant = Vec::new();
        }
        drop(state);
        if idle {
            self.hub.became_idle(&self.room.channel);
        }
    }
}

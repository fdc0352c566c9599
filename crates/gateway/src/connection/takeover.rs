//! Clients that have one socket at a time: a newer one replaces the older, on whichever replica that is.
//!
//! Each socket announces itself through the control channel with a number that grows with every socket of all
//! replicas. Who hears a number higher than his own is replaced. Two that open at the same moment both hear both numbers,
//! so that the newer one stays and the other goes, whatever the order in which they hear.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use crate::{
    auth::Identity,
    hub::{Flag, Notifier},
    registry::{BrokerError, ClientNumbers},
};

/// The sockets of this replica that have a client's name.
pub struct ClientSessions {
    numbers: Arc<dyn ClientNumbers>,
    places: Mutex<HashMap<Arc<str>, ClientState>>,
    serials: AtomicU64,
}

/// What is known of one client; only as long as it has a socket here.
#[derive(Default)]
struct ClientState {
    sockets: Vec<ClientSocket>,
    /// The highest number heard.
    newest: u64,
}

struct ClientSocket {
    serial: u64,
    /// `None` until it is announced.
    number: Option<u64>,
    notifier: Arc<Notifier>,
}

impl ClientState {
    fn heard(&mut self, number: u64) {
        self.newest = self.newest.max(number);
        let newest = self.newest;
        let older = self.sockets.iter().filter(|socket| socket.number.is_some_and(|number| number < newest));
        older.for_each(|socket| socket.notifier.raise(Flag::TakenOver));
    }
}

/// A socket's place; dropping it leaves.
pub(super) struct Takeover {
    client_sessions: Arc<ClientSessions>,
    client: Arc<str>,
    serial: u64,
}

impl ClientSessions {
    /// Announces through these numbers.
    pub fn new(numbers: Arc<dyn ClientNumbers>) -> Arc<Self> {
        Arc::new(Self { numbers, places: Mutex::default(), serials: AtomicU64::new(0) })
    }

    /// A socket of this client id of this user's. Users of different orgs are different ones, whatever they are called.
    pub(super) fn enter(self: &Arc<Self>, id: &str, identity: Option<&Identity>, notifier: Arc<Notifier>) -> Takeover {
        let org = identity.and_then(|identity| identity.org.as_deref()).unwrap_or_default();
        let sub = identity.map_or("", |identity| &*identity.sub);
        let client: Arc<str> = format!("{org}\n{id}\n{sub}").into();
        let serial = self.serials.fetch_add(1, Ordering::Relaxed);
        let socket = ClientSocket { serial, number: None, notifier };
        self.places.lock().entry(client.clone()).or_default().sockets.push(socket);
        Takeover { client_sessions: self.clone(), client, serial }
    }

    /// A socket of this client has opened somewhere.
    pub fn announced(&self, client: &str, number: u64) {
        if let Some(known) = self.places.lock().get_mut(client) {
            known.heard(number);
        }
    }

    /// Tells all replicas of a socket; its number.
    pub(super) async fn announce(&self, client: &str) -> Result<u64, BrokerError> {
        self.numbers.register_client(client).await
    }
}

impl Takeover {
    pub(super) fn client(&self) -> Arc<str> {
        self.client.clone()
    }

    /// The socket has been announced with this number.
    pub(super) fn took_over(&self, number: u64) {
        if let Some(known) = self.client_sessions.places.lock().get_mut(&self.client) {
            let own = known.sockets.iter_mut().find(|socket| socket.serial == self.serial);
            own.into_iter().for_each(|socket| socket.number = Some(number));
            known.heard(number);
        }
    }
}

impl Drop for Takeover {
    fn drop(&mut self) {
        let mut places = self.client_sessions.places.lock();
        if let Some(known) = places.get_mut(&self.client) {
            known.sockets.retain(|socket| socket.serial != self.serial);
            if known.sockets.is_empty() {
                places.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crewcast_events::Namespaces;

    use super::*;
    use crate::broker::memory::MemoryBroker;

    struct Socket(Arc<Notifier>, Takeover);

    impl Socket {
        fn is_replaced(&self) -> bool {
            self.0.take(Flag::TakenOver)
        }
    }

    fn open(client_sessions: &Arc<ClientSessions>, id: &str) -> Socket {
        let notifier = Arc::new(Notifier::default());
        Socket(notifier.clone(), client_sessions.enter(id, None, notifier))
    }

    fn replica() -> Arc<ClientSessions> {
        ClientSessions::new(Arc::new(MemoryBroker::new(Namespaces::default())))
    }

    #[test]
    fn of_two_that_open_at_once_the_newer_stays_whatever_is_heard_first() {
        // What each of two replicas hears: the own answer (true), or the control channel.
        for heard_by_older in [[(true, 1), (false, 2)], [(false, 2), (true, 1)]] {
            for heard_by_newer in [[(false, 1), (true, 2)], [(true, 2), (false, 1)]] {
                let hears = |heard: [(bool, u64); 2]| {
                    let client_sessions = replica();
                    let socket = open(&client_sessions, "client_1");
                    for (is_own, number) in heard {
                        if is_own {
                            socket.1.took_over(number)
                        } else {
                            client_sessions.announced(&socket.1.client(), number)
                        }
                    }
                    socket.is_replaced()
                };
                assert_eq!((hears(heard_by_older), hears(heard_by_newer)), (true, false));
            }
        }
    }

    #[test]
    fn another_client_is_left_alone_and_who_goes_leaves_nothing() {
        let client_sessions = replica();
        let sockets = ["client_1", "client_1", "client_2"].map(|id| open(&client_sessions, id));
        for (number, socket) in (1..).zip(&sockets) {
            socket.1.took_over(number);
        }
        assert_eq!(sockets.each_ref().map(Socket::is_replaced), [true, false, false]);
        client_sessions.announced(&sockets[1].1.client(), 2);
        assert!(!sockets[1].is_replaced(), "its own announcement");
        drop(sockets);
        assert!(client_sessions.places.lock().is_empty());
    }
}

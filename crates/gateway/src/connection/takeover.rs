//! Takeover: clients that have one socket at a time. A newer socket replaces the older one, on whichever replica.
//!
//! Each socket is announced through the control channel with a number that grows with every socket of all replicas. A
//! socket that hears a higher number than its own is replaced. Two sockets that open at the same moment both hear both
//! numbers: the newer one stays and the older one goes, whatever the order in which the numbers arrive.

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

/// The sockets of this replica that belong to a named client.
pub(crate) struct ClientSessions {
    numbers: Arc<dyn ClientNumbers>,
    clients: Mutex<HashMap<Arc<str>, ClientState>>,
    serials: AtomicU64,
}

/// One client, as long as it has a socket here.
#[derive(Default)]
struct ClientState {
    sockets: Vec<ClientSocket>,
    /// The highest number heard.
    newest: u64,
}

struct ClientSocket {
    serial: u64,
    /// `None` until the socket is announced.
    number: Option<u64>,
    notifier: Arc<Notifier>,
}

impl ClientState {
    /// Records an announced number, and replaces the sockets with lower numbers.
    fn observe(&mut self, number: u64) {
        self.newest = self.newest.max(number);
        let newest = self.newest;
        let older = self.sockets.iter().filter(|socket| socket.number.is_some_and(|number| number < newest));
        older.for_each(|socket| socket.notifier.raise(Flag::TakenOver));
    }
}

/// One socket of a client; dropping it removes the socket.
pub(super) struct Takeover {
    client_sessions: Arc<ClientSessions>,
    client: Arc<str>,
    serial: u64,
}

impl ClientSessions {
    /// An empty set. Sockets are announced through `numbers`.
    pub(crate) fn new(numbers: Arc<dyn ClientNumbers>) -> Arc<Self> {
        Arc::new(Self { numbers, clients: Mutex::default(), serials: AtomicU64::new(0) })
    }

    /// Adds a socket. Its client is the id together with the user and the org: equal names in two orgs are two users.
    pub(super) fn add_socket(
        self: &Arc<Self>,
        id: &str,
        identity: Option<&Identity>,
        notifier: Arc<Notifier>,
    ) -> Takeover {
        let org = identity.and_then(|identity| identity.org.as_deref()).unwrap_or_default();
        let sub = identity.map_or("", |identity| &*identity.sub);
        let client: Arc<str> = format!("{org}\n{id}\n{sub}").into();
        let serial = self.serials.fetch_add(1, Ordering::Relaxed);
        let socket = ClientSocket { serial, number: None, notifier };
        self.clients.lock().entry(client.clone()).or_default().sockets.push(socket);
        Takeover { client_sessions: self.clone(), client, serial }
    }

    /// A socket of this client was announced, on this replica or another.
    pub(crate) fn announced(&self, client: &str, number: u64) {
        if let Some(known) = self.clients.lock().get_mut(client) {
            known.observe(number);
        }
    }

    /// Announces a socket to all replicas, and returns its number.
    pub(super) async fn register(&self, client: &str) -> Result<u64, BrokerError> {
        self.numbers.register_client(client).await
    }
}

impl Takeover {
    pub(super) fn client(&self) -> Arc<str> {
        self.client.clone()
    }

    /// The socket has been announced with this number.
    pub(super) fn registered(&self, number: u64) {
        if let Some(known) = self.client_sessions.clients.lock().get_mut(&self.client) {
            let own = known.sockets.iter_mut().find(|socket| socket.serial == self.serial);
            own.into_iter().for_each(|socket| socket.number = Some(number));
            known.observe(number);
        }
    }
}

impl Drop for Takeover {
    fn drop(&mut self) {
        let mut clients = self.client_sessions.clients.lock();
        if let Some(known) = clients.get_mut(&self.client) {
            known.sockets.retain(|socket| socket.serial != self.serial);
            if known.sockets.is_empty() {
                clients.remove(&self.client);
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
        Socket(notifier.clone(), client_sessions.add_socket(id, None, notifier))
    }

    fn replica() -> Arc<ClientSessions> {
        ClientSessions::new(Arc::new(MemoryBroker::new(Namespaces::default())))
    }

    #[test]
    fn the_newer_of_two_simultaneous_sockets_stays_in_any_order_of_announcements() {
        // What each of two replicas hears: the answer to its own announcement (true), or the control channel (false).
        for heard_by_older in [[(true, 1), (false, 2)], [(false, 2), (true, 1)]] {
            for heard_by_newer in [[(false, 1), (true, 2)], [(true, 2), (false, 1)]] {
                let hears = |heard: [(bool, u64); 2]| {
                    let client_sessions = replica();
                    let socket = open(&client_sessions, "client_1");
                    for (is_own, number) in heard {
                        if is_own {
                            socket.1.registered(number)
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
    fn other_clients_are_not_replaced_and_closed_sockets_leave_nothing_behind() {
        let client_sessions = replica();
        let sockets = ["client_1", "client_1", "client_2"].map(|id| open(&client_sessions, id));
        for (number, socket) in (1..).zip(&sockets) {
            socket.1.registered(number);
        }
        assert_eq!(sockets.each_ref().map(Socket::is_replaced), [true, false, false]);
        client_sessions.announced(&sockets[1].1.client(), 2);
        assert!(!sockets[1].is_replaced(), "its own announcement");
        drop(sockets);
        assert!(client_sessions.clients.lock().is_empty());
    }
}

//! One read for all requests at the same moment.

use std::{collections::HashMap, hash::Hash, sync::Arc, time::Duration};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};

/// Minimum time between the starts of two reads of one key. Sockets that react to the same event request the read one
/// after another, and a read takes less time than all these requests.
const PACE: Duration = Duration::from_millis(50);

type FlightResult<V, E> = Result<Arc<V>, E>;
type FlightReceiver<V, E> = Shared<oneshot::Receiver<FlightResult<V, E>>>;

/// A shared read ended without an answer, because its task was cancelled.
pub(crate) struct Cancelled;

/// Shared reads. A request never gets a read that began before it: if an event caused the request, the answer includes
/// that event.
///
/// At most one read of a key is under way, and at most one follows it, after a pause.
pub(crate) struct Singleflight<K, V, E> {
    under_way: Mutex<HashMap<K, Option<NextFlight<V, E>>>>,
    read: Box<dyn Fn(K) -> BoxFuture<'static, FlightResult<V, E>> + Send + Sync>,
}

/// The read that follows the one under way.
struct NextFlight<V, E> {
    answer: oneshot::Sender<FlightResult<V, E>>,
    waiting: FlightReceiver<V, E>,
}

impl<V, E: Clone> NextFlight<V, E> {
    fn new() -> Self {
        let (answer, waiting) = oneshot::channel();
        Self { answer, waiting: waiting.shared() }
    }
}

impl<K, V, E> Singleflight<K, V, E>
where
    K: Eq + Hash + Clone + Send + 'static,
    V: Send + Sync + 'static,
    E: Clone + From<Cancelled> + Send + Sync + 'static,
{
    pub(crate) fn new(read: impl Fn(K) -> BoxFuture<'static, FlightResult<V, E>> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { under_way: Mutex::default(), read: Box::new(read) })
    }

    /// Waits for the answer of a read that begins now or later.
    pub(crate) async fn ask(self: &Arc<Self>, key: K) -> FlightResult<V, E> {
        let waiting = self.join(key);
        waiting.await.unwrap_or_else(|_| Err(Cancelled.into()))
    }

    fn join(self: &Arc<Self>, key: K) -> FlightReceiver<V, E> {
        let mut under_way = self.under_way.lock();
        if let Some(following) = under_way.get_mut(&key) {
            return following.get_or_insert_with(NextFlight::new).waiting.clone();
        }
        let first = NextFlight::new();
        let waiting = first.waiting.clone();
        under_way.insert(key.clone(), None);
        // A task of its own: if its caller goes away, the read still serves the others.
        tokio::spawn(self.clone().serve(key, first.answer));
        waiting
    }

    async fn serve(self: Arc<Self>, key: K, first: oneshot::Sender<FlightResult<V, E>>) {
        let mut next = Some(first);
        while let Some(answer) = next {
            let follow_at = Instant::now() + PACE;
            let read = (self.read)(key.clone()).await;
            let _ = answer.send(read);
            sleep_until(follow_at).await;
            let mut under_way = self.under_way.lock();
            next = under_way.get_mut(&key).and_then(Option::take).map(|following| following.answer);
            if next.is_none() {
                under_way.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;
    use crate::broker::BrokerError;

    #[tokio::test]
    async fn requests_during_a_read_share_the_read_that_follows() {
        let (begun, may_end) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let reads = Singleflight::<&str, usize, BrokerError>::new({
            let (begun, may_end) = (begun.clone(), may_end.clone());
            move |_key: &str| {
                let n = begun.fetch_add(1, Ordering::Relaxed) + 1;
                let may_end = may_end.clone();
                async move {
                    may_end.acquire().await.expect("open").forget();
                    Ok(Arc::new(n))
                }
                .boxed()
            }
        });
        let first = reads.join("a");
        while begun.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        let later = [reads.join("a"), reads.join("a"), reads.join("a")];
        may_end.add_permits(2);
        assert_eq!(*first.await.unwrap().unwrap(), 1);
        for waiting in later {
            assert_eq!(*waiting.await.unwrap().unwrap(), 2, "the read began after the requests, once for all of them");
        }
        while !reads.under_way.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        may_end.add_permits(1);
        assert_eq!(*reads.ask("a").await.unwrap(), 3);
    }
}

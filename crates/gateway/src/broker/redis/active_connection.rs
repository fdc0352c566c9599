//! An established connection, and the requests that wait on it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use redis::{RedisResult, aio::MultiplexedConnection};
use tokio::sync::Notify;

use super::delivery::Epoch;

/// What a node subscription has while it is up.
#[derive(Clone)]
pub(super) struct ActiveConnection {
    pub(super) connection: MultiplexedConnection,
    pub(super) epoch: Arc<Epoch>,
    pub(super) asked: PendingRequests,
    pub(super) is_sharded: bool,
    /// The name of the probe that is subscribed.
    pub(super) probe: String,
    pub(super) lost: Arc<Notify>,
}

/// Counts the requests that wait for answers.
///
/// If the server gives up a channel by itself, it says so in the form of an answer, and the client library would take
/// that for the answer to a request.
#[derive(Clone, Default)]
pub(super) struct PendingRequests(Arc<AtomicUsize>);

impl PendingRequests {
    pub(super) async fn count<T>(&self, request: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
        self.0.fetch_add(1, Ordering::AcqRel);
        let answer = request.await;
        self.0.fetch_sub(1, Ordering::AcqRel);
        answer
    }

    pub(super) fn is_idle(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}

impl ActiveConnection {
    /// Sends a ping. Everything that the server sent before its answer has been delivered when this returns.
    pub(super) async fn ping(&self) -> RedisResult<()> {
        let mut connection = self.connection.clone();
        self.asked.count(redis::cmd("PING").exec_async(&mut connection)).await
    }
}

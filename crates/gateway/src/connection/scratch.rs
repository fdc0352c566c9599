//! Scratch buffers for work on a connection, one set for each thread: an idle socket owns none.

use crewcast_websocket::socket::FrameQueue;

use super::{Connection, delivery_metrics::DeliveryBatch};
use crate::{dialect::Actions, outbox::Outbox};

/// How many items of capacity a buffer keeps between two connections: the memory of a burst is freed.
const KEPT: usize = 1024;

/// Empty buffers with spare capacity.
#[derive(Default)]
pub(super) struct Scratch {
    actions: Actions,
    frames: FrameQueue,
    batch: Option<Box<DeliveryBatch>>,
}

impl Scratch {
    /// Gives the buffers to a connection.
    pub(super) fn lend_to(&mut self, connection: &mut Connection<impl Outbox>) {
        std::mem::swap(&mut self.batch, &mut connection.subscriptions.metrics.batch);
        // Actions and frames that still wait stay in their own buffers.
        if connection.actions.is_empty() {
            connection.actions = std::mem::take(&mut self.actions);
        }
        connection.outbox.borrow_queue(&mut self.frames);
    }

    /// Takes the buffers back, and frees what the connection allocated beyond them.
    pub(super) fn restore(&mut self, connection: &mut Connection<impl Outbox>) {
        std::mem::swap(&mut self.batch, &mut connection.subscriptions.metrics.batch);
        if connection.actions.is_empty() {
            self.actions = std::mem::take(&mut connection.actions);
        }
        connection.outbox.restore_queue(&mut self.frames);
        self.batch.iter_mut().for_each(|batch| batch.entries.shrink_to(KEPT));
        self.actions.shrink_to(KEPT);
        self.frames.iter_mut().for_each(|frames| frames.shrink_to(KEPT));
    }
}

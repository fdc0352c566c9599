//! The buffers that working on a connection needs, one set for each thread: an idle socket owns none.

use crewcast_websocket::socket::FrameQueue;

use super::{Connection, delivery_metrics::DeliveryBatch};
use crate::{dialect::Actions, outbox::Outbox};

/// Room that a buffer keeps between two connections: a burst's memory is given back.
const KEPT: usize = 1024;

/// Empty buffers with room in them.
#[derive(Default)]
pub(super) struct Scratch {
    actions: Actions,
    frames: FrameQueue,
    batch: Option<Box<DeliveryBatch>>,
}

impl Scratch {
    pub(super) fn lend_to(&mut self, connection: &mut Connection<impl Outbox>) {
        std::mem::swap(&mut self.batch, &mut connection.subscriptions.metrics.batch);
        // What waits to be done or written stays where it is.
        if connection.actions.is_empty() {
            connection.actions = std::mem::take(&mut self.actions);
        }
        connection.outbox.borrow_queue(&mut self.frames);
    }

    /// What the connection has besides, since it had to keep its own meanwhile, is given up.
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

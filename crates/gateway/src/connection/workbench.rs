//! The buffers that working on a connection needs, one set for each thread: an idle socket owns none.

use super::{Connection, delivered::Step};
use crate::{dialect::Actions, transport::socket::FrameQueue};

/// Room that a buffer keeps between two connections: a burst's memory is given back.
const KEPT: usize = 1024;

/// Empty buffers with room in them.
#[derive(Default)]
pub(super) struct Workbench {
    actions: Actions,
    frames: FrameQueue,
    step: Option<Box<Step>>,
}

impl Workbench {
    pub(super) fn lend(&mut self, connection: &mut Connection) {
        self.swap(connection);
    }

    pub(super) fn take_back(&mut self, connection: &mut Connection) {
        self.swap(connection);
        self.step.iter_mut().for_each(|step| step.entries.shrink_to(KEPT));
        self.actions.shrink_to(KEPT);
        self.frames.iter_mut().for_each(|frames| frames.shrink_to(KEPT));
    }

    /// What holds something stays where it is.
    fn swap(&mut self, connection: &mut Connection) {
        if connection.actions.is_empty() {
            std::mem::swap(&mut self.actions, &mut connection.actions);
        }
        connection.socket.swap_empty_queue(&mut self.frames);
        std::mem::swap(&mut self.step, &mut connection.subscriptions.delivered.step);
    }
}

//! A task that is going on in this process.

use std::{sync::Arc, time::Instant};

use crewcast_events::catalog::forge::tasks::Task;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;

use super::{TaskEmitter, value_of};

/// A task that is going on. Dropped without [`RunningTask::complete`] or [`RunningTask::fail`] it has failed: as
/// `panicked` when the thread is panicking, else as `cancelled`.
pub struct RunningTask {
    handle: TaskHandle,
    began_in_panic: bool,
}

/// Tells of a task while it is going on; what it tells after its end is ignored. Cheap to clone.
#[derive(Clone)]
pub struct TaskHandle {
    shared: Arc<Shared>,
}

struct Shared {
    emitter: TaskEmitter,
    task: Task,
    since: Instant,
    // Held while an event is emitted, so that nothing comes behind the end and brings the state document back.
    going_on: Mutex<Option<SoFar>>,
}

#[derive(Default)]
struct SoFar {
    result: Option<Value>,
}

impl RunningTask {
    pub(super) fn start(emitter: &TaskEmitter, task: Task) -> Self {
        // Wherever the task is told of or dropped.
        let emitter = emitter.in_this_span();
        emitter.started(&task);
        let going_on = Mutex::new(Some(SoFar::default()));
        let handle = TaskHandle { shared: Arc::new(Shared { emitter, task, since: Instant::now(), going_on }) };
        Self { handle, began_in_panic: std::thread::panicking() }
    }

    /// What tells of the task from elsewhere.
    pub fn handle(&self) -> TaskHandle {
        self.handle.clone()
    }

    /// As [`TaskHandle::progress`].
    pub fn progress(&self, percentage: f64, message: &str) {
        self.handle.progress(percentage, message);
    }

    /// As [`TaskHandle::set_result`].
    pub fn set_result(&self, result: &(impl Serialize + ?Sized)) {
        self.handle.set_result(result);
    }

    /// Emits `task_completed`.
    pub fn complete(self) {
        let Shared { emitter, task, since, going_on } = &*self.handle.shared;
        let mut going_on = going_on.lock();
        if let Some(so_far) = going_on.take() {
            emitter.completed(task, Some(since.elapsed()), so_far.result);
        }
    }

    /// Emits `task_failed`.
    pub fn fail(self, error: &str) {
        self.handle.fail(error);
    }
}

impl Drop for RunningTask {
    fn drop(&mut self) {
        let panicked = std::thread::panicking() && !self.began_in_panic;
        self.handle.fail(if panicked { "panicked" } else { "cancelled" });
    }
}

impl TaskHandle {
    /// Emits `task_progress`: 0 to 100, what lies outside is brought inside. An empty message stays out.
    pub fn progress(&self, percentage: f64, message: &str) {
        let Shared { emitter, task, going_on, .. } = &*self.shared;
        let going_on = going_on.lock();
        if going_on.is_some() {
            emitter.progress(task, percentage, message);
        }
    }

    /// What `task_completed` will bear as its result.
    pub fn set_result(&self, result: &(impl Serialize + ?Sized)) {
        let result = Some(value_of(result));
        if let Some(so_far) = &mut *self.shared.going_on.lock() {
            so_far.result = result;
        }
    }

    /// Unless the task has ended already.
    fn fail(&self, error: &str) {
        let Shared { emitter, task, since, going_on } = &*self.shared;
        let mut going_on = going_on.lock();
        if going_on.take().is_some() {
            emitter.failed(task, Some(since.elapsed()), error);
        }
    }
}

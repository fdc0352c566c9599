//! A task that runs in this process.

use std::{sync::Arc, time::Instant};

use crewcast_events::catalog::forge::tasks::Task;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;

use super::{TaskEmitter, value_of};

/// A running task. When it is dropped without [`RunningTask::complete`] or [`RunningTask::fail`], it fails: as
/// `panicked` if the thread is panicking, else as `cancelled`.
pub struct RunningTask {
    handle: TaskHandle,
    began_in_panic: bool,
}

/// Emits for a task while it runs. Calls after the task's end are ignored. Cheap to clone.
#[derive(Clone)]
pub struct TaskHandle {
    shared: Arc<TaskState>,
}

struct TaskState {
    emitter: TaskEmitter,
    task: Task,
    since: Instant,
    // Held while an event is emitted, so that no event follows the end and restores the state document.
    going_on: Mutex<Option<SoFar>>,
}

#[derive(Default)]
struct SoFar {
    result: Option<Value>,
}

impl RunningTask {
    pub(super) fn start(emitter: &TaskEmitter, task: Task) -> Self {
        // The span of the task, wherever its events are emitted.
        let emitter = emitter.in_this_span();
        emitter.started(&task);
        let going_on = Mutex::new(Some(SoFar::default()));
        let handle = TaskHandle { shared: Arc::new(TaskState { emitter, task, since: Instant::now(), going_on }) };
        Self { handle, began_in_panic: std::thread::panicking() }
    }

    /// A handle for other parts of the program.
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
        let TaskState { emitter, task, since, going_on } = &*self.handle.shared;
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
    /// Emits `task_progress`, clamped to 0 to 100. An empty message is omitted.
    pub fn progress(&self, percentage: f64, message: &str) {
        let TaskState { emitter, task, going_on, .. } = &*self.shared;
        let going_on = going_on.lock();
        if going_on.is_some() {
            emitter.progress(task, percentage, message);
        }
    }

    /// Sets the result of `task_completed`.
    pub fn set_result(&self, result: &(impl Serialize + ?Sized)) {
        let result = Some(value_of(result));
        if let Some(so_far) = &mut *self.shared.going_on.lock() {
            so_far.result = result;
        }
    }

    /// Runs `emit` unless the task has ended.
    fn fail(&self, error: &str) {
        let TaskState { emitter, task, since, going_on } = &*self.shared;
        let mut going_on = going_on.lock();
        if going_on.take().is_some() {
            emitter.failed(task, Some(since.elapsed()), error);
        }
    }
}

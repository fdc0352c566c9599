//! Tasks of an org on `tasks:<org>`.

use std::{any::Any, fmt::Display, panic::AssertUnwindSafe, time::Duration};

use crewcast_events::catalog::{
    Frame,
    forge::tasks::{Task, TaskEvent, TaskKind, TaskSnapshot, TaskStatus},
};
use futures_util::FutureExt;
use serde_json::Value;

use super::{RunningTask, Target, TaskHandle, frame, millis, stamped, within};
use crate::{publisher::Publisher, trace};

/// Most bytes of an error's text; longer texts are cut.
pub const MAX_ERROR_TEXT: usize = 8 * 1024;

/// Emits an org's tasks. Cheap to clone.
///
/// A task has a state document under its id from its start to its end, so later readers see the running tasks. The
/// tasks of a process that died stay until another program ends them with [`TaskEmitter::failed`].
///
/// [`TaskEmitter::run`] emits a task's events around a future:
/// ```no_run
/// # use crewcast_publisher::{Publisher, catalog::forge::tasks::Task};
/// # async fn read_page(_: u32) -> std::io::Result<()> { Ok(()) }
/// # async fn example(publisher: Publisher) -> std::io::Result<()> {
/// let task = Task::new("t1", "Read the tide tables").of_agent("a1");
/// let pages = publisher.tasks("acme").run(task, async |task| {
///     for page in 1..=8 {
///         read_page(page).await?;
///         task.progress(f64::from(page) * 12.5, &format!("page {page} of 8"));
///     }
///     Ok::<_, std::io::Error>(8)
/// });
/// assert_eq!(pages.await?, 8);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TaskEmitter {
    target: Target,
    /// The span of all events. `None`: each event belongs to the span in which it is emitted.
    traceparent: Option<String>,
}

impl TaskEmitter {
    pub(in crate::emit) fn new(publisher: &Publisher, org: &str) -> Self {
        Self { target: Target::of_org(publisher, "tasks", org), traceparent: None }
    }

    /// An emitter whose events belong to the current span.
    pub(super) fn in_this_span(&self) -> Self {
        Self { target: self.target.clone(), traceparent: trace::parent() }
    }

    /// Runs `work` as a task and returns its result. Emits `task_started`, then what `work` emits through its
    /// [`TaskHandle`], and then `task_completed`, or `task_failed` with the error's text. A panic is emitted as a
    /// failure with its text, and continues. A future that is dropped before its end fails as `cancelled`. Nothing is
    /// emitted before the future is polled.
    ///
    /// # Errors
    /// The errors of `work`.
    pub fn run<T, E, F, W>(&self, task: Task, work: W) -> impl Future<Output = Result<T, E>> + use<T, E, F, W>
    where
        E: Display,
        F: Future<Output = Result<T, E>>,
        W: FnOnce(TaskHandle) -> F,
    {
        let emitter = self.clone();
        async move {
            let running = emitter.start(task);
            let handle = running.handle();
            // Unwind safe: no state is read after the panic, which continues here.
            let done = AssertUnwindSafe(async move { work(handle).await }).catch_unwind().await;
            match done {
                Ok(Ok(value)) => {
                    running.complete();
                    Ok(value)
                }
                Ok(Err(error)) => {
                    running.fail(&error.to_string());
                    Err(error)
                }
                Err(panic) => {
                    running.fail(&panic_text(&*panic));
                    std::panic::resume_unwind(panic)
                }
            }
        }
    }

    /// Emits `task_started`. The task ends with [`RunningTask::complete`] or [`RunningTask::fail`]. When it is dropped,
    /// it fails.
    #[must_use = "dropping the task ends it"]
    pub fn start(&self, task: Task) -> RunningTask {
        RunningTask::start(self, task)
    }

    /// A task begins. For tasks that end in another process; otherwise [`TaskEmitter::start`] is simpler.
    pub fn started(&self, task: &Task) {
        self.set(self.frame(TaskKind::TaskStarted(task.clone())), task, 0.0, None);
    }

    /// A task's progress, clamped to 0 to 100. An empty message is omitted.
    pub fn progress(&self, task: &Task, percentage: f64, message: &str) {
        let (percentage, message) =
            (within(percentage, 100.0), Some(message.to_owned()).filter(|text| !text.is_empty()));
        let kind = TaskKind::TaskProgress { task: task.clone(), percentage, message: message.clone() };
        self.set(self.frame(kind), task, percentage, message);
    }

    /// A task has completed. A result that makes the event too large is omitted, and counted as dropped.
    pub fn completed(&self, task: &Task, duration: Option<Duration>, result: Option<Value>) {
        let without = result.is_some();
        let completed = |result| {
            let kind = TaskKind::TaskCompleted { task: task.clone(), duration_ms: duration.map(millis), result };
            self.target.emit_removing(&self.frame(kind), &task.task_id)
        };
        if !completed(result) && without {
            completed(None);
        }
    }

    /// A task has failed. The error's text is cut to [`MAX_ERROR_TEXT`] bytes.
    pub fn failed(&self, task: &Task, duration: Option<Duration>, error: &str) {
        let error = cut(error, MAX_ERROR_TEXT).to_owned();
        let kind = TaskKind::TaskFailed { task: task.clone(), error, duration_ms: duration.map(millis) };
        self.target.emit_removing(&self.frame(kind), &task.task_id);
    }

    fn frame(&self, kind: TaskKind) -> TaskEvent {
        let event = frame(kind);
        Frame { traceparent: self.traceparent.clone().or(event.traceparent), ..event }
    }

    fn set(&self, event: TaskEvent, task: &Task, percentage: f64, message: Option<String>) {
        let now = TaskSnapshot { task: task.clone(), status: TaskStatus::Running, percentage, message };
        self.target.emit_setting(&event, &task.task_id, &stamped(&event, now));
    }
}

/// The first `most` bytes of a text, cut at a character boundary.
fn cut(text: &str, most: usize) -> &str {
    if text.len() <= most {
        return text;
    }
    let end = (0..=most).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    &text[..end]
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.map_or_else(|| "panicked".to_owned(), |text| format!("panicked: {text}"))
}

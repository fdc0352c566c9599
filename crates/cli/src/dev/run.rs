//! One simulated run, from `boot` to `done`.

use std::{pin::pin, time::Duration};

use crewcast_publisher::{Outcome, Publisher, RunEmitter, RunOutcome, ToolEmitter};
use fastrand::Rng;
use futures_util::future::{Either, join_all, select};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    script::{Crew, Ending, Task},
    simulation::{Pace, Stopped},
    tools::Tool,
};

/// The probability that a tool call fails by chance.
const FAILURE_RATE: f64 = 0.1;
/// The exit code that shells report for an interrupted program.
const INTERRUPTED: i32 = 130;

pub(super) struct SimulatedRun<'a> {
    publisher: &'a Publisher,
    crew: &'static Crew,
    id: String,
    run: RunEmitter,
    pace: Pace,
    rng: Rng,
    subject: &'static str,
    started: Instant,
}

/// Whether a task may succeed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TaskPlan {
    Normal,
    /// The task's last call fails, and so does its retry.
    MustFail,
}

impl<'a> SimulatedRun<'a> {
    pub(super) fn new(publisher: &'a Publisher, crew: &'static Crew, id: String, pace: &Pace, mut rng: Rng) -> Self {
        let run = publisher.run(&id).with_crew(crew.id);
        let subject = crew.subjects[rng.usize(..crew.subjects.len())];
        Self { publisher, crew, id, run, pace: pace.child(), rng, subject, started: Instant::now() }
    }

    /// Plays the run to its end, which is `ending` unless the simulation is stopped before.
    pub(super) async fn play(mut self, ending: Ending) {
        self.run.boot(&json!({"subject": self.subject, "requested_by": "demo", "budget_tokens": 40_000}));
        let outcome = self.stages(ending).await;
        let output = match outcome {
            RunOutcome::Success => Some(json!(self.crew.result)),
            RunOutcome::Error | RunOutcome::Cancelled => None,
        };
        self.run.done(outcome, self.started.elapsed(), output);
    }

    async fn stages(&mut self, ending: Ending) -> RunOutcome {
        // The first stage always succeeds: a run that ends at once shows nothing.
        let ending_stage = self.rng.usize(1..self.crew.stages.len());
        for (number, stage) in self.crew.stages.iter().enumerate() {
            if self.pace.wait(&mut self.rng, (0.3, 0.8)).await.is_err() {
                return RunOutcome::Cancelled;
            }
            let here = if number == ending_stage { ending } else { Ending::Success };
            self.stage(stage, here).await;
            if self.pace.halt.is_cancelled() {
                return RunOutcome::Cancelled;
            }
            if here == Ending::Error {
                return RunOutcome::Error;
            }
        }
        RunOutcome::Success
    }

    /// Runs all tasks of a stage at the same time.
    async fn stage(&mut self, tasks: &'static [Task], ending: Ending) {
        let must_fail = (ending == Ending::Error).then(|| self.rng.usize(..tasks.len()));
        let rngs: Vec<Rng> = tasks.iter().map(|_| self.rng.fork()).collect();
        let cancel_after = Duration::try_from_secs_f64((1.5 + self.rng.f64() * 2.0) / self.pace.speed);
        let this = &*self;
        let work = tasks.iter().zip(rngs).enumerate().map(|(number, (task, rng))| {
            let plan = if must_fail == Some(number) { TaskPlan::MustFail } else { TaskPlan::Normal };
            this.task(task, plan, rng)
        });
        let work = pin!(join_all(work.collect::<Vec<_>>()));
        if ending != Ending::Cancelled {
            work.await;
            return;
        }
        let timer = pin!(tokio::time::sleep(cancel_after.unwrap_or_default()));
        match select(work, timer).await {
            Either::Left(_) => self.pace.halt.cancel(),
            Either::Right((_, work)) => {
                this.pace.halt.cancel();
                work.await;
            }
        }
    }

    /// One agent does one task: `agent_start` to `agent_end`.
    async fn task(&self, task: &'static Task, plan: TaskPlan, mut rng: Rng) {
        let started = Instant::now();
        let task_id = format!("t{}", rng.u32(1000..10_000));
        self.run.agent_start(task.agent_id, task.agent);
        let (outcome, took) = match self.pace.wait(&mut rng, (0.2, 0.7)).await {
            Err(Stopped) => (Outcome::Error, Duration::ZERO),
            Ok(()) => {
                self.run.task_start(&task_id, task.title, task.agent_id);
                let outcome = self.calls(task, plan, &mut rng).await.unwrap_or(Outcome::Error);
                let took = started.elapsed();
                let output = output_of(task, outcome);
                self.run.task_end(&task_id, task.title, task.agent_id, outcome, took, output);
                (outcome, took)
            }
        };
        self.run.agent_end(task.agent_id, task.agent, outcome, took, None);
    }

    /// Makes the task's tool calls one after the other. A failed call is retried once.
    async fn calls(&self, task: &'static Task, plan: TaskPlan, rng: &mut Rng) -> Result<Outcome, Stopped> {
        let tools = self.publisher.tools(self.crew.id, &self.id, task.agent_id);
        let mut outcome = Outcome::Success;
        for (number, tool) in task.calls.iter().enumerate() {
            self.pace.wait(rng, (0.2, 0.9)).await?;
            let must_fail = plan == TaskPlan::MustFail && number + 1 == task.calls.len();
            if self.call(&tools, tool, 1, must_fail || rng.f64() < FAILURE_RATE, rng).await? {
                continue;
            }
            let failure = &tool.failure;
            self.run.error(failure.message, Some(failure.code), Some(task.agent_id), false);
            self.pace.wait(rng, (0.6, 1.4)).await?;
            if self.call(&tools, tool, 2, must_fail || rng.f64() < 2.0 * FAILURE_RATE, rng).await? {
                continue;
            }
            if must_fail {
                let message = format!("{} gives up: {}", task.agent, failure.message);
                self.run.error(&message, Some(failure.code), Some(task.agent_id), true);
                return Ok(Outcome::Error);
            }
            outcome = Outcome::CompletedWithErrors;
        }
        Ok(outcome)
    }

    /// Makes one tool call. Returns whether it succeeded.
    async fn call(
        &self,
        tools: &ToolEmitter,
        tool: &Tool,
        attempt: u32,
        fails: bool,
        rng: &mut Rng,
    ) -> Result<bool, Stopped> {
        let mut params = (tool.params)(rng, self.subject);
        if attempt > 1 {
            params["attempt"] = attempt.into();
        }
        let call = tools.start(tool.name, &params);
        // The time of the call passes between its steps. A failing call stops half-way.
        let parts = tool.steps.len() + 1;
        let shown = if fails { tool.steps.len() / 2 } else { tool.steps.len() };
        let part = (tool.seconds.0 / parts as f64, tool.seconds.1 / parts as f64);
        for (number, step) in tool.steps[..shown].iter().enumerate() {
            if self.pace.wait(rng, part).await.is_err() {
                call.end(INTERRUPTED, Outcome::Error);
                return Err(Stopped);
            }
            let done = (number as f64 + 0.6 + rng.f64() * 0.8) / parts as f64;
            call.progress(*step, tool.measured.then(|| (done * 100.0).round() / 100.0));
        }
        if self.pace.wait(rng, part).await.is_err() {
            call.end(INTERRUPTED, Outcome::Error);
            return Err(Stopped);
        }
        match fails {
            false => call.end(0, Outcome::Success),
            true => call.end(tool.failure.exit_code, Outcome::Error),
        }
        Ok(!fails)
    }
}

fn output_of(task: &Task, outcome: Outcome) -> Option<Value> {
    (outcome != Outcome::Error).then(|| json!(task.output))
}

//! One simulated run, from `boot` to `done`.

use std::{pin::pin, time::Duration};

use crewcast_publisher::{Outcome, Publisher, RunEmitter, RunOutcome, ToolEmitter};
use fastrand::Rng;
use futures_util::future::{Either, join_all, select};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    script::{Crew, Fate, Task},
    simulation::{Halted, Pace},
    tools::Tool,
};

/// How often a call fails that need not.
const FAILS: f64 = 0.1;
/// What shells report for a program that was interrupted.
const INTERRUPTED: i32 = 130;

pub(super) struct SimulatedRun<'a> {
    publisher: &'a Publisher,
    crew: &'static Crew,
    id: String,
    run: RunEmitter,
    pace: Pace,
    rng: Rng,
    subject: &'static str,
    begun: Instant,
}

/// How a task is to go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Course {
    AsItComes,
    /// Its last call fails for good.
    Doomed,
}

impl<'a> SimulatedRun<'a> {
    pub(super) fn new(publisher: &'a Publisher, crew: &'static Crew, id: String, pace: &Pace, mut rng: Rng) -> Self {
        let run = publisher.run(&id).with_crew(crew.id);
        let subject = crew.subjects[rng.usize(..crew.subjects.len())];
        Self { publisher, crew, id, run, pace: pace.child(), rng, subject, begun: Instant::now() }
    }

    /// Plays it to its end, which is `fate` unless the simulation is stopped before.
    pub(super) async fn play(mut self, fate: Fate) {
        self.run.boot(&json!({"subject": self.subject, "requested_by": "demo", "budget_tokens": 40_000}));
        let outcome = self.stages(fate).await;
        let output = match outcome {
            RunOutcome::Success => Some(json!(self.crew.result)),
            RunOutcome::Error | RunOutcome::Cancelled => None,
        };
        self.run.done(outcome, self.begun.elapsed(), output);
    }

    async fn stages(&mut self, fate: Fate) -> RunOutcome {
        // The first stage always goes through: a run that ends at once tells nothing.
        let turn = self.rng.usize(1..self.crew.stages.len());
        for (number, stage) in self.crew.stages.iter().enumerate() {
            if self.pace.wait(&mut self.rng, (0.3, 0.8)).await.is_err() {
                return RunOutcome::Cancelled;
            }
            let here = if number == turn { fate } else { Fate::Success };
            self.stage(stage, here).await;
            if self.pace.halt.is_cancelled() {
                return RunOutcome::Cancelled;
            }
            if here == Fate::Error {
                return RunOutcome::Error;
            }
        }
        RunOutcome::Success
    }

    /// All tasks of a stage at the same time.
    async fn stage(&mut self, tasks: &'static [Task], fate: Fate) {
        let doomed = (fate == Fate::Error).then(|| self.rng.usize(..tasks.len()));
        let rngs: Vec<Rng> = tasks.iter().map(|_| self.rng.fork()).collect();
        let until_cancelled = Duration::try_from_secs_f64((1.5 + self.rng.f64() * 2.0) / self.pace.speed);
        let this = &*self;
        let work = tasks.iter().zip(rngs).enumerate().map(|(number, (task, rng))| {
            let course = if doomed == Some(number) { Course::Doomed } else { Course::AsItComes };
            this.task(task, course, rng)
        });
        let work = pin!(join_all(work.collect::<Vec<_>>()));
        if fate != Fate::Cancelled {
            work.await;
            return;
        }
        let moment = pin!(tokio::time::sleep(until_cancelled.unwrap_or_default()));
        match select(work, moment).await {
            Either::Left(_) => self.pace.halt.cancel(),
            Either::Right((_, work)) => {
                this.pace.halt.cancel();
                work.await;
            }
        }
    }

    /// One agent does one task: `agent_start` to `agent_end`.
    async fn task(&self, task: &'static Task, course: Course, mut rng: Rng) {
        let begun = Instant::now();
        let task_id = format!("t{}", rng.u32(1000..10_000));
        self.run.agent_start(task.agent_id, task.agent);
        let (outcome, took) = match self.pace.wait(&mut rng, (0.2, 0.7)).await {
            Err(Halted) => (Outcome::Error, Duration::ZERO),
            Ok(()) => {
                self.run.task_start(&task_id, task.title, task.agent_id);
                let outcome = self.calls(task, course, &mut rng).await.unwrap_or(Outcome::Error);
                let took = begun.elapsed();
                let output = output_of(task, outcome);
                self.run.task_end(&task_id, task.title, task.agent_id, outcome, took, output);
                (outcome, took)
            }
        };
        self.run.agent_end(task.agent_id, task.agent, outcome, took, None);
    }

    /// The task's tool calls one after the other; what fails is tried once more.
    async fn calls(&self, task: &'static Task, course: Course, rng: &mut Rng) -> Result<Outcome, Halted> {
        let tools = self.publisher.tools(self.crew.id, &self.id, task.agent_id);
        let mut outcome = Outcome::Success;
        for (number, tool) in task.calls.iter().enumerate() {
            self.pace.wait(rng, (0.2, 0.9)).await?;
            let doomed = course == Course::Doomed && number + 1 == task.calls.len();
            if self.call(&tools, tool, 1, doomed || rng.f64() < FAILS, rng).await? {
                continue;
            }
            let failure = &tool.failure;
            self.run.error(failure.message, Some(failure.code), Some(task.agent_id), false);
            self.pace.wait(rng, (0.6, 1.4)).await?;
            if self.call(&tools, tool, 2, doomed || rng.f64() < 2.0 * FAILS, rng).await? {
                continue;
            }
            if doomed {
                let message = format!("{} gives up: {}", task.agent, failure.message);
                self.run.error(&message, Some(failure.code), Some(task.agent_id), true);
                return Ok(Outcome::Error);
            }
            outcome = Outcome::CompletedWithErrors;
        }
        Ok(outcome)
    }

    /// One tool call. Answers whether it went well.
    async fn call(
        &self,
        tools: &ToolEmitter,
        tool: &Tool,
        attempt: u32,
        fails: bool,
        rng: &mut Rng,
    ) -> Result<bool, Halted> {
        let mut params = (tool.params)(rng, self.subject);
        if attempt > 1 {
            params["attempt"] = attempt.into();
        }
        let call = tools.start(tool.name, &params);
        // Between the steps the call's time passes; what fails does so before the end.
        let parts = tool.steps.len() + 1;
        let told = if fails { tool.steps.len() / 2 } else { tool.steps.len() };
        let part = (tool.seconds.0 / parts as f64, tool.seconds.1 / parts as f64);
        for (number, step) in tool.steps[..told].iter().enumerate() {
            if self.pace.wait(rng, part).await.is_err() {
                call.end(INTERRUPTED, Outcome::Error);
                return Err(Halted);
            }
            let come = (number as f64 + 0.6 + rng.f64() * 0.8) / parts as f64;
            call.progress(*step, tool.measured.then(|| (come * 100.0).round() / 100.0));
        }
        if self.pace.wait(rng, part).await.is_err() {
            call.end(INTERRUPTED, Outcome::Error);
            return Err(Halted);
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

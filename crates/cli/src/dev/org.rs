//! The rest of a simulated org: what the sockets besides the crews' show. One small story per dialect, told over and
//! over until the simulation is stopped.

use crewcast_publisher::{
    ActiveAgent, LogLevel, Publisher,
    catalog::{
        forge::{
            agents::Agent,
            knowledge::{Counts, Edge, Node},
            tasks::Task,
        },
        hub::{ErrorInfo, system, task},
        tracking::{Activity, AgentCollaboration, AgentStatus, StatusMetadata},
    },
};
use fastrand::Rng;
use serde_json::json;
use tokio::time::Instant;

use super::simulation::{Pace, Stopped};

/// The pause between two rounds of a story, in seconds.
const REST: (f64, f64) = (4.0, 9.0);

/// `stream:support`: a ticket is classified, waits for a person at times, and is answered.
pub(super) async fn stream(publisher: &Publisher, session: &str, pace: Pace, mut rng: Rng) -> Result<(), Stopped> {
    let stream = publisher.stream("support");
    for number in 1u64.. {
        pace.wait(&mut rng, REST).await?;
        let execution = stream.execution(&format!("ticket-{session}-{number}"));
        execution.started(&json!({"ticket": number, "text": "I was charged twice."}));
        let outcome = async {
            let began = Instant::now();
            pace.wait(&mut rng, (0.5, 1.5)).await?;
            execution.node_executed("classify", began.elapsed(), &"billing");
            execution.state_changed("queue", &(), &"billing");
            execution.goal_progress(0.5, &json!({"classified": true, "answered": false}));
            if rng.u32(..3) == 0 {
                execution.paused("refund", "a refund needs a person's approval");
                pace.wait(&mut rng, (2.0, 4.0)).await?;
                execution.resumed("refund", &json!({"approved": true}));
            }
            let began = Instant::now();
            pace.wait(&mut rng, (0.8, 2.0)).await?;
            execution.node_executed("answer", began.elapsed(), &"The second charge is on its way back.");
            Ok(())
        };
        match outcome.await {
            Ok(()) => {
                execution.goal_achieved(&json!({"classified": true, "answered": true}));
                execution.completed(&json!({"answered": true}));
            }
            Err(Stopped) => {
                execution.failed("the simulation was stopped");
                return Err(Stopped);
            }
        }
    }
    Ok(())
}

/// `hub:<org>`: a task is assigned, makes progress, and is completed or fails; the hub reports how it is.
pub(super) async fn hub(publisher: &Publisher, org: &str, pace: Pace, mut rng: Rng) -> Result<(), Stopped> {
    let hub = publisher.hub(org);
    let mut completed = 0;
    for number in 1u64.. {
        pace.wait(&mut rng, REST).await?;
        let (task_id, agent_id) = (format!("hub-task-{number}"), "planner".to_owned());
        let (task, agent) = (task_id.clone(), agent_id.clone());
        hub.task_assigned(task::TaskAssigned {
            task_id: task,
            agent_id: agent,
            assignment_reason: Some("capability_match".to_owned()),
            estimated_completion: None,
        });
        hub.task_started(task::TaskStarted { task_id: task_id.clone(), agent_id: agent_id.clone(), attempt_number: 1 });
        let began = Instant::now();
        for step in 1..=3 {
            pace.wait(&mut rng, (0.6, 1.6)).await?;
            hub.task_progress(task::TaskProgress {
                task_id: task_id.clone(),
                agent_id: agent_id.clone(),
                progress: f64::from(step) / 4.0,
                current_step: Some(format!("step {step} of 4")),
                estimated_completion: None,
            });
        }
        if rng.u32(..5) == 0 {
            let error = ErrorInfo { code: "TIMEOUT".into(), message: "no answer within 20 s".into(), details: None };
            let (retry_scheduled, next_retry_at) = (false, None);
            hub.task_failed(task::TaskFailed {
                task_id,
                agent_id,
                attempt_number: 1,
                error,
                retry_scheduled,
                next_retry_at,
            });
        } else {
            completed += 1;
            let execution_time_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            let result = Some(json!({"steps": 4}));
            hub.task_completed(task::TaskCompleted { task_id, agent_id, execution_time_ms, result });
        }
        hub.hive_status_update(system::HiveStatus {
            status: "healthy".into(),
            metrics: system::HiveMetrics {
                total_agents: 3,
                active_agents: 1,
                pending_tasks: 0,
                completed_tasks_today: completed,
                system_load: f64::from(rng.u32(10..60)) / 100.0,
            },
            alerts: Vec::new(),
        });
    }
    Ok(())
}

/// `session:…` and `tracking:<org>`: a session researches a question while an agent says what it does.
pub(super) async fn session(
    publisher: &Publisher,
    (org, name): (&str, &str),
    pace: Pace,
    mut rng: Rng,
) -> Result<(), Stopped> {
    let tracking = publisher.tracking(org);
    let say = |status, progress, message: &str| {
        tracking.agent_status(AgentStatus {
            agent_id: "researcher".into(),
            agent_name: "Researcher".into(),
            status,
            progress,
            message: message.to_owned(),
            metadata: StatusMetadata::default(),
        });
    };
    for number in 1u64.. {
        pace.wait(&mut rng, REST).await?;
        let session = publisher.session(&format!("session-{name}-{number}")).open("How high is the tide?");
        let work = async {
            session.log(LogLevel::Info, "planner", "one agent will do", None);
            let agent = ActiveAgent { agent_name: "Researcher".to_owned(), ..ActiveAgent::default() };
            session.update(|state| {
                state.current_phase = "research".to_owned();
                state.active_agents = vec![agent];
            });
            say(Activity::Analyzing, 0.0, "reads the question");
            for page in 1..=4 {
                pace.wait(&mut rng, (0.6, 1.6)).await?;
                session.log(LogLevel::Info, "researcher", "read a page of the tables", Some(json!({"page": page})));
                session.update(|state| state.overall_progress = f64::from(page) * 25.0);
                say(Activity::Processing, f64::from(page) * 25.0, &format!("page {page} of 4"));
            }
            tracking.agent_collaboration(AgentCollaboration {
                primary_agent: "Researcher".into(),
                secondary_agent: "Writer".into(),
                collaboration_type: "handoff".into(),
                reason: "the tables are read".into(),
            });
            Ok(())
        };
        let outcome: Result<(), Stopped> = work.await;
        session.update(|state| state.active_agents.clear());
        say(if outcome.is_ok() { Activity::Completed } else { Activity::Idle }, 100.0, "done");
        session.end(if outcome.is_ok() { "completed" } else { "cancelled" });
        outcome?;
    }
    Ok(())
}

/// `agents:<org>`, `tasks:<org>`, `knowledge:<org>` and `metrics:<org>`: an agent reads, and the graph grows.
pub(super) async fn forge(publisher: &Publisher, org: &str, pace: Pace, mut rng: Rng) -> Result<(), Stopped> {
    let (agents, tasks) = (publisher.agents(org), publisher.tasks(org));
    let (knowledge, metrics) = (publisher.knowledge(org), publisher.metrics(org));
    let reader = |status: &str| Agent::new("reader", "Reader", status);
    agents.created(&reader("idle"));
    for number in 1u32.. {
        pace.wait(&mut rng, REST).await?;
        agents.status_changed(&reader("busy"), Some("idle"));
        let work = tasks.run(
            Task::new(format!("forge-task-{number}"), "Read the tide tables").of_agent("reader"),
            async |task| {
                for page in 1..=4 {
                    pace.wait(&mut rng, (0.6, 1.6)).await.map_err(|Stopped| "the simulation was stopped")?;
                    task.progress(f64::from(page) * 25.0, &format!("page {page} of 4"));
                }
                Ok::<_, &str>(())
            },
        );
        let outcome = work.await;
        agents.status_changed(&reader("idle"), Some("busy"));
        if outcome.is_err() {
            return Err(Stopped);
        }
        let (node, before) = (format!("table-{number}"), format!("table-{}", number - 1));
        let counts = Counts { nodes: number.into(), edges: (number - 1).into() };
        knowledge.node_added(Node::new(&node, "Tide table"), Some(counts));
        if number > 1 {
            knowledge.edge_added(Edge::new(&before, "precedes", &node), None);
        }
        metrics.system(&json!({"cpu_percent": rng.u32(5..60)}));
        metrics.tasks(&json!({"completed": number, "failed": 0}));
        metrics.agents(&json!({"busy": 0, "idle": 1}));
    }
    Ok(())
}

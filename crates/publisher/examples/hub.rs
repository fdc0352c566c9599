//! An org's hub: an agent comes, takes a task, fails at it, learns, and leaves:
//! `cargo run -p crewcast-publisher --example hub [redis://…]`.

use std::{collections::BTreeMap, time::Duration};

use crewcast_publisher::{
    HubEmitter, Publisher,
    catalog::hub::{ErrorInfo, agent, error, learning, module, system, task},
    timestamp,
};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned());
    produce(&url).await
}

/// Emits the example's events to the Redis at `url`.
pub(crate) async fn produce(url: &str) -> Result<(), Box<dyn std::error::Error>> {
    let publisher = Publisher::connect(url).await?;
    let hub = publisher.hub("acme");
    agent_comes(&hub);
    task_fails(&hub);
    hub_is_troubled(&hub);
    agent_learns_and_leaves(&hub);

    let unsent = publisher.close(Duration::from_secs(5)).await;
    println!("{:?}, {} unsent", publisher.stats(), unsent.events);
    Ok(())
}

fn agent_comes(hub: &HubEmitter) {
    let search = agent::Capability { name: "search".into(), proficiency: 0.85, learning_rate: 0.1 };
    hub.agent_created(agent::AgentCreated {
        agent: agent::NewAgent {
            id: "a1".into(),
            name: "Researcher".into(),
            kind: "specialist".into(),
            capabilities: vec![search],
            created_at: timestamp::now(),
        },
    });
    hub.agent_status_changed(agent::AgentStatusChanged {
        agent_id: "a1".into(),
        old_status: "starting".into(),
        new_status: "idle".into(),
        reason: None,
    });
}

fn task_fails(hub: &HubEmitter) {
    let (task_id, agent_id) = ("t1".to_owned(), "a1".to_owned());
    let needed = task::RequiredCapability { name: "search".into(), min_proficiency: 0.7 };
    hub.task_created(task::TaskCreated {
        task: task::NewTask {
            id: task_id.clone(),
            description: "Read the tide tables".into(),
            kind: "research".into(),
            priority: 2,
            status: "pending".into(),
            required_capabilities: vec![needed],
            created_at: timestamp::now(),
        },
        matching_agents: 1,
    });
    let (assignment_reason, estimated_completion) = (Some("capability_match".to_owned()), None);
    let (task, agent) = (task_id.clone(), agent_id.clone());
    hub.task_assigned(task::TaskAssigned { task_id: task, agent_id: agent, assignment_reason, estimated_completion });
    hub.task_started(task::TaskStarted { task_id: task_id.clone(), agent_id: agent_id.clone(), attempt_number: 1 });
    for page in 1..=3 {
        hub.task_progress(task::TaskProgress {
            task_id: task_id.clone(),
            agent_id: agent_id.clone(),
            progress: f64::from(page) / 4.0,
            current_step: Some(format!("page {page} of 4")),
            estimated_completion: None,
        });
    }
    let error = ErrorInfo { code: "NO_PAGE".into(), message: "page 4 is missing".into(), details: None };
    let (retry_scheduled, next_retry_at) = (false, None);
    let failed = task::TaskFailed { task_id, agent_id, attempt_number: 1, error, retry_scheduled, next_retry_at };
    hub.task_failed(failed);
    let (task_id, execution_time_ms) = ("t2".to_owned(), 1200);
    let result = Some(json!({"pages": 3}));
    hub.task_completed(task::TaskCompleted { task_id, agent_id: "a1".into(), execution_time_ms, result });
    hub.task_cancelled(task::TaskCancelled { task_id: "t3".into(), reason: None, cancelled_by: Some("u1".into()) });
}

fn hub_is_troubled(hub: &HubEmitter) {
    let (message, details) = ("page 4 is missing".to_owned(), Some(json!({"page": 4})));
    let missing = ErrorInfo { code: "NO_PAGE".into(), message: message.clone(), details };
    let severity = "error".to_owned();
    hub.error_occurred(error::ErrorOccurred {
        error_id: "x1".into(),
        component: "reader".into(),
        error: missing,
        severity,
    });
    hub.module_status_changed(module::ModuleStatusChanged {
        module: "reader".into(),
        old_status: "healthy".into(),
        new_status: "degraded".into(),
        reason: Some(message.clone()),
        affected_functions: vec!["read".into()],
    });
    hub.inter_module_message(module::InterModuleMessage {
        from_module: "reader".into(),
        to_module: "planner".into(),
        message_type: "PageMissing".into(),
        payload: json!({"page": 4}),
    });
    let (event_type, module) = ("replanned".to_owned(), "planner".to_owned());
    hub.coordination_event(module::CoordinationEvent { event_type, module, details: None });
    let (level, title) = ("warning".to_owned(), "A page is missing".to_owned());
    hub.system_alert(system::SystemAlert { level: level.clone(), title, message: message.clone(), details: None });
    hub.resource_alert(system::ResourceAlert {
        resource: "memory".into(),
        usage_percent: 85.0,
        threshold_percent: 80.0,
        trend: Some("increasing".into()),
        recommendations: vec!["read fewer pages at once".into()],
    });
    hub.hive_status_update(system::HiveStatus {
        status: "degraded".into(),
        metrics: system::HiveMetrics {
            total_agents: 1,
            active_agents: 0,
            pending_tasks: 0,
            completed_tasks_today: 1,
            system_load: 0.2,
        },
        alerts: vec![system::HiveAlert { level, message, timestamp: timestamp::now() }],
    });
}

fn agent_learns_and_leaves(hub: &HubEmitter) {
    let agent_id = "a1".to_owned();
    hub.agent_performance_updated(agent::AgentPerformanceUpdated {
        agent_id: agent_id.clone(),
        metrics: agent::Performance {
            tasks_completed: 1,
            success_rate: 0.5,
            average_response_time_ms: 1250.0,
            capability_improvements: 0,
        },
    });
    hub.learning_cycle_started(learning::LearningCycleStarted {
        cycle_id: "c1".into(),
        agent_id: agent_id.clone(),
        learning_type: "practice".into(),
        target_capability: Some("search".into()),
        estimated_duration_minutes: Some(15),
    });
    let better = learning::Improvement { old_value: 0.85, new_value: 0.88, improvement: 0.03 };
    let improvements = BTreeMap::from([("search".to_owned(), better)]);
    let (cycle_id, duration_ms) = ("c1".to_owned(), 900_000);
    hub.learning_cycle_completed(learning::LearningCycleCompleted {
        cycle_id,
        agent_id: agent_id.clone(),
        improvements,
        duration_ms,
    });
    let cleanup_summary = Some(agent::Cleanup { tasks_reassigned: 0, data_removed: true });
    hub.agent_removed(agent::AgentRemoved { agent_id, reason: Some("retired".into()), cleanup_summary });
}

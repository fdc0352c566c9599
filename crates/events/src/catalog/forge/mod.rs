//! Agents, tasks, knowledge and metrics of an org, each on a channel of its own.
//!
//! Gateways send the channel's state documents to new connections. A producer sets a document in the same atomic step
//! as the event that changes it.
//!
//! | channel | key | document | removed |
//! |---|---|---|---|
//! | `agents:<org>` | agent id | [`agents::AgentState`] | with `agent_deleted` |
//! | `tasks:<org>` | task id | [`tasks::TaskState`] | with `task_completed` and `task_failed` |
//! | `knowledge:<org>` | [`knowledge::COUNTS`] | [`knowledge::CountsState`] | |
//! | `metrics:<org>` | [`metrics::MetricSet::key`] | the newest metrics of the set, with a `timestamp` | |

pub mod agents;
pub mod knowledge;
pub mod metrics;
pub mod tasks;

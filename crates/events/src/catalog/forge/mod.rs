//! Agents, tasks, knowledge and metrics of an org, each on a channel of its own, and the state documents that stand
//! beside them: what is told on connect stands in the channel's state, set in the same atomic step as its event.
//!
//! | channel | key | document | leaves |
//! |---|---|---|---|
//! | `agents:<org>` | agent id | [`agents::AgentState`] | with `agent_deleted` |
//! | `tasks:<org>` | task id | [`tasks::TaskState`] | with `task_completed` and `task_failed` |
//! | `knowledge:<org>` | [`knowledge::COUNTS`] | [`knowledge::CountsState`] | |
//! | `metrics:<org>` | [`metrics::MetricSet::key`] | the newest metrics of the set, with a `timestamp` | |

pub mod agents;
pub mod knowledge;
pub mod metrics;
pub mod tasks;

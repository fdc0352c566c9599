//! What breaks first: up to how many sockets one replica, one Redis or one channel is enough.

use super::predict::{Prediction, Question};

/// The most sockets that are tried.
const FAR: f64 = 1e9;

/// Up to how many sockets one of something is enough.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Break {
    /// The number of sockets. `None` if it exceeds the most that are tried.
    pub sockets: Option<f64>,
    /// The bound that is reached there.
    pub bound: &'static str,
}

/// Up to how many sockets one replica is enough.
pub fn of_replica(question: &Question<'_>) -> Break {
    find(question, |answer| answer.replicas, Prediction::tightest_replica_bound)
}

/// Up to how many sockets one Redis is enough, with as many replicas as needed.
pub fn of_node(question: &Question<'_>) -> Break {
    find(question, |answer| answer.nodes, Prediction::tightest_node_bound)
}

/// Up to how many sockets the busiest channel fits one Redis. More servers do not help beyond that.
pub fn of_channel(question: &Question<'_>) -> Break {
    let share = |answer: &Prediction| if answer.channel_share > 1.0 { 2.0 } else { 1.0 };
    find(question, share, |_| "one channel")
}

fn find(
    question: &Question<'_>,
    count: impl Fn(&Prediction) -> f64,
    bound: impl Fn(&Prediction) -> &'static str,
) -> Break {
    let is_enough = |sockets: f64| count(&question.answer(sockets)) <= 1.0;
    if is_enough(FAR) {
        return Break { sockets: None, bound: "" };
    }
    let (mut enough, mut short) = (1.0, FAR);
    // A precision of a thousandth is more than the tables show.
    while short / enough > 1.001 {
        let middle = f64::sqrt(enough * short);
        if is_enough(middle) { enough = middle } else { short = middle }
    }
    Break { sockets: Some(enough), bound: bound(&question.answer(short)) }
}

//! What breaks first: up to how many sockets one of something is enough.

use super::predict::{Prediction, Question};

/// Beyond this nothing is asked.
const FAR: f64 = 1e9;

/// One of something is enough up to here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Break {
    /// So many sockets; none: further than anybody asks.
    pub sockets: Option<f64>,
    /// What is full then.
    pub bound: &'static str,
}

/// Until when one replica is enough.
pub fn of_replica(question: &Question<'_>) -> Break {
    find(question, |answer| answer.replicas, Prediction::tightest_replica_bound)
}

/// Until when one Redis is enough, with as many replicas as it takes.
pub fn of_node(question: &Question<'_>) -> Break {
    find(question, |answer| answer.nodes, Prediction::tightest_node_bound)
}

/// Until when the busiest channel fits one Redis: what more servers do not help.
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
    // To a thousandth: the tables show no more.
    while short / enough > 1.001 {
        let middle = f64::sqrt(enough * short);
        if is_enough(middle) { enough = middle } else { short = middle }
    }
    Break { sockets: Some(enough), bound: bound(&question.answer(short)) }
}

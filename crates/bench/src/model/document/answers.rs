use super::figures::{about, number, plain, whole};
use crate::{
    model::{
        Assumptions, Model, Placement, Scenario, Study,
        breaks::{Break, of_channel, of_node, of_replica},
        copies,
        predict::{Bound, MOST, Prediction, Question},
    },
    report::table::Table,
};

const GIB: f64 = 1_073_741_824.0;
const HOUR: f64 = 3600.0;

/// The questions about each scenario, one for each placement.
fn questions<'a>(study: &'a Study, model: &'a Model) -> Vec<Question<'a>> {
    let of = |scenario| {
        Placement::ALL.map(|placement| Question { model, scenario, placement, assumptions: &study.assumptions })
    };
    study.scenarios.iter().flat_map(of).collect()
}

fn described(scenario: &Scenario) -> String {
    let readers = |readers| format!("{} sockets per channel", plain(readers));
    format!(
        "**{}**: {}, {} events/s per channel, {} bytes per event",
        scenario.name,
        scenario.per_channel.map_or("all sockets on one channel".to_owned(), readers),
        plain(scenario.rate),
        plain(scenario.bytes)
    )
}

fn assumed(assumptions: &Assumptions) -> String {
    format!(
        "A replica has {} cores and {} GiB of memory. A Redis computes on one of its {} cores. Both have a network of \
         {} Gbit/s. Cores and networks are used up to {:.0} %. A replica holds at most {} sockets. `ready.window` is \
         {} s. A core costs {} per hour, as an example.",
        plain(assumptions.cores),
        plain(assumptions.memory),
        plain(assumptions.redis_cores),
        plain(assumptions.network),
        100.0 * assumptions.load,
        plain(assumptions.per_replica),
        plain(assumptions.ready_window),
        plain(assumptions.price),
    )
}

/// The summary: one line per scenario and number of sockets.
pub(super) fn summary(study: &Study, model: &Model) -> String {
    let mut text = "## Summary\n\n".to_owned();
    for scenario in &study.scenarios {
        let ask = |placement| Question { model, scenario, placement, assumptions: &study.assumptions };
        for sockets in &study.sockets {
            let [scattered, together] = Placement::ALL.map(|placement| ask(placement).answer(*sockets));
            text += &format!(
                "- **{} sockets, {}**: {}. {}.\n",
                about(*sockets),
                scenario.name,
                sentence(&scattered),
                short(&together)
            );
        }
    }
    text + "\n"
}

fn sentence(answer: &Prediction) -> String {
    let bound = |count: f64, bound: &str| if count > 1.0 { format!(" (bound by {bound})") } else { String::new() };
    format!(
        "{}{}, {}{}, {} Gbit/s to sockets, {} per hour",
        replicas(answer.replicas),
        bound(answer.replicas, answer.tightest_replica_bound()),
        servers(answer.nodes),
        bound(answer.nodes, answer.tightest_node_bound()),
        number(answer.egress / 1e9),
        number(answer.price)
    )
}

fn short(answer: &Prediction) -> String {
    format!(
        "With channels kept together: {}, {}, {} per hour",
        replicas(answer.replicas),
        servers(answer.nodes),
        number(answer.price)
    )
}

fn replicas(count: f64) -> String {
    match count {
        1.0 => "1 replica".into(),
        count if count < MOST => format!("{} replicas", whole(count)),
        _ => "no number of replicas is enough".into(),
    }
}

fn servers(count: f64) -> String {
    if count < MOST { format!("{} Redis", whole(count)) } else { "no number of Redis is enough".into() }
}

/// A count for a table.
fn count(value: f64) -> String {
    if value < MOST { whole(value) } else { "no number is enough".into() }
}

/// What each scenario needs, for each number of sockets.
pub(super) fn needs(study: &Study, model: &Model) -> String {
    let described: Vec<String> =
        study.scenarios.iter().map(|scenario| format!("- {}\n", described(scenario))).collect();
    let mut text = format!(
        "## What a deployment needs\n\n{}\n{}\n\nScattered means that the load balancer puts a socket on any replica. \
         By channel means that the load balancer hashes the channel's name: all readers of a channel are on one \
         replica, or on the fewest replicas that can hold them.\n\n",
        described.concat(),
        assumed(&study.assumptions)
    );
    for sockets in &study.sockets {
        text += &format!(
            "### {} sockets\n\n{}{}",
            whole(*sockets),
            sizes(study, model, *sockets),
            bounds(study, model, *sockets)
        );
    }
    text
}

fn sizes(study: &Study, model: &Model, sockets: f64) -> String {
    let mut table = Table::new(&[
        "",
        "events/s",
        "deliveries/s",
        "copies of an event",
        "gateway cores busy",
        "replicas",
        "Redis cores busy",
        "Redis",
        "Gbit/s to sockets",
        "Gbit/s from Redis",
        "memory, GiB",
        "TB per hour",
        "core-hours per hour",
        "price per hour",
    ]);
    for question in questions(study, model) {
        let answer = question.answer(sockets);
        table.row(&[
            format!("{}, {}", question.scenario.name, question.placement.name()),
            whole(answer.events),
            whole(answer.deliveries),
            number(answer.copies),
            number(answer.gateway_cores),
            count(answer.replicas),
            number(answer.redis_cores),
            count(answer.nodes),
            number(answer.egress / 1e9),
            number(answer.redis_egress / 1e9),
            number(answer.memory / GIB),
            number(answer.egress / 8.0 * HOUR / 1e12),
            whole(answer.paid_cores),
            number(answer.price),
        ]);
    }
    table.finish()
}

/// How many each bound needs; the largest number decides.
fn bounds(study: &Study, model: &Model, sockets: f64) -> String {
    let needed =
        |bound: &Bound| format!("{}: {}", bound.name, bound.needed.map_or("no number is enough".into(), whole));
    let listed = |bounds: &[Bound]| bounds.iter().map(needed).collect::<Vec<_>>().join(", ");
    let mut table =
        Table::new(&["needed for each bound", "replicas", "Redis", "share of one Redis that one channel takes"]);
    for question in questions(study, model) {
        let answer = question.answer(sockets);
        table.row(&[
            format!("{}, {}", question.scenario.name, question.placement.name()),
            listed(&answer.replica_bounds),
            listed(&answer.node_bounds),
            format!("{} %", number(100.0 * answer.channel_share)),
        ]);
    }
    table.finish()
}

/// How many sockets one of each can serve, and which bound breaks first.
pub(super) fn breaks(study: &Study, model: &Model) -> String {
    let mut table = Table::new(&[
        "",
        "one replica is enough up to",
        "one Redis is enough up to",
        "one channel fits a Redis up to",
        "what breaks, in this order",
    ]);
    for question in questions(study, model) {
        let (replica, node, channel) = (of_replica(&question), of_node(&question), of_channel(&question));
        table.row(&[
            format!("{}, {}", question.scenario.name, question.placement.name()),
            reach(replica),
            reach(node),
            reach(channel),
            order(replica, node, channel),
        ]);
    }
    format!(
        "## What breaks first\n\nThe table shows up to how many sockets one of each is enough. The model adds equal \
         replicas without limit. It spreads the channels over any number of Redis, but cannot split a channel.\n\n{}",
        table.finish()
    )
}

fn reach(at: Break) -> String {
    at.sockets.map_or("more than 1,000 million".into(), about)
}

/// The bounds in the order in which they break.
fn order(replica: Break, node: Break, channel: Break) -> String {
    let mut all: Vec<(f64, String)> = [("a replica's ", replica), ("a Redis' ", node), ("", channel)]
        .into_iter()
        .filter_map(|(owner, at)| Some((at.sockets?, format!("{owner}{}", at.bound))))
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all.into_iter().map(|(_, what)| what).collect::<Vec<_>>().join(", then ")
}

/// How the number of copies grows with the number of replicas.
pub(super) fn copies(study: &Study) -> String {
    const REPLICAS: [f64; 6] = [1.0, 4.0, 10.0, 40.0, 100.0, 400.0];
    let head: Vec<String> = REPLICAS.iter().map(|replicas| format!("R = {}", whole(*replicas))).collect();
    let mut table = Table::new(&[&["sockets a channel, f".to_owned()][..], &head].concat());
    let mut readers = vec![1.0, 4.0];
    readers.extend(study.scenarios.iter().filter_map(|scenario| scenario.per_channel));
    readers.push(1000.0);
    for readers in readers {
        let of = |replicas: &f64| number(copies::copies(Placement::Scattered, *replicas, readers, f64::INFINITY));
        let mut row = vec![plain(readers)];
        row.extend(REPLICAS.iter().map(of));
        table.row(&row);
    }
    format!(
        "### Copies of an event\n\nRedis sends an event to each replica that has a reader of its channel. With f \
         sockets per channel scattered over R replicas, these are R·(1 − (1 − 1/R)^f) copies. The number grows with \
         R up to f: more replicas mean more work for Redis and for all replicas together, for the same deliveries. A \
         test compares the formula with random placement.\n\n{}\
         To bring the number down to 1, let the load balancer hash the path, or whatever else names the channel, to a \
         replica.\n\n",
        table.finish()
    )
}

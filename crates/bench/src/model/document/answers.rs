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

/// What is asked of each scenario, one placement after the other.
fn questions<'a>(study: &'a Study, model: &'a Model) -> Vec<Question<'a>> {
    let of = |scenario| {
        Placement::ALL.map(|placement| Question { model, scenario, placement, assumptions: &study.assumptions })
    };
    study.scenarios.iter().flat_map(of).collect()
}

fn described(scenario: &Scenario) -> String {
    let readers = |readers| format!("{} sockets a channel", plain(readers));
    format!(
        "**{}**: {}, {} events/s each, of {} bytes",
        scenario.name,
        scenario.per_channel.map_or("all sockets on one channel".to_owned(), readers),
        plain(scenario.rate),
        plain(scenario.bytes)
    )
}

fn assumed(assumptions: &Assumptions) -> String {
    format!(
        "A replica has {} cores and {} GiB, a Redis computes on one of {} cores; both have {} Gbit/s. Cores and networks are used to \
         {:.0} % at most, a replica holds {} sockets at most, `ready.window` is {} s. A core costs {} an hour: an example.",
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

/// The short of it.
pub(super) fn summary(study: &Study, model: &Model) -> String {
    let mut text = "## In short\n\n".to_owned();
    for scenario in &study.scenarios {
        let ask = |placement| Question { model, scenario, placement, assumptions: &study.assumptions };
        for sockets in &study.sockets {
            let [scattered, together] = Placement::ALL.map(|placement| ask(placement).answer(*sockets));
            text += &format!(
                "- {} sockets {}: {}; {}.\n",
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
    let why = |count: f64, bound: &str| {
        if count > 1.0 { format!("{} for their {bound}", self::count(count)) } else { whole(count) }
    };
    format!(
        "replicas {}, Redis {}, {} Gbit/s to sockets, {} an hour",
        why(answer.replicas, answer.tightest_replica_bound()),
        why(answer.nodes, answer.tightest_node_bound()),
        number(answer.egress / 1e9),
        number(answer.price)
    )
}

/// How many, if any number is enough.
fn count(value: f64) -> String {
    if value < MOST { whole(value) } else { "no number is enough".into() }
}

fn short(answer: &Prediction) -> String {
    format!(
        "with channels kept together replicas {}, Redis {}, {} an hour",
        count(answer.replicas),
        count(answer.nodes),
        number(answer.price)
    )
}

/// What it takes.
pub(super) fn needs(study: &Study, model: &Model) -> String {
    let described: Vec<String> =
        study.scenarios.iter().map(|scenario| format!("- {}\n", described(scenario))).collect();
    let mut text = format!(
        "## What it takes\n\n{}\n{}\n\nScattered: the balancer puts a socket on any replica. By channel: it hashes the channel's \
         name, so that all its readers are on one replica, or on as few as hold them.\n\n",
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
        "TB an hour",
        "core-hours an hour",
        "price an hour",
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

/// How many each bound asks for: the largest decides.
fn bounds(study: &Study, model: &Model, sockets: f64) -> String {
    let needed =
        |bound: &Bound| format!("{}: {}", bound.name, bound.needed.map_or("no number is enough".into(), whole));
    let listed = |bounds: &[Bound]| bounds.iter().map(needed).collect::<Vec<_>>().join(", ");
    let mut table =
        Table::new(&["how many each bound asks for", "replicas", "Redis", "of a Redis' share, one channel takes"]);
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

/// What breaks first.
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
        "## What breaks first\n\nSockets up to which one of each is enough. Replicas are added without end, each like the others; \
         Redis is divided by channel, as far as there are channels; a channel cannot be divided.\n\n{}",
        table.finish()
    )
}

fn reach(at: Break) -> String {
    at.sockets.map_or("more than 1,000 million".into(), about)
}

/// What is full, the first one first.
fn order(replica: Break, node: Break, channel: Break) -> String {
    let mut all: Vec<(f64, String)> = [("a replica's ", replica), ("a Redis' ", node), ("", channel)]
        .into_iter()
        .filter_map(|(whose, at)| Some((at.sockets?, format!("{whose}{}", at.bound))))
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all.into_iter().map(|(_, what)| what).collect::<Vec<_>>().join(", then ")
}

/// How copies grow.
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
        "### Copies of an event\n\nRedis sends an event to each replica that has a reader of its channel. With f sockets a channel scattered over R \
         replicas these are R·(1 − (1 − 1/R)^f), which grows with R until it is f: more replicas are more work for Redis and for all \
         replicas together, for the same deliveries. A test compares the formula with random placement.\n\n{}\
         The remedy is in front of the gateways: a balancer that hashes the path, or whatever names the channel, to a replica, makes it 1.\n\n",
        table.finish()
    )
}

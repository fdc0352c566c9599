use super::figures::{number, percent, whole};
use crate::{
    model::{Model, Point, Study, law::LAWS},
    report::table::Table,
};

pub(super) fn head(study: &Study) -> String {
    let machine = &study.machine;
    let sockets = study.points.iter().map(Point::sockets);
    format!(
        "# Scaling past this machine\n\n\
         What a deployment needs that no machine here can hold: a model of what an event, a replica, a socket and a byte cost, fitted to \
         {} short runs with {} to {} sockets, and what it says of more. Every figure on this page is measured or computed by \
         `crewcast-bench scale` from [scaling.json](scaling.json); [below](#again) is how to ask it for your own numbers. Figures here are \
         of the way an event takes when it is live; what peers cost stands in [performance.md](performance.md).\n\n\
         Measured on: {}, {} cores, {:.0} GiB of memory, Linux {}; loopback. Redis {}, crewcast {}.\n\n",
        study.points.len(),
        whole(sockets.clone().min().unwrap_or(0) as f64),
        whole(sockets.max().unwrap_or(0) as f64),
        machine.cpu,
        machine.cores,
        machine.memory as f64 / (1u64 << 30) as f64,
        machine.kernel,
        study.redis,
        study.crewcast,
    )
}

/// The coefficients.
pub(super) fn laws(study: &Study, model: &Model) -> String {
    let mut table = Table::new(&[
        "cost of one",
        "gateway CPU, µs",
        "Redis CPU, µs",
        "Redis output, bytes",
        "bytes to sockets",
        "gateway memory, bytes",
        "kernel memory, bytes",
    ]);
    let mut terms: Vec<&str> = Vec::new();
    for term in LAWS.iter().flat_map(|law| law.terms) {
        if !terms.contains(term) {
            terms.push(term);
        }
    }
    for term in terms {
        let cell = |law: &&crate::model::law::Law| {
            let place = law.terms.iter().position(|other| *other == term);
            place.and_then(|place| model.coefficients(law).get(place)).map_or(String::new(), |value| number(*value))
        };
        let mut row = vec![term.to_owned()];
        row.extend(LAWS.iter().map(cell));
        table.row(&row);
    }
    let fitted = study.points.iter().filter(|point| !point.held_out).count();
    format!(
        "## The model\n\nEach cost is a sum of terms, fitted to {fitted} of the points by least squares of the relative error with coefficients \
         that are not negative. A zero says that the term cannot be told from the others, or costs nothing.\n\n{}\
         A copy is an event on its way from Redis to one replica; it is sent to each replica that has a reader of the channel. A delivery \
         is an event on one socket: at these rates a write of its own, with the receiving side of the loopback in it. Under more load \
         several events share a write and each costs less, so that the model is on the careful side. \
         Probes are what `/readyz` rests on: each replica sends itself five in a `ready.window` through each Redis. With many of both \
         they are the product of the two; the window was 1 s while this was measured, and can be longer.\n\n",
        table.finish()
    )
}

/// Predictions of points that the model has not seen.
pub(super) fn held_out(study: &Study, model: &Model) -> String {
    let held: Vec<&Point> = study.points.iter().filter(|point| point.held_out).collect();
    let mut errors = Table::new(&["", "held out: median", "held out: worst", "fitted: median"]);
    for law in LAWS {
        let error = model.error(law, &study.points);
        errors.row(&[law.name.into(), percent(error.median), percent(error.worst), percent(error.fitted)]);
    }
    let mut head = vec!["replicas, Redis, sockets, events/s × bytes".to_owned()];
    head.extend(LAWS.iter().map(|law| law.name.to_owned()));
    let mut table = Table::new(&head);
    for point in &held {
        let mut row = vec![format!(
            "{}, {}, {}, {:.0} × {}",
            point.replicas,
            point.nodes,
            whole(point.sockets() as f64),
            point.published as f64 / point.seconds,
            point.bytes
        )];
        row.extend(LAWS.iter().map(|law| format!("{:+.1} %", 100.0 * model.deviation(law, point))));
        table.row(&row);
    }
    format!(
        "## How well it predicts\n\n![Predicted against measured](plots/scaling.svg)\n\n{} of the {} points took no part in the fit: every fifth of \
         the grid, chosen before anything was measured. How far predictions are off from what was measured:\n\n{}\
         Each of the points that were held out, predicted over measured:\n\n{}",
        held.len(),
        study.points.len(),
        errors.finish(),
        table.finish()
    )
}

/// All that was measured.
pub(super) fn points(study: &Study) -> String {
    let mut table = Table::new(&[
        "",
        "replicas",
        "Redis",
        "channels",
        "sockets",
        "bytes",
        "events/s",
        "deliveries/s",
        "gateway CPU, %",
        "Redis CPU, %",
        "generator CPU, %",
        "gateway MiB",
        "p50 ms",
        "p99 ms",
    ]);
    for point in &study.points {
        let share = |seconds: &[f64]| format!("{:.1}", 100.0 * seconds.iter().sum::<f64>() / point.seconds);
        table.row(&[
            format!("{}{}", point.number, if point.held_out { " held out" } else { "" }),
            point.replicas.to_string(),
            point.nodes.to_string(),
            point.channels.to_string(),
            whole(point.sockets() as f64),
            point.bytes.to_string(),
            whole(point.published as f64 / point.seconds),
            whole(point.deliveries as f64 / point.seconds),
            share(&point.gateway_cpu),
            share(&point.redis_cpu),
            share(&[point.generator_cpu]),
            whole(point.gateway_resident.iter().sum::<u64>() as f64 / 1_048_576.0),
            format!("{:.2}", point.p50),
            format!("{:.2}", point.p99),
        ]);
    }
    format!(
        "## What was measured\n\nOpen loop: events go out on a schedule whatever comes back. 100 % is one core; all processes of a kind together. \
         Several Redis are a Cluster of masters with sharded pub/sub. A point counts only if all processes together used no more than one and a half of \
         the cores, and every event reached every socket once and in order.\n\n{}",
        table.finish()
    )
}

pub(super) fn limits(study: &Study) -> String {
    let most = study.points.iter().map(Point::sockets).max().unwrap_or(0);
    let nodes = study.points.iter().map(|point| point.nodes).max().unwrap_or(0);
    let replicas = study.points.iter().map(|point| point.replicas).max().unwrap_or(0);
    format!(
        "## What the model does not know\n\n\
         - It is a straight line beyond {} sockets, {replicas} replicas and {nodes} Redis. What grows faster than the number of \
         sockets at sizes that were not measured is not in it.\n\
         - Loopback: no network card, its interrupts, or TLS. Half of what a write costs here is the receiving side of the same machine.\n\
         - Live events. What a logged one costs Redis besides stands in [performance.md](performance.md#publishing).\n\
         - Handshakes, resumes and replicas that go away: [performance.md](performance.md#reconnect-storm) has a storm measured. That is why a replica is \
         bounded in sockets and not used beyond a share of its cores.\n\
         - Heartbeats, a message to each socket every 45 s: no window was long enough for them. Each is about a delivery.\n\
         - Compression, which costs CPU time once for all readers of a channel and saves network.\n\n",
        whole(most as f64)
    )
}

pub(super) fn again() -> String {
    "## Again\n\n```sh\n\
     crewcast-bench scale                                  # measures here (five minutes), and writes this page\n\
     crewcast-bench scale --from docs/scaling.json         # writes this page from the same points\n\
     crewcast-bench scale --from docs/scaling.json --sockets 1000000,10000000\n\
     crewcast-bench scale --from docs/scaling.json --sockets 3000000 --per-channel 8 --rate 2 --bytes 500 --cores 8 --price 0.05\n\
     ```\n\n\
     The points are kept in `target/bench/scale.jsonl` while they are measured; what is there is not measured again. `--help` names every \
     assumption. A test holds this page to its points.\n"
        .into()
}

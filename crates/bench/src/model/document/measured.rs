use super::figures::{number, percent, whole};
use crate::{
    model::{Model, Point, Study, law::LAWS},
    report::table::Table,
};

pub(super) fn head(study: &Study) -> String {
    let machine = &study.machine;
    let sockets = study.points.iter().map(Point::sockets);
    format!(
        "# Scaling beyond one machine\n\n\
         This page is for operators who plan a deployment that is larger than any test machine. It shows how many \
         replicas and Redis servers a deployment needs, and what breaks first. The answers come from a model of what \
         an event, a replica, a socket and a byte cost. The model is fitted to {} short runs with {} to {} sockets. \
         `crewcast-bench scale` measures or computes every figure on this page from [scaling.json](scaling.json); \
         see [Reproduce these numbers](#reproduce-these-numbers) to ask for your own. The model covers live events. \
         For other systems, see [performance.md](performance.md).\n\n\
         Measured on: {}, {} cores, {:.0} GiB of memory, Linux {}, over the loopback interface, with Redis {} and \
         crewcast {}.\n\n",
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
        "## The model\n\nEach cost is a sum of terms. The coefficients are fitted to {fitted} of the points by least \
         squares of the relative error, and are never negative. A zero means that the term costs nothing, or that \
         its cost cannot be told apart from the others.\n\n{}\
         - A **copy** is an event on its way from Redis to one replica. Redis sends a copy to each replica that has \
         a reader of the channel.\n\
         - A **delivery** is an event on one socket. At these rates each delivery is a write of its own, and its cost \
         includes the receiving side of the loopback. Under more load several events share a write and each costs \
         less, so the model errs on the safe side.\n\
         - A **probe** is what `/readyz` relies on. Each replica sends itself five in a `ready.window` through each \
         Redis, so probes grow with the product of replicas and Redis. The window was 1 s during these measurements, \
         and can be longer.\n\n",
        table.finish()
    )
}

/// How well the model predicts the points that were held out.
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
        "## How well the model predicts\n\n![Predicted against measured](plots/scaling.svg)\n\n{} of the {} points \
         were held out of the fit: every fifth point of the grid, chosen before anything was measured. The \
         predictions differ from the measurements by:\n\n{}\
         Deviation of the prediction from the measurement at each point that was held out:\n\n{}",
        held.len(),
        study.points.len(),
        errors.finish(),
        table.finish()
    )
}

/// Every point that was measured.
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
        "## What was measured\n\nEvents are published on a fixed schedule, whatever comes back (open loop). 100 % of \
         CPU is one core, and processes of one kind are added up. Several Redis form a Cluster of masters with \
         sharded pub/sub. A point counts only if all processes together used at most one and a half cores, and every \
         event reached every socket exactly once and in order.\n\n{}",
        table.finish()
    )
}

pub(super) fn limits(study: &Study) -> String {
    let most = study.points.iter().map(Point::sockets).max().unwrap_or(0);
    let nodes = study.points.iter().map(|point| point.nodes).max().unwrap_or(0);
    let replicas = study.points.iter().map(|point| point.replicas).max().unwrap_or(0);
    format!(
        "## What the model does not cover\n\n\
         - **Larger sizes**: beyond {} sockets, {replicas} replicas and {nodes} Redis the model is a straight line. \
         Costs that grow faster than the number of sockets at larger sizes are not in it.\n\
         - **Real networks**: the runs used the loopback interface, without a network card, its interrupts or TLS. \
         Half of the cost of a write is the receiving side on the same machine.\n\
         - **Logged events**: [performance.md](performance.md#publishing) shows what they cost Redis in addition.\n\
         - **Handshakes, resumes and replicas that stop**: [performance.md](performance.md#reconnect-storm) measures \
         a storm. To leave room for one, the model limits the sockets per replica and the share of its cores that is \
         used.\n\
         - **Heartbeats**: each socket receives a message every 45 s, and no window was long enough to measure it. A \
         heartbeat costs about as much as a delivery.\n\
         - **Compression**: costs CPU time once for all readers of a channel, and saves network traffic.\n\n",
        whole(most as f64)
    )
}

pub(super) fn reproduce() -> String {
    "## Reproduce these numbers\n\n```sh\n\
     # Measures on this machine (five minutes), and writes this page\n\
     crewcast-bench scale\n\
     # Writes this page from the same points\n\
     crewcast-bench scale --from docs/scaling.json\n\
     # Answers for numbers of your own\n\
     crewcast-bench scale --from docs/scaling.json --sockets 1000000,10000000\n\
     crewcast-bench scale --from docs/scaling.json --sockets 3000000 --per-channel 8 --rate 2 --bytes 500 --cores 8 \
     --price 0.05\n\
     ```\n\n\
     While it measures, `crewcast-bench scale` keeps finished points in `target/bench/scale.jsonl`, and does not \
     measure them again. `--help` lists every assumption. A test checks that this page matches its points.\n"
        .into()
}

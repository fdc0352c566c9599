use super::{
    Report, Section, distinct, median_of,
    plot::{Bar, Panel, bars},
    table::{Table, figure, thousands},
};
use crate::record::Record;

/// The server that the others are compared with.
const OURS: &str = "crewcast";

impl Report<'_> {
    pub(super) fn head(&self) -> String {
        let first = &self.records[0];
        let machine = &first.machine;
        let all: Vec<&Record> = self.records.iter().collect();
        let versions = distinct(&all, |record| &record.server).into_iter().map(|server| {
            let version = all.iter().find(|record| record.server == server).map(|record| &record.server_version);
            format!("{server} {}", version.map(String::as_str).unwrap_or_default())
        });
        format!(
            "# Performance\n\nThis page shows operators what Crewcast costs and how fast it is, compared with other \
             systems. `make bench` measures everything on your machine and writes this page. Do not compare figures from \
             different machines, or from one machine at different times. Servers were measured in turns, and each figure \
             is the median over the rounds.\n\n\
             Measured on: {}, {} cores, {:.0} GiB of memory, Linux {}, over the loopback interface, with Redis {}. \
             Servers: {}. `raw` is a single-threaded loop that writes what Redis sends to every socket, without tokens, \
             limits or history: it shows what the machine and its kernel can do.\n\n\
             The load generator is one thread. It checks every event at every socket for loss, duplicates and order.\n\n",
            machine.cpu,
            machine.cores,
            machine.memory as f64 / (1u64 << 30) as f64,
            machine.kernel,
            first.redis_version,
            versions.collect::<Vec<_>>().join(", "),
        )
    }

    pub(super) fn compare(&self) -> Option<Section> {
        let records = self.of("compare");
        let (servers, cases) = (distinct(&records, |record| &record.server), distinct(&records, |record| &record.case));
        let ours = |case: &str, figure: fn(&Record) -> f64| median_of(&records, OURS, case, figure);
        let (mut rates, mut costs) = (table_of("", &cases), table_of("", &cases));
        for server in &servers {
            let rate = |case: &&str| {
                let theirs = median_of(&records, server, case, rate);
                format!("{} ({}×)", thousands(theirs), figure(ours(case, rate) / theirs, 2))
            };
            let cost = |case: &&str| {
                let each = |part: fn(&Record) -> f64| figure(1e6 * median_of(&records, server, case, part), 2);
                format!("{} + {}", each(user_per_delivery), each(system_per_delivery))
            };
            rates.row(&row(server, cases.iter().map(rate)));
            costs.row(&row(server, cases.iter().map(cost)));
        }
        let panels: Vec<Panel> = cases
            .iter()
            .map(|case| panel(&records, &servers, (case, "thousand deliveries per CPU second"), rate, thousands))
            .collect();
        let text = format!(
            "## Deliveries per second of CPU time\n\n![Deliveries per CPU second](plots/deliveries.svg)\n\nEvents \
             have 200 bytes. Columns show channels × sockets, and how many events are in flight (closed loop). The \
             server is bound to one core, generator and Redis to another. Each cell shows thousands of deliveries \
             per second of CPU time of all the server's processes, and in brackets Crewcast's figure divided by the \
             server's.\n\n{}\
             CPU time per delivery in µs, user + system:\n\n{}",
            rates.finish(),
            costs.finish()
        );
        some_of(&records, text, Some(("deliveries.svg", bars(&panels))))
    }

    pub(super) fn latency(&self) -> Option<Section> {
        let records = self.of("latency");
        let (servers, cases) = (distinct(&records, |record| &record.server), distinct(&records, |record| &record.case));
        let mut text = "## Latency\n\n![Latency](plots/latency.svg)\n\nEvents are published on a fixed schedule, \
                        whatever comes back (open loop). Latency counts from the moment at which an event was due to \
                        be published until a socket had read it, in milliseconds. All processes share both cores.\n\n"
            .to_owned();
        let mut table = Table::new(&["", "p50", "p90", "p99", "p99.9", "max", "published late, p99"]);
        for (case, server) in cases.iter().flat_map(|case| servers.iter().map(move |server| (case, server))) {
            let at = |percentile: fn(&Record) -> f64| figure(median_of(&records, server, case, percentile), 2);
            let figures = [
                at(|record| record.outcome.latency.p50),
                at(|record| record.outcome.latency.p90),
                at(p99),
                at(|record| record.outcome.latency.p999),
                at(|record| record.outcome.latency.max),
                at(|record| record.outcome.schedule_late.p99),
            ];
            table.row(&row(&format!("{server}: {case}"), figures));
        }
        text += &table.finish();
        let panels: Vec<Panel> = cases
            .iter()
            .map(|case| panel(&records, &servers, (case, "p99, ms"), p99, |value| figure(value, 2)))
            .collect();
        some_of(&records, text, Some(("latency.svg", bars(&panels))))
    }

    pub(super) fn idle(&self) -> Option<Section> {
        let records = self.of("idle");
        let (servers, cases) = (distinct(&records, |record| &record.server), distinct(&records, |record| &record.case));
        let mut table = Table::new(&["", "bytes per socket", "handshakes per CPU second"]);
        for (case, server) in cases.iter().flat_map(|case| servers.iter().map(move |server| (case, server))) {
            let handshakes = |record: &Record| record.outcome.handshakes_per_server_cpu_second;
            let figures = [
                figure(median_of(&records, server, case, per_socket), 0),
                figure(median_of(&records, server, case, handshakes), 0),
            ];
            table.row(&row(&format!("{server}: {case}"), figures));
        }
        let panels: Vec<Panel> = cases
            .iter()
            .map(|case| panel(&records, &servers, (case, "bytes per socket"), per_socket, |value| figure(value, 0)))
            .collect();
        let text = format!(
            "## Memory per idle socket\n\n![Memory per idle socket](plots/memory.svg)\n\nResident memory that each \
             socket adds. The sockets are open, subscribed and receive nothing; those of `crewcast` are also \
             authenticated. The kernel keeps about 5 KB more per socket, which is not part of any process's resident \
             memory.\n\n{}",
            table.finish()
        );
        some_of(&records, text, Some(("memory.svg", bars(&panels))))
    }

    pub(super) fn slow(&self) -> Option<Section> {
        let records = self.of("slow");
        let mut table = Table::new(&["", "p50", "p99", "p99.9"]);
        for server in distinct(&records, |record| &record.server) {
            for case in distinct(&records, |record| &record.case) {
                let at = |percentile: fn(&Record) -> f64| figure(median_of(&records, server, case, percentile), 2);
                let figures =
                    [at(|record| record.outcome.latency.p50), at(p99), at(|record| record.outcome.latency.p999)];
                table.row(&row(&format!("{server}: {case}"), figures));
            }
        }
        let text = format!(
            "## Slow readers\n\n1000 sockets read one channel with 100 events of 2000 bytes per second. A slow \
             socket has a receive buffer of 4 KiB and reads 4 KiB ten times per second. Latency of the other sockets \
             in milliseconds:\n\n{}",
            table.finish()
        );
        some_of(&records, text, None)
    }

    pub(super) fn storm(&self) -> Option<Section> {
        let records = self.of("storm");
        let mut table = Table::new(&["", "all open, s", "all complete, s", "server CPU, s", "lost", "duplicated"]);
        for server in distinct(&records, |record| &record.server) {
            for case in distinct(&records, |record| &record.case) {
                let at = |value: fn(&Record) -> f64| median_of(&records, server, case, value);
                let figures = [
                    figure(at(|record| record.storm.unwrap_or_default().open_seconds), 2),
                    figure(at(|record| record.storm.unwrap_or_default().complete_seconds), 2),
                    figure(at(|record| record.outcome.server_cpu.total()), 2),
                    figure(at(|record| (record.outcome.lost + record.outcome.undelivered) as f64), 0),
                    figure(at(|record| record.outcome.doubled as f64), 0),
                ];
                table.row(&row(&format!("{server}: {case}"), figures));
            }
        }
        let text = format!(
            "## Reconnect storm\n\nEvery socket holds a position, and all are cut at once. Events are logged while \
             the sockets are away. Then all sockets reconnect, 512 handshakes at a time, and resume.\n\n{}",
            table.finish()
        );
        some_of(&records, text, None)
    }

    pub(super) fn deflate(&self) -> Option<Section> {
        let mut records = self.of("deflate");
        records.retain(|record| record.case == "plain" || record.outcome.deflated > 0);
        if distinct(&records, |record| &record.case).len() < 2 {
            return None;
        }
        let mut table = Table::new(&["", "bytes per delivery", "CPU µs per delivery"]);
        for server in distinct(&records, |record| &record.server) {
            for case in distinct(&records, |record| &record.case) {
                let bytes = |record: &Record| record.outcome.wire_bytes as f64 / record.outcome.deliveries as f64;
                let cpu = |record: &Record| user_per_delivery(record) + system_per_delivery(record);
                let figures = [
                    figure(median_of(&records, server, case, bytes), 0),
                    figure(1e6 * median_of(&records, server, case, cpu), 2),
                ];
                table.row(&row(&format!("{server}: {case}"), figures));
            }
        }
        let text = format!(
            "## Compression\n\npermessage-deflate as browsers offer it: 10 channels × 100 sockets, 400 typical \
             events of about 400 bytes per second, plain and compressed in turns. The generator's events differ only \
             in their numbers, which flatters the figure: events of the catalogs, with varied texts, shrink to 0.27 \
             to 0.33 of their bytes.\n\n{}",
            table.finish()
        );
        some_of(&records, text, None)
    }

    pub(super) fn publish(&self) -> Option<Section> {
        let records = self.of("publish");
        let mut table = Table::new(&["", "events/s", "Redis CPU µs per event", "publisher's share of a core"]);
        for case in distinct(&records, |record| &record.case) {
            let at = |value: fn(&Record) -> f64| median_of(&records, OURS, case, value);
            let figures = [
                figure(at(|record| record.outcome.published as f64 / record.outcome.seconds), 0),
                figure(at(|record| 1e6 * record.outcome.redis_cpu.total() / record.outcome.published as f64), 2),
                figure(at(|record| record.outcome.generator_share()), 2),
            ];
            table.row(&row(case, figures));
        }
        let text =
            format!("## Publishing\n\nOne publisher process publishes, and no socket listens.\n\n{}", table.finish());
        some_of(&records, text, None)
    }

    /// Runs with faults, and runs in which the generator was at its limit.
    pub(super) fn faults(&self) -> String {
        let mut lines = Vec::new();
        for record in self.records {
            let (outcome, of) =
                (&record.outcome, format!("{}, {}, round {}", record.server, record.case, record.round));
            if !outcome.is_clean() {
                let (lost, doubled) = (outcome.lost + outcome.undelivered, outcome.doubled);
                let total = outcome.deliveries;
                lines.push(format!(
                    "- {of}: {lost} lost, {doubled} duplicated, {} out of order, of {total}\n",
                    outcome.disordered
                ));
            }
            if outcome.deliveries > 0 && outcome.generator_share() > 0.9 {
                lines.push(format!(
                    "- {of}: the generator used {:.0} % of its core, the server {:.0} % of its own\n",
                    100.0 * outcome.generator_share(),
                    100.0 * outcome.server_share()
                ));
            }
            if outcome.stalls > 0 {
                lines.push(format!("- {of}: the closed loop stalled {} times\n", outcome.stalls));
            }
        }
        let found = if lines.is_empty() {
            "No event was lost, duplicated or out of order in any run, and the generator used at most 90 % of a core.\n"
                .to_owned()
        } else {
            lines.concat()
        };
        format!("## Faults and saturation\n\n{found}")
    }
}

fn some_of(records: &[&Record], text: String, plot: Option<(&'static str, String)>) -> Option<Section> {
    (!records.is_empty()).then_some(Section { text, plot })
}

fn table_of(first: &str, more: &[&str]) -> Table {
    let head: Vec<&str> = std::iter::once(first).chain(more.iter().copied()).collect();
    Table::new(&head)
}

fn row(first: &str, more: impl IntoIterator<Item = String>) -> Vec<String> {
    std::iter::once(first.to_owned()).chain(more).collect()
}

fn panel(
    records: &[&Record],
    servers: &[&str],
    (case, unit): (&str, &str),
    value: fn(&Record) -> f64,
    text: fn(f64) -> String,
) -> Panel {
    let bar = |server: &&str| {
        let value = median_of(records, server, case, value);
        Bar { label: (*server).to_owned(), value, figure: text(value) }
    };
    Panel { title: format!("{case}: {unit}"), bars: servers.iter().map(bar).collect() }
}

fn rate(record: &Record) -> f64 {
    record.outcome.deliveries_per_server_cpu_second
}

fn p99(record: &Record) -> f64 {
    record.outcome.latency.p99
}

fn per_socket(record: &Record) -> f64 {
    record.outcome.rss_per_socket
}

fn user_per_delivery(record: &Record) -> f64 {
    record.outcome.server_cpu.user / record.outcome.deliveries as f64
}

fn system_per_delivery(record: &Record) -> f64 {
    record.outcome.server_cpu.system / record.outcome.deliveries as f64
}

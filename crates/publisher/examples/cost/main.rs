//! The cost of publishing: CPU of Redis per event at one rate, for plain events, single logged events and batches. Also
//! how many logged events per second one publisher gets into one Redis.
//!
//! `cargo run --release -p crewcast-publisher --example cost -- --help`

mod load;

use std::{collections::BTreeMap, error::Error, time::Duration};

use crewcast_test_servers::{Program, RedisServer};
use load::{Kind, Load, median};

const HELP: &str = "cost [listeners] [top] [--only Single|Batched] [--seconds 3] [--rounds 5] [--rate 20000] [--batch 64] [--channels 64] [--bytes 200] [--server redis|redis6|valkey]
  (nothing)  plain PUBLISH, logged singly and logged in batches, interleaved
  listeners  the same with 0, 1, 2, 4 and 8 connections that listen
  top        the most logged events a second of one publisher";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is = |word: &str| arguments.iter().any(|argument| argument == word);
    let option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)
    };
    if is("--help") {
        println!("{HELP}");
        return Ok(());
    }
    let number = |name: &str, default: u64| option(name).map_or(Ok(default), |value| value.parse());
    let rounds = number("--rounds", 5)? as usize;
    let load = Load {
        rate: number("--rate", 20_000)? as u32,
        window: Duration::from_secs(number("--seconds", 3)?),
        channels: number("--channels", 64)? as usize,
        batch: number("--batch", 64)? as usize,
        bytes: number("--bytes", 200)? as usize,
        listeners: 1,
    };
    let server = match option("--server").map(String::as_str) {
        None | Some("redis") => RedisServer::start(),
        Some("redis6") => RedisServer::start_program(Program::Redis62, &[]).ok_or("no Redis 6.2 here")?,
        Some(_) => RedisServer::start_program(Program::Valkey, &[]).ok_or("no Valkey here")?,
    };
    if is("top") {
        for channels in [1, 8, 64, 1000] {
            let mut rates = Vec::new();
            let mut redis = Vec::new();
            let mut own = Vec::new();
            for _ in 0..rounds {
                let top = load::top(&server.url(), &Load { channels, ..load }).await?;
                rates.push(top.rate);
                redis.push(top.redis_micros);
                own.push(top.publisher_micros);
            }
            println!(
                "{channels:5} channels: {:7.0} logged events/s, {:.2} µs of Redis and {:.2} µs of the process each",
                median(rates),
                median(redis),
                median(own)
            );
        }
        return Ok(());
    }
    let only = option("--only");
    let listeners: &[usize] = if is("listeners") { &[0, 1, 2, 4, 8] } else { &[1] };
    let mut figures: BTreeMap<(usize, Kind), Vec<f64>> = BTreeMap::new();
    let mut ratios: BTreeMap<(usize, Kind), Vec<f64>> = BTreeMap::new();
    for _ in 0..rounds {
        for &listeners in listeners {
            let mut plain = 0.0;
            for kind in Kind::ALL
                .into_iter()
                .filter(|kind| *kind == Kind::Plain || only.is_none_or(|only| *only == format!("{kind:?}")))
            {
                let cost = load::cost(&server.url(), &Load { listeners, ..load }, kind).await?;
                if kind == Kind::Plain {
                    plain = cost.redis_micros;
                }
                figures.entry((listeners, kind)).or_default().push(cost.redis_micros);
                ratios.entry((listeners, kind)).or_default().push(cost.redis_micros / plain);
                eprintln!("{listeners} listening, {kind:?}: {cost:.2?}");
            }
        }
    }
    for ((listeners, kind), micros) in figures {
        let ratio = median(ratios.remove(&(listeners, kind)).unwrap_or_default());
        println!(
            "{listeners} listening, {:7}: {:6.2} µs of Redis per event, {ratio:5.2} × plain",
            format!("{kind:?}"),
            median(micros)
        );
    }
    Ok(())
}

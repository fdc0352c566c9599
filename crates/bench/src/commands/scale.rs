use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::Options;
use crate::{
    measure::machine::Machine,
    model::{
        Assumptions, Scenario, Study, document,
        study::{Line, lines},
    },
    scale::{Case, Measured, grid, measure},
};

/// What is measured, or asked.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    options: Options,
    /// Measure nothing: take these points, docs/scaling.json or what was measured before
    #[arg(long)]
    from: Option<PathBuf>,
    /// Where the document goes
    #[arg(long, default_value = "docs")]
    docs: PathBuf,
    /// Stop measuring after so many seconds; the next time goes on from there
    #[arg(long)]
    time: Option<u64>,
    /// Print what so many sockets need, with commas between, and write no document
    #[arg(long, value_delimiter = ',', requires = "from")]
    sockets: Vec<f64>,
    /// Of a scenario of your own: sockets of a channel
    #[arg(long, requires = "sockets")]
    per_channel: Option<f64>,
    /// Of a scenario of your own: events of a channel in a second
    #[arg(long, requires = "sockets")]
    rate: Option<f64>,
    /// Of a scenario of your own: bytes of an event
    #[arg(long, requires = "sockets")]
    bytes: Option<f64>,
    #[command(flatten)]
    assumptions: Assumptions,
}

impl Args {
    fn scenario(&self) -> Option<Scenario> {
        (self.per_channel.is_some() || self.rate.is_some() || self.bytes.is_some()).then(|| Scenario {
            name: "yours".into(),
            per_channel: self.per_channel,
            rate: self.rate.unwrap_or(1.0),
            bytes: self.bytes.unwrap_or(300.0),
        })
    }
}

/// Measures what is not measured yet, fits the model, and writes the document; or answers from points that are there.
pub(super) fn execute(args: &Args) -> Result<bool> {
    let mut study = match &args.from {
        Some(path) => Study::read(path)?,
        None => {
            let file = args.options.out.join("scale.jsonl");
            if !measure_missing(args, &file)? {
                println!("go on with the same command");
                return Ok(true);
            }
            Study::read(&file)?
        }
    };
    if args.assumptions != Assumptions::default() {
        study.assumptions = args.assumptions.clone();
    }
    if args.sockets.is_empty() {
        document::write(&study, &args.docs)?;
        println!("wrote {}", args.docs.join("scaling.md").display());
    } else {
        study.sockets.clone_from(&args.sockets);
        if let Some(scenario) = args.scenario() {
            study.scenarios = vec![scenario];
        }
        print!("{}", document::predictions(&study));
    }
    Ok(true)
}

/// Answers whether all are there.
fn measure_missing(args: &Args, file: &Path) -> Result<bool> {
    fs::create_dir_all(&args.options.out)?;
    let there = if file.exists() { lines(&fs::read_to_string(file)?)? } else { Vec::new() };
    let is_there = |case: &Case| there.iter().any(|line| line.point.number == case.number);
    let began = Instant::now();
    let mut cases = grid();
    if args.options.quick {
        cases.truncate(2);
    }
    for case in cases.iter().filter(|case| !is_there(case)) {
        if args.time.is_some_and(|seconds| began.elapsed() > Duration::from_secs(seconds)) {
            return Ok(false);
        }
        match measure_one(args, case) {
            Ok(line) => keep(file, &line)?,
            Err(error) => println!("{:>3} left out: {error:#}", case.number),
        }
    }
    Ok(true)
}

fn measure_one(args: &Args, case: &Case) -> Result<Line> {
    let Measured { point, crewcast, redis } = measure(args.options.crewcast()?, case)?;
    let per = |seconds: &[f64]| 100.0 * seconds.iter().sum::<f64>() / point.seconds;
    println!(
        "{:>3} {} replicas, {} Redis, {:>6} sockets, {:>6.0} events/s, {:>7.0} deliveries/s: gateway {:>3.0}% redis {:>3.0}% \
         generator {:>3.0}% p50 {:.2} p99 {:.2} ms",
        point.number,
        point.replicas,
        point.nodes,
        point.sockets(),
        point.published as f64 / point.seconds,
        point.deliveries as f64 / point.seconds,
        per(&point.gateway_cpu),
        per(&point.redis_cpu),
        per(&[point.generator_cpu]),
        point.p50,
        point.p99,
    );
    Ok(Line { machine: Machine::this(), crewcast, redis, point })
}

fn keep(path: &Path, line: &Line) -> Result<()> {
    let mut file = File::options().create(true).append(true).open(path)?;
    writeln!(file, "{}", serde_json::to_string(line)?).with_context(|| format!("cannot write {}", path.display()))
}

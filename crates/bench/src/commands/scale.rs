use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{
    measure::machine::Machine,
    model::{
        Assumptions, Scenario, Study, document,
        study::{Line, lines},
    },
    options::Options,
    scale::{Case, Measured, grid, measure},
};

/// What to measure, or what to ask the model.
#[derive(Debug, clap::Args)]
pub(super) struct ScaleArgs {
    #[command(flatten)]
    options: Options,
    /// Measure nothing: read the points of docs/scaling.json, or of an earlier run
    #[arg(long)]
    from: Option<PathBuf>,
    /// Folder for the document
    #[arg(long, default_value = "docs")]
    docs: PathBuf,
    /// Stop measuring after this many seconds; the next run continues from there
    #[arg(long)]
    time: Option<u64>,
    /// Print what these numbers of sockets need, separated by commas, and write no document
    #[arg(long, value_delimiter = ',', requires = "from")]
    sockets: Vec<f64>,
    /// Your own scenario: sockets per channel
    #[arg(long, requires = "sockets")]
    per_channel: Option<f64>,
    /// Your own scenario: events per second per channel
    #[arg(long, requires = "sockets")]
    rate: Option<f64>,
    /// Your own scenario: bytes per event
    #[arg(long, requires = "sockets")]
    bytes: Option<f64>,
    #[command(flatten)]
    assumptions: Assumptions,
}

impl ScaleArgs {
    fn scenario(&self) -> Option<Scenario> {
        (self.per_channel.is_some() || self.rate.is_some() || self.bytes.is_some()).then(|| Scenario {
            name: "yours".into(),
            per_channel: self.per_channel,
            rate: self.rate.unwrap_or(1.0),
            bytes: self.bytes.unwrap_or(300.0),
        })
    }
}

/// Measures missing points, fits the model, and writes the document; or answers from existing points.
pub(super) fn execute(args: &ScaleArgs) -> Result<bool> {
    let mut study = match &args.from {
        Some(path) => Study::read(path)?,
        None => {
            let file = args.options.out.join("scale.jsonl");
            if !measure_missing(args, &file)? {
                println!("not all points are measured yet: run the same command again to continue");
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

/// Measures the points that the file lacks. Returns whether time sufficed for all.
fn measure_missing(args: &ScaleArgs, file: &Path) -> Result<bool> {
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
            Err(error) => println!("{:>3} skipped: {error:#}", case.number),
        }
    }
    Ok(true)
}

fn measure_one(args: &ScaleArgs, case: &Case) -> Result<Line> {
    let Measured { point, crewcast, redis } = measure(args.options.crewcast()?, case)?;
    let per = |seconds: &[f64]| 100.0 * seconds.iter().sum::<f64>() / point.seconds;
    println!(
        "{:>3} {} replicas, {} Redis, {:>6} sockets, {:>6.0} events/s, {:>7.0} deliveries/s: gateway {:>3.0}% \
         redis {:>3.0}% generator {:>3.0}% p50 {:.2} p99 {:.2} ms",
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

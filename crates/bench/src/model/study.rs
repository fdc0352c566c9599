use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Assumptions, Model, Point, Scenario, law::LAWS, point::rounded};
use crate::measure::machine::Machine;

/// The data of the document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Study {
    /// The machine of the measurements.
    pub machine: Machine,
    /// The version of Crewcast.
    pub crewcast: String,
    /// The version of Redis.
    pub redis: String,
    /// Assumptions about the machines of a deployment.
    pub assumptions: Assumptions,
    /// The scenarios to predict.
    pub scenarios: Vec<Scenario>,
    /// The numbers of sockets to predict.
    pub sockets: Vec<f64>,
    /// The coefficients, for readers only: they are fitted again from the points for every question.
    #[serde(default)]
    pub coefficients: Value,
    /// The measured points.
    pub points: Vec<Point>,
}

/// One measured point and its machine: a line of the file that `scale` writes while it measures.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    /// The machine of the measurement.
    pub machine: Machine,
    /// The version of Crewcast.
    pub crewcast: String,
    /// The version of Redis.
    pub redis: String,
    /// The point.
    pub point: Point,
}

impl Study {
    /// A study of these lines with the usual scenarios.
    ///
    /// # Errors
    /// If there are no lines.
    pub fn of(lines: Vec<Line>) -> Result<Self> {
        let last = lines.last().context("no point was measured yet: run `crewcast-bench scale`")?.clone();
        let mut points: Vec<Point> = lines.into_iter().map(|line| line.point.rounded()).collect();
        points.sort_by_key(|point| point.number);
        let model = Model::of(&points);
        Ok(Self {
            machine: last.machine,
            crewcast: last.crewcast,
            redis: last.redis,
            assumptions: Assumptions::default(),
            scenarios: Scenario::usual(),
            sockets: vec![1e6, 1e7],
            coefficients: coefficients(&model),
            points,
        })
    }

    /// Reads a study from `docs/scaling.json`, or from the lines that `scale` writes.
    ///
    /// # Errors
    /// If the file cannot be read, or is neither.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let study = match serde_json::from_str::<Self>(&text) {
            Ok(study) => study,
            Err(_) => Self::of(lines(&text).with_context(|| format!("in {}", path.display()))?)?,
        };
        ensure!(study.points.iter().any(|point| !point.held_out), "{} has no points to fit", path.display());
        Ok(study)
    }

    /// The study as JSON with one point per line.
    ///
    /// # Errors
    /// If serialization fails.
    pub fn to_json(&self) -> Result<String> {
        let head = serde_json::to_string_pretty(&Self { points: Vec::new(), ..self.clone() })?;
        let points: Vec<String> = self.points.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
        let points = points.join(",\n    ");
        Ok(head.replacen("\"points\": []", &format!("\"points\": [\n    {points}\n  ]"), 1) + "\n")
    }
}

/// Parses the lines of a file that `scale` wrote.
///
/// # Errors
/// If a line is invalid.
pub fn lines(text: &str) -> Result<Vec<Line>> {
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

fn coefficients(model: &Model) -> Value {
    let mut laws = Map::new();
    for law in LAWS {
        let terms = law.terms.iter().zip(model.coefficients(law));
        let terms: Map<String, Value> =
            terms.map(|(term, value)| ((*term).to_owned(), json!(rounded(*value)))).collect();
        laws.insert(format!("{}, {}", law.name, law.unit), terms.into());
    }
    laws.into()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/scaling.json");

    /// The committed study and its model.
    pub(crate) fn study() -> (Study, Model) {
        let study = Study::read(Path::new(COMMITTED)).unwrap();
        let model = Model::of(&study.points);
        (study, model)
    }

    #[test]
    fn the_committed_coefficients_match_the_committed_points() {
        let (study, model) = study();
        for law in LAWS {
            let written = &study.coefficients[format!("{}, {}", law.name, law.unit)];
            for (term, value) in law.terms.iter().zip(model.coefficients(law)) {
                let written = written[term].as_f64().unwrap();
                assert!((written - value).abs() <= 1e-6, "{} {term}: {written}, {value}", law.name);
            }
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let (study, _) = study();
        let written = study.to_json().unwrap();
        assert_eq!(std::fs::read_to_string(COMMITTED).unwrap(), written);
    }
}

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Assumptions, Model, Point, Scenario, law::LAWS, point::rounded};
use crate::measure::machine::Machine;

/// All that the document is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Study {
    /// Where it was measured.
    pub machine: Machine,
    /// What was measured.
    pub crewcast: String,
    /// Redis' version.
    pub redis: String,
    /// What machines of a deployment are like.
    pub assumptions: Assumptions,
    /// What is predicted.
    pub scenarios: Vec<Scenario>,
    /// For how many sockets.
    pub sockets: Vec<f64>,
    /// The coefficients, to be read; they are fitted anew from the points whenever something is asked.
    #[serde(default)]
    pub coefficients: Value,
    /// What was measured.
    pub points: Vec<Point>,
}

/// One measured point with where it was measured: a line of the file that `scale` writes while it measures.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    /// Where.
    pub machine: Machine,
    /// What.
    pub crewcast: String,
    /// Redis' version.
    pub redis: String,
    /// The point.
    pub point: Point,
}

impl Study {
    /// Of these lines, with the usual scenarios.
    ///
    /// # Errors
    /// When there are none.
    pub fn of(lines: Vec<Line>) -> Result<Self> {
        let last = lines.last().context("nothing was measured yet")?.clone();
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

    /// From a file: the study as it stands in `docs/scaling.json`, or the lines that were measured.
    ///
    /// # Errors
    /// When it cannot be read, or is neither.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let study = match serde_json::from_str::<Self>(&text) {
            Ok(study) => study,
            Err(_) => Self::of(lines(&text).with_context(|| format!("in {}", path.display()))?)?,
        };
        ensure!(study.points.iter().any(|point| !point.held_out), "{} has no points to fit", path.display());
        Ok(study)
    }

    /// The study as it is kept: a point to a line.
    ///
    /// # Errors
    /// Never, as far as is known.
    pub fn to_json(&self) -> Result<String> {
        let head = serde_json::to_string_pretty(&Self { points: Vec::new(), ..self.clone() })?;
        let points: Vec<String> = self.points.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
        let points = points.join(",\n    ");
        Ok(head.replacen("\"points\": []", &format!("\"points\": [\n    {points}\n  ]"), 1) + "\n")
    }
}

/// The lines of a file that `scale` wrote.
///
/// # Errors
/// When a line is something else.
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

    /// The one that is committed, with its model.
    pub(crate) fn study() -> (Study, Model) {
        let study = Study::read(Path::new(COMMITTED)).unwrap();
        let model = Model::of(&study.points);
        (study, model)
    }

    #[test]
    fn the_committed_coefficients_are_those_of_the_committed_points() {
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

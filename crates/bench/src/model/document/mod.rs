//! `docs/scaling.md`. Every figure on the page is computed from the study.

mod answers;
mod figures;
mod measured;
mod scatter;

use std::{fs, path::Path};

use anyhow::{Context, Result};

use super::{Model, Study};

/// Writes `scaling.md`, `scaling.json` and the plot.
///
/// # Errors
/// If a file cannot be written.
pub fn write(study: &Study, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder.join("plots"))?;
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    let model = Model::of(&study.points);
    write("scaling.md", text(study))?;
    write("scaling.json", study.to_json()?)?;
    write("plots/scaling.svg", scatter::draw(study, &model))
}

/// The text of `docs/scaling.md`.
pub fn text(study: &Study) -> String {
    let model = Model::of(&study.points);
    [
        measured::head(study),
        answers::summary(study, &model),
        answers::needs(study, &model),
        answers::breaks(study, &model),
        answers::copies(study),
        measured::laws(study, &model),
        measured::held_out(study, &model),
        measured::points(study),
        measured::limits(study),
        measured::reproduce(),
    ]
    .concat()
}

/// What the study's scenarios need, and what breaks first.
pub fn predictions(study: &Study) -> String {
    let model = Model::of(&study.points);
    answers::needs(study, &model) + &answers::breaks(study, &model)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::study::tests::study;

    const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");

    #[test]
    fn the_committed_document_matches_the_committed_points() {
        let (study, model) = study();
        let committed = |name: &str| fs::read_to_string(Path::new(DOCS).join(name)).unwrap();
        assert!(
            committed("scaling.md") == text(&study),
            "docs/scaling.md is out of date: run `crewcast-bench scale --from docs/scaling.json`"
        );
        assert!(committed("plots/scaling.svg") == scatter::draw(&study, &model));
    }

    #[test]
    fn a_changed_point_changes_the_document() {
        let (mut study, _) = study();
        let before = text(&study);
        study.points.iter_mut().for_each(|point| point.gateway_cpu.iter_mut().for_each(|cpu| *cpu *= 2.0));
        assert_ne!(before, text(&study));
    }
}

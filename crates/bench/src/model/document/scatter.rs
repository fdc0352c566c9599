//! The plot of predictions against measurements, both on logarithmic scales.

use crate::{
    model::{
        Model, Study,
        law::{GATEWAY_CPU, Law, REDIS_CPU, RESIDENT},
    },
    svg::{INK, picture},
};

const SIZE: f64 = 240.0;
const GAP: f64 = 20.0;
const HEAD: f64 = 34.0;
const FITTED: &str = "#94a3b8";
const HELD_OUT: &str = "#dc2626";

/// One square for each law that matters most to predictions.
pub(super) fn draw(study: &Study, model: &Model) -> String {
    let laws = [&GATEWAY_CPU, &REDIS_CPU, &RESIDENT];
    let (width, height) = (laws.len() as f64 * (SIZE + GAP) + GAP, SIZE + HEAD + 2.0 * GAP);
    let mut out = String::new();
    for (n, law) in laws.into_iter().enumerate() {
        square(&mut out, study, model, law, GAP + n as f64 * (SIZE + GAP));
    }
    let caption = "x: measured, y: predicted, both logarithmic; red: held out, grey: fitted";
    out += &format!("<text x=\"{GAP}\" y=\"{:.0}\" fill=\"{INK}\">{caption}</text>\n", HEAD + SIZE + 22.0);
    picture(width, height, &out)
}

fn square(out: &mut String, study: &Study, model: &Model, law: &Law, left: f64) {
    let pairs: Vec<(f64, f64, bool)> = study
        .points
        .iter()
        .map(|point| ((law.measured)(point), model.cost(law, &point.quantities()), point.held_out))
        .filter(|(measured, predicted, _)| *measured > 0.0 && *predicted > 0.0)
        .map(|(measured, predicted, held_out)| (measured.log10(), predicted.log10(), held_out))
        .collect();
    let all = || pairs.iter().flat_map(|(measured, predicted, _)| [*measured, *predicted]);
    let (low, high) = (all().fold(f64::INFINITY, f64::min) - 0.1, all().fold(f64::NEG_INFINITY, f64::max) + 0.1);
    let at = |value: f64| SIZE * (value - low) / (high - low);
    *out += &format!(
        "<text x=\"{left:.1}\" y=\"22\" fill=\"{INK}\" font-weight=\"600\">{}, {}</text>\n\
         <rect x=\"{left:.1}\" y=\"{HEAD}\" width=\"{SIZE}\" height=\"{SIZE}\" fill=\"none\" stroke=\"{FITTED}\"/>\n\
         <line x1=\"{left:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{HEAD}\" stroke=\"{FITTED}\"/>\n",
        law.name,
        law.unit,
        HEAD + SIZE,
        left + SIZE
    );
    for (measured, predicted, held_out) in pairs {
        let (colour, radius) = if held_out { (HELD_OUT, 3.5) } else { (FITTED, 3.0) };
        *out += &format!(
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius}\" fill=\"{colour}\"/>\n",
            left + at(measured),
            HEAD + SIZE - at(predicted)
        );
    }
}

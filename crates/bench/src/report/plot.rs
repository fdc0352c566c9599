//! Bar charts as SVG.

use crate::svg::{INK, picture};

const WIDTH: f64 = 760.0;
const LABEL: f64 = 130.0;
const FIGURE: f64 = 90.0;
const ROW: f64 = 20.0;
const HEAD: f64 = 34.0;
const OURS: &str = "#2563eb";
const OTHERS: &str = "#94a3b8";

/// One chart of a plot, with a scale of its own.
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) bars: Vec<Bar>,
}

/// A bar, with the texts at both of its ends.
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) value: f64,
    pub(super) figure: String,
}

/// Draws the panels below each other. Bars whose label begins with `crewcast` have a colour of their own.
pub(super) fn bars(panels: &[Panel]) -> String {
    let height: f64 = panels.iter().map(|panel| HEAD + ROW * panel.bars.len() as f64 + 8.0).sum();
    let mut out = String::new();
    let mut top = 0.0;
    for panel in panels {
        draw(&mut out, panel, top);
        top += HEAD + ROW * panel.bars.len() as f64 + 8.0;
    }
    picture(WIDTH, height, &out)
}

fn draw(out: &mut String, panel: &Panel, top: f64) {
    let largest = panel.bars.iter().map(|bar| bar.value).filter(|value| value.is_finite()).fold(0.0, f64::max);
    let text = |x: f64, y: f64, more: &str, text: &str| {
        format!("<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{INK}\"{more}>{}</text>\n", escaped(text))
    };
    *out += &text(8.0, top + 22.0, " font-weight=\"600\"", &panel.title);
    for (n, bar) in panel.bars.iter().enumerate() {
        let y = top + HEAD + ROW * n as f64;
        let share = if largest > 0.0 && bar.value.is_finite() { bar.value / largest } else { 0.0 };
        let length = (WIDTH - LABEL - FIGURE) * share;
        let colour = if bar.label.starts_with("crewcast") { OURS } else { OTHERS };
        *out += &text(LABEL - 8.0, y + 12.0, " text-anchor=\"end\"", &bar.label);
        *out += &format!(
            "<rect x=\"{LABEL}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{:.1}\" rx=\"2\" fill=\"{colour}\"/>\n",
            ROW - 5.0
        );
        *out += &text(LABEL + length + 6.0, y + 12.0, "", &bar.figure);
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_that_is_missing_is_no_bar() {
        let bar = |label: &str, value| Bar { label: label.into(), value, figure: "<1>".into() };
        let panel = Panel { title: "a & b".into(), bars: vec![bar("crewcast", 2.0), bar("other", f64::NAN)] };
        let svg = bars(&[panel]);
        assert!(svg.contains("a &amp; b") && svg.contains("&lt;1&gt;") && svg.contains(OURS));
        assert!(!svg.contains("NaN"));
    }
}

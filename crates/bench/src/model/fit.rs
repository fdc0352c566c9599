//! The coefficients, and how well they predict the points that were held out.

use std::collections::BTreeMap;

use super::{
    Point, Quantities,
    law::{LAWS, Law},
    regression,
};
use crate::record::median;

/// The coefficients of all laws.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Model {
    coefficients: BTreeMap<&'static str, Vec<f64>>,
}

/// By how much predictions deviate, as a share of the measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PredictionError {
    /// The median over the points that were held out.
    pub median: f64,
    /// The largest over the points that were held out.
    pub worst: f64,
    /// The median over the points of the fit.
    pub fitted: f64,
}

impl Model {
    /// The model fitted to the points that are not held out.
    pub fn of(points: &[Point]) -> Self {
        let fitted: Vec<&Point> = points.iter().filter(|point| !point.held_out).collect();
        let coefficients = |law: &Law| {
            let row = |point: &&Point| ((law.features)(&point.quantities()), (law.measured)(point));
            regression::fit(&fitted.iter().map(row).collect::<Vec<_>>())
        };
        Self { coefficients: LAWS.iter().map(|law| (law.name, coefficients(law))).collect() }
    }

    /// The law's coefficients, in the order of its terms.
    pub fn coefficients(&self, law: &Law) -> &[f64] {
        self.coefficients.get(law.name).map_or(&[], Vec::as_slice)
    }

    /// What these quantities cost by this law.
    pub fn cost(&self, law: &Law, quantities: &Quantities) -> f64 {
        let features = (law.features)(quantities);
        features.iter().zip(self.coefficients(law)).map(|(feature, coefficient)| feature * coefficient).sum()
    }

    /// The prediction divided by the measurement, minus 1.
    pub fn deviation(&self, law: &Law, point: &Point) -> f64 {
        self.cost(law, &point.quantities()) / (law.measured)(point) - 1.0
    }

    /// How well the law predicts.
    pub fn error(&self, law: &Law, points: &[Point]) -> PredictionError {
        let off = |held_out: bool| {
            let chosen = points.iter().filter(move |point| point.held_out == held_out);
            chosen.map(|point| self.deviation(law, point).abs()).filter(|value| value.is_finite())
        };
        PredictionError { median: median(off(true)), worst: off(true).fold(0.0, f64::max), fitted: median(off(false)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::law::{GATEWAY_CPU, WIRE};

    /// Points of a gateway that takes 20 µs per event, 7 per delivery and 0.001 per byte.
    fn points() -> Vec<Point> {
        let mut points = Vec::new();
        for (number, (replicas, per_channel, bytes)) in
            [(1, 10, 200), (2, 1, 200), (4, 100, 1000), (1, 1, 1000), (2, 50, 500), (4, 4, 200), (1, 100, 300)]
                .into_iter()
                .enumerate()
        {
            let copies = per_channel.min(replicas);
            let (published, deliveries) = (1000, 1000 * per_channel as u64);
            let cpu = 1000.0 * 20.0 * copies as f64 + deliveries as f64 * (7.0 + 0.001 * bytes as f64);
            points.push(Point {
                number,
                held_out: number == 4,
                replicas,
                nodes: 1,
                channels: 10,
                per_channel,
                copies,
                bytes,
                seconds: 3.0,
                published,
                deliveries,
                wire_bytes: deliveries * (bytes as u64 + 4),
                gateway_cpu: vec![cpu / 1e6],
                ..Point::default()
            });
        }
        points
    }

    #[test]
    fn coefficients_of_the_law_are_found_and_predict_the_point_held_out() {
        let points = points();
        let model = Model::of(&points);
        for (found, known) in model.coefficients(&GATEWAY_CPU).iter().zip([0.0, 20.0, 7.0, 0.001, 0.0]) {
            assert!((found - known).abs() < 1e-3 * known + 1e-6, "{found} for {known}");
        }
        assert!(model.error(&GATEWAY_CPU, &points).worst < 1e-4);
        assert!((model.coefficients(&WIRE)[0] - 4.0).abs() < 1e-3);
    }
}

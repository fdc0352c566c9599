//! Least squares with coefficients that are not negative, because costs are not.

/// The most sweeps over all coefficients. With few rows and columns they take no time.
const SWEEPS: usize = 200_000;
/// The fit is done when no coefficient moves by more than this share in a sweep.
const STILL: f64 = 1e-13;

/// The coefficients that fit `rows` (features, and their sum) with the least relative error. Small points weigh as much
/// as large ones.
///
/// Uses coordinate descent on the normal equations. The problem is convex, so the result is the global minimum.
pub fn fit(rows: &[(Vec<f64>, f64)]) -> Vec<f64> {
    let Some(columns) = rows.first().map(|(features, _)| features.len()) else { return Vec::new() };
    let relative: Vec<Vec<f64>> = rows
        .iter()
        .filter(|(_, value)| *value > 0.0)
        .map(|(features, value)| features.iter().map(|feature| feature / value).collect())
        .collect();
    let scale: Vec<f64> = (0..columns)
        .map(|column| relative.iter().map(|row| row[column] * row[column]).sum::<f64>().sqrt())
        .map(|length| if length > 0.0 { length } else { 1.0 })
        .collect();
    let scaled: Vec<Vec<f64>> =
        relative.iter().map(|row| row.iter().zip(&scale).map(|(feature, scale)| feature / scale).collect()).collect();
    let found = descend(&scaled, columns);
    found.iter().zip(&scale).map(|(value, scale)| value / scale).collect()
}

/// Fits rows whose columns have length 1, so that every row sums up to 1.
fn descend(rows: &[Vec<f64>], columns: usize) -> Vec<f64> {
    let dot = |a: usize, b: usize| rows.iter().map(|row| row[a] * row[b]).sum::<f64>();
    let gram: Vec<Vec<f64>> = (0..columns).map(|a| (0..columns).map(|b| dot(a, b)).collect()).collect();
    let aim: Vec<f64> = (0..columns).map(|column| rows.iter().map(|row| row[column]).sum()).collect();
    let mut found = vec![0.0; columns];
    for _ in 0..SWEEPS {
        let (mut moved, mut largest) = (0.0f64, 0.0f64);
        for column in 0..columns {
            if gram[column][column] == 0.0 {
                continue;
            }
            let others: f64 = (0..columns).filter(|other| *other != column).map(|n| gram[column][n] * found[n]).sum();
            let value = ((aim[column] - others) / gram[column][column]).max(0.0);
            moved = moved.max((value - found[column]).abs());
            largest = largest.max(value);
            found[column] = value;
        }
        if moved <= STILL * largest {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(of: impl Fn(f64, f64, f64) -> f64) -> Vec<(Vec<f64>, f64)> {
        let sizes = [1.0, 30.0, 200.0, 5000.0];
        let mut rows = Vec::new();
        for (n, a) in sizes.iter().enumerate() {
            for b in &sizes {
                let c = 1.0 + n as f64;
                rows.push((vec![*a, *b, c], of(*a, *b, c)));
            }
        }
        rows
    }

    #[test]
    fn known_coefficients_are_found() {
        let found = fit(&rows(|a, b, c| 3.0 * a + 0.02 * b + 70.0 * c));
        for (found, known) in found.iter().zip([3.0, 0.02, 70.0]) {
            assert!((found / known - 1.0).abs() < 1e-6, "{found} for {known}");
        }
    }

    #[test]
    fn with_noise_the_coefficients_are_nearly_found() {
        let noise = |a: f64, b: f64| 1.0 + 0.03 * ((a * 7.0 + b * 13.0) % 3.0 - 1.0);
        let found = fit(&rows(|a, b, c| (3.0 * a + 2.0 * b + 70.0 * c) * noise(a, b)));
        for (found, known) in found.iter().zip([3.0, 2.0, 70.0]) {
            assert!((found / known - 1.0).abs() < 0.1, "{found} for {known}");
        }
    }

    #[test]
    fn no_coefficient_is_negative() {
        let found = fit(&rows(|a, b, _| 3.0 * a + (5.0 - 0.0001 * b)));
        assert!(found.iter().all(|value| *value >= 0.0), "{found:?}");
        assert!(fit(&[]).is_empty());
    }
}

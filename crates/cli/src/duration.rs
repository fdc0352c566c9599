//! Durations on the command line, as in the configuration: `500ms`, `25s`, `5m`, `24h`, `7d`, or whole seconds.

use std::time::Duration;

/// Parses a duration.
///
/// # Errors
/// A text that says what a valid duration looks like.
pub fn parse(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let milliseconds: Option<u64> = match unit {
        "ms" => Some(1),
        "" | "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        _ => None,
    };
    let number: Option<u64> = number.parse().ok();
    number
        .zip(milliseconds)
        .and_then(|(number, unit)| number.checked_mul(unit))
        .map(Duration::from_millis)
        .ok_or_else(|| "a duration is a number with ms, s, m, h or d, for example 90s, 24h or 7d".to_owned())
}

/// Formats a duration in one unit, rounded down: `45s`, `12m`, `3h`, `31d`.
pub fn rough(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_configuration_reads() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("5m", 300), ("24h", 86_400), ("31d", 2_678_400)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)));
        }
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        for bad in ["", "h", "1 h", "-1s", "1.5h", "1y", "99999999999999999d", "ä"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tells_roughly() {
        let rough = |seconds| rough(Duration::from_secs(seconds));
        assert_eq!((rough(59), rough(3600), rough(86_400)), ("59s".into(), "60m".into(), "24h".into()));
        assert_eq!(rough(31 * 86_400), "31d");
    }
}

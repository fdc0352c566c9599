//! Durations on the command line: read as in the configuration.

use std::time::Duration;

pub(crate) use crewcast_gateway::config::parse_duration as parse;

/// Formats a duration in one unit, rounded down: `45s`, `12m`, `3h`, `31d`.
pub(crate) fn rough(duration: Duration) -> String {
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
        for (text, seconds) in [("90", 90), ("90s", 90), ("5m", 300), ("24h", 86_400), ("31d", 2_678_400), ("2 m", 120)]
        {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)));
        }
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        for bad in ["", "h", "1 hour", "-1s", "1.5h", "1y", "99999999999999999d", "ä"] {
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

//! RFC 3339 timestamps in UTC, as used in events, and Unix times.

use std::time::{Duration, SystemTime};

use time::{OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description};

/// The current time with milliseconds: `2026-11-20T08:15:30.123Z`.
pub fn now() -> String {
    format(SystemTime::now())
}

/// The time since the Unix epoch. Zero on a machine whose clock is before it.
pub fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// The current Unix time in seconds.
pub fn unix_now() -> u64 {
    since_epoch().as_secs()
}

/// Formats a point in time with milliseconds.
pub fn format(at: SystemTime) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    OffsetDateTime::from(at).format(&format).unwrap_or_default()
}

/// Parses a timestamp into the time since the Unix epoch.
///
/// `None` when `text` is not an RFC 3339 timestamp, or is before 1970.
pub fn parse(text: &str) -> Option<Duration> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(at.unix_timestamp_nanos()).ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_and_parses_the_same_times() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        assert_eq!(format(at), "2023-11-14T22:13:20.123Z");
        assert_eq!(parse("2023-11-14T22:13:20.123Z"), Some(Duration::from_millis(1_700_000_000_123)));
        assert_eq!(parse("2023-11-14T23:13:20.123+01:00"), Some(Duration::from_millis(1_700_000_000_123)));
        assert_eq!(parse("yesterday"), None);
    }
}

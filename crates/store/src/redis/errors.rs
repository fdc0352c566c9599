//! Which errors of Redis are worth a retry. The texts of Redis are not passed on: they may quote arguments, and with
//! them payloads. Only the texts of our own scripts, which quote nothing, are.

use redis::{ErrorKind, RedisError};

use crate::append::AppendError;

/// The code of our own scripts' errors.
const OWN_CODE: &str = "CREWCAST";

/// Codes of errors that end when the server, its disk, its memory or its replicas recover.
const PASSING: [&str; 15] = [
    "LOADING",
    "READONLY",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "MOVED",
    "ASK",
    "NOSCRIPT",
    "OOM",
    "MISCONF",
    "NOREPLICAS",
    "BUSY",
    "UNKILLABLE",
    // Credentials that are being changed.
    "NOAUTH",
    "WRONGPASS",
];

pub(super) fn append_error(error: &RedisError) -> AppendError {
    if let Some(code) = passing_code(error) {
        return AppendError::Unavailable(format!("Redis says {code}"));
    }
    match error.kind() {
        ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::InvalidClientConfig | ErrorKind::RESP3NotSupported => {
            AppendError::Refused(refusal(error))
        }
        // No other error says what the server did.
        _ if error.is_timeout() => AppendError::Unavailable("Redis did not answer in time".to_owned()),
        _ => AppendError::Unavailable(error.category().to_owned()),
    }
}

pub(super) fn is_authentication(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed || matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "DENIED"))
}

fn passing_code(error: &RedisError) -> Option<&'static str> {
    let code = error.code()?;
    if code != "ERR" {
        return PASSING.into_iter().find(|passing| *passing == code);
    }
    // Before version 7, an error inside a script is ERR with the code in its text.
    let detail = error.detail()?;
    PASSING.into_iter().find(|passing| detail.contains(&format!("-{passing} ")))
}

fn refusal(error: &RedisError) -> String {
    match error.code() {
        Some(OWN_CODE) => error.detail().unwrap_or("the script refused").to_owned(),
        Some(code) => format!("Redis says {code} ({})", error.category()),
        None => error.category().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(line: &str) -> AppendError {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        append_error(&value.extract_error().unwrap_err())
    }

    #[test]
    fn what_passes_is_repeated_and_the_rest_is_not() {
        for line in [
            "LOADING Redis is loading the dataset in memory",
            "READONLY You can't write against a read only replica.",
            "OOM command not allowed when used memory > 'maxmemory'. script: 1, on @user_script:1.",
            "MISCONF Redis is configured to save RDB snapshots",
            "CLUSTERDOWN Hash slot not served",
            "ERR Error running script (call to f_1): @user_script:3: -READONLY You can't write",
        ] {
            assert!(matches!(answered(line), AppendError::Unavailable(_)), "{line}: {:?}", answered(line));
        }
        for line in ["WRONGTYPE Operation against a key", "NOPERM this user has no permissions", "ERR syntax error"] {
            assert!(matches!(answered(line), AppendError::Refused(_)), "{line}: {:?}", answered(line));
        }
    }

    #[test]
    fn errors_quote_nothing_but_our_own() {
        let AppendError::Refused(why) = answered("ERR unknown command 'X', with args beginning with: 'secret'") else {
            panic!("refused")
        };
        assert!(!why.contains("secret"), "{why}");
        let AppendError::Refused(why) = answered("CREWCAST the channel's head is no event id") else {
            panic!("refused")
        };
        assert!(why.contains("head is no event id"), "{why}");
    }
}

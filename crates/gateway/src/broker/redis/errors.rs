//! Converts Redis errors into broker errors. Texts from Redis are not passed on: they may quote arguments, and with
//! them passwords, tickets and payloads.

use redis::{ErrorKind, RedisError, Value};

use crate::broker::BrokerError;

pub(crate) fn of_redis(error: &RedisError) -> BrokerError {
    let code = error.code().unwrap_or_default();
    match error.kind() {
        _ if error.is_timeout() => BrokerError::Unavailable("Redis did not answer in time".to_owned()),
        // The operating system's texts quote none of our arguments.
        ErrorKind::Io => BrokerError::Unavailable(error.to_string()),
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => BrokerError::Protocol(error.category().to_owned()),
        _ if matches!(code, "ERR" | "WRONGTYPE" | "NOPERM") => {
            BrokerError::Protocol(format!("Redis says {code} ({})", error.category()))
        }
        _ if code.is_empty() => BrokerError::Unavailable(error.category().to_owned()),
        _ => BrokerError::Unavailable(format!("Redis says {code}")),
    }
}

/// Checks the answer to one of many commands for a transient error: then the other answers are unreliable too.
///
/// # Errors
/// That error.
pub(super) fn none_passing(answer: &Value) -> Result<(), BrokerError> {
    let Err(error) = answer.clone().extract_error() else { return Ok(()) };
    match of_redis(&error) {
        error @ BrokerError::Unavailable(_) => Err(error),
        BrokerError::Protocol(_) => Ok(()),
    }
}

/// An answer that does not have the command's form.
pub(super) fn not_understood(command: &str) -> BrokerError {
    BrokerError::Protocol(format!("the answer to {command}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_quoted_by_redis_are_not_passed_on() {
        for line in [
            "ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'default' 'secret'",
            "WRONGPASS invalid username-password pair for secret",
            "SOMETHING secret",
        ] {
            let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
            let error = of_redis(&value.extract_error().unwrap_err());
            assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        }
    }

    #[test]
    fn transient_errors_are_unavailable() {
        for (line, recovers) in [("LOADING dataset", true), ("WRONGTYPE key", false), ("READONLY replica", true)] {
            let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
            let error = of_redis(&value.extract_error().unwrap_err());
            assert_eq!(matches!(error, BrokerError::Unavailable(_)), recovers, "{error:?}");
        }
    }
}

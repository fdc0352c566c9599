//! Redis' errors as a broker's. Texts that Redis wrote go no further: they may quote arguments, and so
//! passwords, tickets and payloads.

use redis::{ErrorKind, RedisError, Value};

use crate::broker::BrokerError;

pub(crate) fn of_redis(error: &RedisError) -> BrokerError {
    let code = error.code().unwrap_or_default();
    match error.kind() {
        _ if error.is_timeout() => BrokerError::Unavailable("Redis did not answer in time".to_owned()),
        // What the operating system says quotes nothing of ours.
        ErrorKind::Io => BrokerError::Unavailable(error.to_string()),
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => BrokerError::Protocol(error.category().to_owned()),
        _ if matches!(code, "ERR" | "WRONGTYPE" | "NOPERM") => {
            BrokerError::Protocol(format!("Redis says {code} ({})", error.category()))
        }
        _ if code.is_empty() => BrokerError::Unavailable(error.category().to_owned()),
        _ => BrokerError::Unavailable(format!("Redis says {code}")),
    }
}

/// The answer to one of many commands, when it is an error that passes: then the others' are not worth much either.
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

/// An answer whose form is not the command's.
pub(super) fn not_understood(command: &str) -> BrokerError {
    BrokerError::Protocol(format!("the answer to {command}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_quotes_goes_no_further() {
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
    fn what_recovers_is_unavailable() {
        for (line, recovers) in [("LOADING dataset", true), ("WRONGTYPE key", false), ("READONLY replica", true)] {
            let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
            let error = of_redis(&value.extract_error().unwrap_err());
            assert_eq!(matches!(error, BrokerError::Unavailable(_)), recovers, "{error:?}");
        }
    }
}

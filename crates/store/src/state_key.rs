//! The rule for keys of state documents.

/// Longest key of a state document, in characters.
pub const MAX_STATE_KEY: usize = 128;

/// A key that no state document may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a state key has 1 to {MAX_STATE_KEY} characters and no control characters")]
pub struct StateKeyError;

/// Checks the key of a state document: 1 to [`MAX_STATE_KEY`] characters, none of them a control character.
///
/// Everything that takes state documents in asks here: publishers, emitters, both brokers and HTTP.
///
/// # Errors
/// [`StateKeyError`].
pub fn check_state_key(key: &str) -> Result<(), StateKeyError> {
    let has_length = !key.is_empty() && key.chars().count() <= MAX_STATE_KEY;
    if has_length && !key.chars().any(char::is_control) { Ok(()) } else { Err(StateKeyError) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_bounded_and_printable() {
        let longest = "é".repeat(MAX_STATE_KEY);
        for key in ["k", "agent 7", "späte Gäste", longest.as_str()] {
            assert_eq!(check_state_key(key), Ok(()), "{key:?}");
        }
        let too_long = "é".repeat(MAX_STATE_KEY + 1);
        for key in ["", "a\nb", "\u{7f}", "\0", too_long.as_str()] {
            assert_eq!(check_state_key(key), Err(StateKeyError), "{key:?}");
        }
    }
}

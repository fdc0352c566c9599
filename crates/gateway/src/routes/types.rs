//! `types=a,b`: which event types a connection keeps.

use crewcast_events::MAX_TYPE_LEN;

/// Every connection keeps its list for its lifetime and compares each event with it.
const MAX_TYPES: usize = 64;

/// A list of types that is too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum BadTypes {
    #[error("types: at most {MAX_TYPES} event types; leave it out for all of them")]
    TooMany,
    #[error("types: an event type has at most {MAX_TYPE_LEN} characters")]
    TooLong,
}

/// Adds the types of one parameter to `types`, without duplicates.
///
/// # Errors
/// [`BadTypes`] for more than 64 types or for a type longer than 128 characters.
pub(super) fn add(types: &mut Vec<String>, parameter: &str) -> Result<(), BadTypes> {
    for kind in parameter.split(',').map(str::trim).filter(|kind| !kind.is_empty()) {
        if types.iter().any(|known| known == kind) {
            continue;
        }
        if kind.chars().count() > MAX_TYPE_LEN {
            return Err(BadTypes::TooLong);
        }
        if types.len() == MAX_TYPES {
            return Err(BadTypes::TooMany);
        }
        types.push(kind.to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parameters: &[&str]) -> Result<Vec<String>, BadTypes> {
        let mut types = Vec::new();
        parameters.iter().try_for_each(|parameter| add(&mut types, parameter)).map(|()| types)
    }

    #[test]
    fn each_type_is_kept_once() {
        assert_eq!(of(&["a, b,,a", "", "c,b"]).unwrap(), ["a", "b", "c"]);
        assert_eq!(of(&["a,".repeat(10_000).as_str()]).unwrap(), ["a"]);
    }

    #[test]
    fn the_list_of_types_is_limited() {
        let numbered = |n: usize| (0..n).map(|i| format!("t{i}")).collect::<Vec<_>>().join(",");
        assert_eq!(of(&[&numbered(64), "t7"]).unwrap().len(), 64);
        assert_eq!(of(&[&numbered(65)]), Err(BadTypes::TooMany));
        assert_eq!(of(&[&numbered(64), "one more"]), Err(BadTypes::TooMany));
        assert_eq!(of(&[&"é".repeat(128)]).unwrap().len(), 1);
        assert_eq!(of(&[&"é".repeat(129)]), Err(BadTypes::TooLong));
    }
}

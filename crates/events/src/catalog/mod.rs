//! The event types that typed emitters write, by dialect. Gateways accept any other event, too.
//!
//! `tests/golden/catalog/*.jsonl` holds one event of each type with every field set, for libraries in all languages.

/// Keeps the former names of types for one release.
macro_rules! renamed {
    ($($former:ident = $name:ident),* $(,)?) => {
        $(
            #[doc = concat!("Former name of [`", stringify!($name), "`].")]
            #[deprecated = concat!("renamed to `", stringify!($name), "`")]
            pub type $former = $name;
        )*
    };
}

pub mod forge;
mod frame;
pub mod hub;
pub mod lease_expiry;
pub mod mission;
pub mod run;
pub mod session;
pub mod stream;
pub mod tool;
pub mod tracking;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

pub use frame::{Frame, Stamped};

/// Former name of [`lease_expiry`].
#[deprecated = "renamed to `lease_expiry`"]
pub mod silence {
    use super::lease_expiry::{LeaseEvent, LeaseStatus};

    renamed! { Silence = LeaseStatus, SilenceEvent = LeaseEvent }
}

/// How a tool, agent or task ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Outcome {
    Success,
    Error,
    CompletedWithErrors,
}

/// A JSON object of the producer, for example parameters or inputs.
pub type Object = serde_json::Map<String, serde_json::Value>;

/// Writes `None` as the type's default, in fields that clients always expect.
fn or_default<T, S>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error>
where
    T: Serialize + Default,
    S: Serializer,
{
    match value {
        Some(value) => value.serialize(serializer),
        None => T::default().serialize(serializer),
    }
}

/// Writes `None` and null as `{}`.
fn or_empty_object<S: Serializer>(value: &Option<Value>, serializer: S) -> Result<S::Ok, S::Error> {
    null_as_object(value.as_ref().unwrap_or(&Value::Null), serializer)
}

/// Writes null as `{}`.
fn null_as_object<S: Serializer>(value: &Value, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Value::Null => Object::new().serialize(serializer),
        value => value.serialize(serializer),
    }
}

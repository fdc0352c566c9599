//! How values are written: `25s`, `1MiB`, lists with commas. Every value can be read from text.
//! humantime and bytesize accept more (`1M` is a month, `1MB` a million bytes), and so typing errors.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use axum::http::HeaderName;
use crewcast_events::Owner;
use crewcast_store::Sharded;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, de::Error};
use serde_json::{Map, Value, json};

use super::{Algorithm, AllowedOrigin, BrokerKind, LogFormat, Profile, SubscribeMode};

/// A type that a key can have. An error says what is wrong with the value and what to write instead.
pub(crate) trait Form: Sized {
    fn read(given: &Value) -> Result<Self, String>;
    fn write(&self) -> Value;
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: Form>(deserializer: D) -> Result<T, D::Error> {
    T::read(&Value::deserialize(deserializer)?).map_err(D::Error::custom)
}

pub(crate) fn serialize<S: Serializer, T: Form>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    value.write().serialize(serializer)
}

/// Reads a duration such as `90s` or `2 m`, or whole seconds. An error says what a duration looks like.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    Duration::read(&json!(text))
}

/// Declares tables: each field is a key, with its documentation, its type and its default. Every key may be left out,
/// no other is accepted, and each value is written in its [`Form`].
macro_rules! tables {
    ($($(#[$of_table:meta])* $table:ident { $($(#[$of_key:meta])* $key:ident: $type:ty = $default:expr,)* })*) => {$(
        $(#[$of_table])*
        #[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $table {
            $($(#[$of_key])* #[serde(with = "crate::config::form")] pub $key: $type,)*
        }

        impl Default for $table {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }
    )*};
}
pub(super) use tables;

/// A number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Size(pub usize);

impl<T: Form> Form for Option<T> {
    fn read(given: &Value) -> Result<Self, String> {
        T::read(given).map(Some)
    }

    fn write(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::write)
    }
}

/// An array, or a text with commas between the entries.
impl<T: Form> Form for Vec<T> {
    fn read(given: &Value) -> Result<Self, String> {
        match given {
            Value::Array(entries) => entries.iter().map(T::read).collect(),
            Value::String(text) => {
                text.split(',').filter(|entry| !entry.trim().is_empty()).map(|entry| T::read(&json!(entry))).collect()
            }
            other => Err(refusal(other, "a list: an array, or a text with commas between the entries")),
        }
    }

    fn write(&self) -> Value {
        self.iter().map(T::write).collect()
    }
}

fn refusal(given: &Value, expected: &str) -> String {
    match given {
        Value::Array(_) | Value::Object(_) | Value::Null => format!("expected {expected}"),
        simple => format!("{simple} is not {expected}"),
    }
}

/// Types that are read from one text. Numbers, switches and tables are read from their text in JSON.
macro_rules! forms {
    ($($type:ty, $expected:literal, $read:expr, $write:expr;)*) => {$(
        impl Form for $type {
            fn read(given: &Value) -> Result<Self, String> {
                let read: fn(&str) -> Option<Self> = $read;
                let value = match given {
                    Value::String(text) => read(text.trim()),
                    Value::Array(_) | Value::Null => None,
                    other => read(&other.to_string()),
                };
                value.ok_or_else(|| refusal(given, $expected))
            }

            fn write(&self) -> Value {
                $write(self)
            }
        }
    )*};
}
forms! {
    bool, "true or false", |text| text.parse().ok(), as_serde;
    u32, "a whole number", |text| text.parse().ok(), as_serde;
    usize, "a whole number", |text| text.parse().ok(), as_serde;
    Duration, "a duration: a number with ms, s, m, h or d such as 500ms, 25s or 24h, or whole seconds",
        |text| with_unit(text, &DURATIONS).map(Duration::from_millis),
        |duration: &Self| in_largest_unit(duration.as_millis(), &DURATIONS).unwrap_or_else(|| json!("0s"));
    Size, "a size: a number of bytes, or a number with KiB, MiB or GiB such as 1MiB",
        |text| with_unit(text, &SIZES)?.try_into().ok().map(Size),
        |Size(bytes): &Self| in_largest_unit(*bytes as u128, &SIZES[..3]).unwrap_or_else(|| json!(bytes));
    String, "a text", by_serde, as_serde;
    PathBuf, "a path", |text| (!text.is_empty()).then(|| text.into()), as_serde;
    SocketAddr, "an address with port such as 0.0.0.0:8000 or [::]:8000", by_serde, as_serde;
    IpNet, "a network such as 10.0.0.0/8, or one address",
        |text| text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from)), as_serde;
    Algorithm, "one of HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA",
        by_serde, as_serde;
    AllowedOrigin, "an origin such as https://app.example.com, http://localhost:*, https://*.example.com, null or *, \
        without a path", |text| text.parse().ok(), |origin: &Self| json!(origin.as_ref());
    HeaderName, "the name of a header", |text| text.parse().ok(), |name: &Self| json!(name.as_str());
    BrokerKind, "redis or memory", by_serde, as_serde;
    Sharded, "auto or never", by_serde, as_serde;
    LogFormat, "text or json", by_serde, as_serde;
    Profile, "a profile: crew, hive, hub, agentcraft or forge", by_serde, as_serde;
    SubscribeMode, "add or replace", by_serde, as_serde;
    Option<Owner>, "one of crew, run, stream, session, org, none",
        |text| if text == "none" { Some(None) } else { by_serde(text).map(Some) },
        |owner: &Self| owner.map_or(json!("none"), |owner| json!(owner));
    BTreeMap<String, Map<String, Value>>, "a table of claims for each issuer, or such a JSON object in a text",
        |text| serde_json::from_str(text).ok(), as_serde;
    Map<String, Value>, "a table of claims, or a JSON object in a text",
        |text| serde_json::from_str(text).ok(), as_serde;
}

fn by_serde<T: de::DeserializeOwned>(text: &str) -> Option<T> {
    T::deserialize(json!(text)).ok()
}

fn as_serde<T: Serialize>(value: &T) -> Value {
    json!(value)
}

/// In milliseconds, from the largest; without a unit, seconds.
const DURATIONS: [(&str, u64); 6] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1), ("", 1000)];
/// In bytes, from the largest.
const SIZES: [(&str, u64); 5] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1), ("", 1)];

/// `<number><unit>`, times the unit's factor.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor = units.iter().find(|(name, _)| *name == unit.trim())?.1;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// A number in the largest unit that divides it; `None` for 0 and where no unit does.
fn in_largest_unit(number: u128, units: &[(&str, u64)]) -> Option<Value> {
    let (unit, factor) = units.iter().find(|(_, factor)| number > 0 && number.is_multiple_of(u128::from(*factor)))?;
    Some(json!(format!("{}{unit}", number / u128::from(*factor))))
}

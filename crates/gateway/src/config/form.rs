//! The forms in which values are written: "25s", "1MiB", `true`. Variables and flags carry only text, so every
//! form can be read from text; a TOML file may use TOML's own types too.

use std::{fmt, marker::PhantomData, net::SocketAddr, path::PathBuf, time::Duration};

use crewcast_events::Owner;
use ipnet::IpNet;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, SeqAccess, Visitor},
};

use super::{Algorithm, BrokerKind, LogFormat, Secret, Sharded};

/// A type that configuration can hold.
pub trait Form: Sized {
    /// Completes "… is not " and "expected ".
    const EXPECTED: &'static str;
    /// Whether the value stays out of messages.
    const SECRET: bool = false;

    /// Reads the written form.
    fn read(text: &str) -> Option<Self>;

    /// A number without quotes.
    fn read_number(number: u64) -> Option<Self> {
        let _ = number;
        None
    }

    /// `true` or `false` without quotes.
    fn read_switch(switch: bool) -> Option<Self> {
        let _ = switch;
        None
    }

    /// The written form; of a secret only that it is there.
    fn write(&self) -> Written;
}

/// What [`Form::write`] makes: one of TOML's simple values.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
#[allow(missing_docs)]
pub enum Written {
    Text(String),
    Number(u64),
    Switch(bool),
}

/// A value in its [`Form`].
#[derive(Clone, Debug, PartialEq)]
pub struct Given<T>(pub T);

impl<T: Form> Serialize for Given<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.write().serialize(serializer)
    }
}

impl<'de, T: Form> Deserialize<'de> for Given<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(GivenVisitor(PhantomData)).map(Given)
    }
}

struct GivenVisitor<T>(PhantomData<T>);

impl<T: Form> GivenVisitor<T> {
    fn refuse<E: de::Error>(value: &dyn fmt::Debug) -> E {
        if T::SECRET {
            return E::custom(format_args!("expected {}", T::EXPECTED));
        }
        E::custom(format_args!("{value:?} is not {}", T::EXPECTED))
    }
}

impl<T: Form> Visitor<'_> for GivenVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        let read = if T::SECRET { text } else { text.trim() };
        T::read(read).ok_or_else(|| Self::refuse(&text))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        T::read_number(number).ok_or_else(|| Self::refuse(&number))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        u64::try_from(number).ok().and_then(T::read_number).ok_or_else(|| Self::refuse(&number))
    }

    fn visit_bool<E: de::Error>(self, switch: bool) -> Result<T, E> {
        T::read_switch(switch).ok_or_else(|| Self::refuse(&switch))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        Err(Self::refuse(&number))
    }
}

/// Several values: an array, or a text with commas.
#[derive(Clone, Debug, PartialEq)]
pub struct List<T>(pub Vec<T>);

impl<T: Form> Serialize for List<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Form::write))
    }
}

impl<'de, T: Form> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListVisitor(PhantomData))
    }
}

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: Form> Visitor<'de> for ListVisitor<T> {
    type Value = List<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list, each entry {}", T::EXPECTED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<List<T>, E> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        entries.map(|entry| GivenVisitor(PhantomData).visit_str(entry)).collect::<Result<_, E>>().map(List)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<List<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(Given(entry)) = entries.next_element()? {
            list.push(entry);
        }
        Ok(List(list))
    }
}

impl Form for Duration {
    const EXPECTED: &'static str =
        "a duration: a number with ms, s, m, h or d such as 500ms, 25s or 24h, or whole seconds";

    fn read(text: &str) -> Option<Self> {
        with_unit(text, &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("", 1000)])
            .map(Duration::from_millis)
    }

    fn read_number(seconds: u64) -> Option<Self> {
        Some(Duration::from_secs(seconds))
    }

    fn write(&self) -> Written {
        let ms = u64::try_from(self.as_millis()).unwrap_or(u64::MAX);
        let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
        Written::Text(largest_unit(ms, &units).unwrap_or_else(|| "0s".to_owned()))
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub usize);

impl Form for Size {
    const EXPECTED: &'static str = "a size: a number of bytes, or a number with KiB, MiB or GiB such as 1MiB";

    fn read(text: &str) -> Option<Self> {
        let bytes = with_unit(text, &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1), ("", 1)])?;
        Self::read_number(bytes)
    }

    fn read_number(bytes: u64) -> Option<Self> {
        usize::try_from(bytes).ok().map(Size)
    }

    fn write(&self) -> Written {
        let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        largest_unit(self.0 as u64, &units).map_or(Written::Number(self.0 as u64), Written::Text)
    }
}

/// `<number><unit>`, times the unit's factor.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit.trim())?.1;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// A number in the largest unit that divides it; `None` for 0 and what no unit divides.
fn largest_unit(number: u64, units: &[(&str, u64)]) -> Option<String> {
    let (unit, factor) = units.iter().find(|(_, factor)| number > 0 && number.is_multiple_of(*factor))?;
    Some(format!("{}{unit}", number / factor))
}

impl Form for bool {
    const EXPECTED: &'static str = "true or false";

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn read_switch(switch: bool) -> Option<Self> {
        Some(switch)
    }

    fn write(&self) -> Written {
        Written::Switch(*self)
    }
}

macro_rules! whole_number {
    ($($number:ty),*) => {$(
        impl Form for $number {
            const EXPECTED: &'static str = "a whole number";

            fn read(text: &str) -> Option<Self> {
                text.parse().ok()
            }

            fn read_number(number: u64) -> Option<Self> {
                Self::try_from(number).ok()
            }

            fn write(&self) -> Written {
                Written::Number(*self as u64)
            }
        }
    )*};
}
whole_number!(u32, usize);

impl Form for Secret {
    const EXPECTED: &'static str = "a text in quotes";
    const SECRET: bool = true;

    fn read(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Secret::new(text))
    }

    fn write(&self) -> Written {
        Written::Text("***".to_owned())
    }
}

/// Forms that are plain text on both sides.
macro_rules! text {
    ($($form:ty, $expected:literal, $read:expr, $write:expr;)*) => {$(
        impl Form for $form {
            const EXPECTED: &'static str = $expected;

            fn read(text: &str) -> Option<Self> {
                let read: fn(&str) -> Option<Self> = $read;
                read(text)
            }

            fn write(&self) -> Written {
                let write: fn(&Self) -> String = $write;
                Written::Text(write(self))
            }
        }
    )*};
}

/// What the ids of a namespace name; the text `none` leaves grants to the `channels` claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerOrNone(pub Option<Owner>);

const OWNERS: [(&str, OwnerOrNone); 6] = [
    ("crew", OwnerOrNone(Some(Owner::Crew))),
    ("run", OwnerOrNone(Some(Owner::Run))),
    ("stream", OwnerOrNone(Some(Owner::Stream))),
    ("session", OwnerOrNone(Some(Owner::Session))),
    ("org", OwnerOrNone(Some(Owner::Org))),
    ("none", OwnerOrNone(None)),
];
const BROKERS: [(&str, BrokerKind); 2] = [("redis", BrokerKind::Redis), ("memory", BrokerKind::Memory)];
const SHARDED: [(&str, Sharded); 2] = [("auto", Sharded::Auto), ("never", Sharded::Never)];
const FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];

fn named<T: Copy>(names: &[(&str, T)], text: &str) -> Option<T> {
    names.iter().find(|(name, _)| *name == text).map(|(_, value)| *value)
}

fn name_of<T: PartialEq>(names: &[(&str, T)], value: &T) -> String {
    names.iter().find(|(_, named)| named == value).map_or("", |(name, _)| name).to_owned()
}

text! {
    String, "a text", |text| Some(text.to_owned()), Clone::clone;
    PathBuf, "a path", |text| (!text.is_empty()).then(|| text.into()), |path| path.display().to_string();
    SocketAddr, "an address with port such as 0.0.0.0:8000 or [::]:8000", |text| text.parse().ok(), ToString::to_string;
    IpNet, "a network such as 10.0.0.0/8, or one address", read_network, ToString::to_string;
    Algorithm, "one of HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA",
        |text| text.parse().ok(), |algorithm| format!("{algorithm:?}");
    BrokerKind, "redis or memory", |text| named(&BROKERS, text), |kind| name_of(&BROKERS, kind);
    Sharded, "auto or never", |text| named(&SHARDED, text), |sharded| name_of(&SHARDED, sharded);
    LogFormat, "text or json", |text| named(&FORMATS, text), |format| name_of(&FORMATS, format);
    OwnerOrNone, "one of crew, run, stream, session, org, none", |text| named(&OWNERS, text), |owner| name_of(&OWNERS, owner);
}

fn read_network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(written: &Written) -> String {
        match written {
            Written::Text(text) => text.clone(),
            Written::Number(number) => number.to_string(),
            Written::Switch(switch) => switch.to_string(),
        }
    }

    #[test]
    fn durations() {
        for (written, ms) in [("25s", 25_000), ("500ms", 500), ("24h", 86_400_000), ("2 m", 120_000), ("7", 7000)] {
            assert_eq!(Duration::read(written), Some(Duration::from_millis(ms)), "{written}");
        }
        for nonsense in ["", "s", "-1s", "1.5s", "25 seconds", "99999999999999999999s", "99999999999999999d"] {
            assert_eq!(Duration::read(nonsense), None, "{nonsense}");
        }
        assert_eq!(text(&Duration::from_secs(86_400).write()), "1d");
        assert_eq!(text(&Duration::from_millis(1500).write()), "1500ms");
        assert_eq!(text(&Duration::ZERO.write()), "0s");
    }

    #[test]
    fn sizes() {
        for (written, bytes) in [("1MiB", 1 << 20), ("4 KiB", 4096), ("17", 17), ("17B", 17), ("2GiB", 2 << 30)] {
            assert_eq!(Size::read(written), Some(Size(bytes)), "{written}");
        }
        for nonsense in ["1MB", "MiB", "-1", "1.5MiB"] {
            assert_eq!(Size::read(nonsense), None, "{nonsense}");
        }
        assert_eq!(text(&Size(512 << 20).write()), "512MiB");
        assert_eq!(text(&Size(1000).write()), "1000");
        assert_eq!(text(&Size(0).write()), "0");
    }

    #[test]
    fn every_form_reads_what_it_writes() {
        fn check<T: Form + PartialEq + fmt::Debug>(values: &[&str]) {
            for value in values {
                let read = T::read(value).expect(value);
                assert_eq!(T::read(&text(&read.write())), Some(read));
            }
        }
        check::<Algorithm>(&["HS256", "HS512", "RS384", "PS512", "ES256", "ES384", "EdDSA"]);
        check::<IpNet>(&["10.0.0.0/8", "127.0.0.1", "::1", "fd00::/8"]);
        check::<SocketAddr>(&["0.0.0.0:8000", "[::]:9090"]);
        check::<OwnerOrNone>(&["crew", "run", "stream", "session", "org", "none"]);
        check::<BrokerKind>(&["redis", "memory"]);
        check::<LogFormat>(&["text", "json"]);
    }
}

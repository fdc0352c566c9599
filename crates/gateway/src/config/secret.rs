//! Values that appear in no log, in no error message and not in `crewcast config`.

use std::{fmt, sync::LazyLock};

use regex::Regex;
use serde_json::{Value, json};

use super::form::Form;

/// A text that is masked in `Debug` and in `crewcast config`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself: for use, never for output.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Form for Secret {
    /// The error does not repeat the value.
    fn read(given: &Value) -> Result<Self, String> {
        let text = given.as_str().filter(|text| !text.is_empty());
        text.map(Secret::new).ok_or_else(|| "expected a text in quotes".to_owned())
    }

    fn write(&self) -> Value {
        json!("***")
    }
}

/// Masks the text between `:` and `@` of each server, and after `password=`. A text that is not a URL is masked whole.
pub(crate) fn mask_passwords(url: &str) -> String {
    static PARAMETER: LazyLock<Regex> = LazyLock::new(|| Regex::new("([?&][^=&]*pass[^=&]*)=[^&]*").expect("constant"));
    if !url.contains("://") {
        return "***".to_owned();
    }
    let mask = |server: &str| {
        let (scheme, rest) = server.split_at(server.find("://").map_or(0, |at| at + "://".len()));
        match rest.rsplit_once('@').and_then(|(login, host)| Some((login.split_once(':')?.0, host))) {
            Some((user, host)) => format!("{scheme}{user}:***@{host}"),
            None => server.to_owned(),
        }
    };
    PARAMETER.replace_all(url, "$1=***").split(',').map(mask).collect::<Vec<_>>().join(",")
}

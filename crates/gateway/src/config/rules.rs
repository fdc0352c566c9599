//! Collects every broken rule, so that the operator fixes all of them at once. Each text says what to write instead.

use std::{fmt::Display, time::Duration};

use url::Url;

use super::{Config, Sources, limits, namespaces, replica};

pub(crate) struct Rules<'a> {
    sources: &'a Sources,
    broken: Vec<String>,
}

/// The rules that a configuration breaks.
pub(crate) fn broken(config: &Config, sources: &Sources) -> Vec<String> {
    let mut rules = Rules { sources, broken: Vec::new() };
    let differs = config.admin.listen != config.listen.0 || config.listen.0.port() == 0;
    rules.hold("admin.listen", differs, "must differ from listen: the operator's endpoints are not for the public");
    config.broker.check(&mut rules);
    namespaces::check(&config.namespaces, &mut rules);
    limits::check(&config.limits, &config.compression, &mut rules);
    config.auth.check(&mut rules);
    config.auth.check_adoption(&config.directory, &mut rules);
    replica::check(config, &mut rules);
    rules.broken
}

impl Rules<'_> {
    pub(crate) fn hold(&mut self, key: &str, holds: bool, text: impl Display) {
        if !holds {
            self.broken.push(self.sources.problem(key, text));
        }
    }

    pub(crate) fn positive(&mut self, key: &str, duration: Duration) {
        self.hold(key, !duration.is_zero(), "must be longer than 0, for example 10s");
    }

    /// A URL that ends up in logs and so must not carry a password.
    pub(crate) fn web_url(&mut self, key: &str, text: Option<&str>) {
        let Some(text) = text else { return };
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        self.hold(key, url.is_some(), "must be a URL that begins with https:// or http://");
        let open = url.is_none_or(|url| url.username().is_empty() && url.password().is_none());
        self.hold(key, open, "must not contain a user name or password: this URL appears in logs");
    }
}

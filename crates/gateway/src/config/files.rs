//! Values that stand in files of their own: `<key>_file`, and the PEM files of the broker.

use std::{
    mem::discriminant,
    path::{Path, PathBuf},
};

use super::{Config, Secret, Sources, Tls};

/// Reads every file that the configuration names.
pub(crate) fn read(config: &mut Config, sources: &Sources) -> Result<(), String> {
    let Config { broker, auth, .. } = config;
    if let Some(url) = instead_of("broker.url", &mut broker.url_file, sources)? {
        broker.url = Secret::new(url);
    }
    if let Some(secret) = instead_of("auth.hs256_secret", &mut auth.hs256_secret_file, sources)? {
        auth.hs256_secret = Some(Secret::new(secret));
    }
    if let Some(pem) = instead_of("auth.public_key", &mut auth.public_key_file, sources)? {
        auth.public_key = Some(pem);
    }
    let pem = |key, path| content(key, path, sources).map(String::into_bytes);
    let identity = match (&broker.tls_cert_file, &broker.tls_key_file) {
        (Some(cert), Some(key)) => Some((pem("broker.tls_cert_file", cert)?, pem("broker.tls_key_file", key)?)),
        (None, None) => None,
        (one, _) => {
            let key = if one.is_some() { "broker.tls_cert_file" } else { "broker.tls_key_file" };
            let text = "broker.tls_cert_file and broker.tls_key_file belong together: set both or neither";
            return Err(sources.problem(key, text));
        }
    };
    let ca = broker.tls_ca_file.as_ref().map(|path| pem("broker.tls_ca_file", path)).transpose()?;
    broker.tls = Tls { ca, identity };
    Ok(())
}

/// The content of `<key>_file`, unless a later layer sets `key`. Both in one layer contradict each other.
fn instead_of(key: &str, file: &mut Option<PathBuf>, sources: &Sources) -> Result<Option<String>, String> {
    let Some(path) = file else { return Ok(None) };
    let file_key = format!("{key}_file");
    let (of_key, of_file) = (sources.of(key), sources.of(&file_key));
    if discriminant(of_key) == discriminant(of_file) {
        return Err(sources.problem(&file_key, format!("{key} is set in the same place; remove one of them")));
    }
    if of_key > of_file {
        *file = None;
        return Ok(None);
    }
    match content(&file_key, path, sources)? {
        text if text.is_empty() => Err(sources.problem(&file_key, format!("{} is empty", path.display()))),
        text => Ok(Some(text)),
    }
}

/// A file's text without the line end that editors and `echo` leave.
fn content(key: &str, path: &Path, sources: &Sources) -> Result<String, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| sources.problem(key, format!("cannot read {}: {error}", path.display())))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

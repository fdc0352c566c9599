//! The signature of a POST, with which a webhook detects forged, altered and replayed requests.

use std::{fmt::Write, path::Path};

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::error::CliError;

/// The header that carries the signature.
pub(super) const HEADER: &str = "x-crewcast-signature";
/// Longest secret, in bytes.
const MAX_SECRET: usize = 4096;

/// The secret that is shared with the webhook. It is never printed.
pub(super) struct SigningSecret(Vec<u8>);

impl SigningSecret {
    /// Reads the secret from a file, without trailing line ends.
    ///
    /// # Errors
    /// [`CliError`] when the file cannot be read, is empty or is too long.
    pub(super) fn read(path: &Path) -> Result<Self, CliError> {
        let mut bytes = std::fs::read(path).map_err(CliError::io(path.display().to_string()))?;
        while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
            bytes.pop();
        }
        if bytes.is_empty() || bytes.len() > MAX_SECRET {
            return Err(CliError::Usage(format!("{}: the secret must have 1 to {MAX_SECRET} bytes", path.display())));
        }
        Ok(Self(bytes))
    }

    /// Returns `t=<seconds>,v1=<hex of the HMAC-SHA256 of "<seconds>.<body>">`.
    pub(super) fn sign(&self, seconds: u64, body: &[u8]) -> Option<String> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(seconds.to_string().as_bytes());
        mac.update(b".");
        mac.update(body);
        let mut signature = format!("t={seconds},v1=");
        for byte in mac.finalize().into_bytes() {
            // Writing to a String cannot fail.
            let _ = write!(signature, "{byte:02x}");
        }
        Some(signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_match_those_of_openssl() {
        // printf '1700000000.{"type":"x"}' | openssl dgst -sha256 -hmac s3cret
        let signature = SigningSecret(b"s3cret".to_vec()).sign(1_700_000_000, br#"{"type":"x"}"#).unwrap();
        assert_eq!(signature, "t=1700000000,v1=02f86339ae9c3e11404721ac50eb73a0a5bf4480b42975d8eef5d42ebf8a12d8");
    }

    #[test]
    fn a_secret_is_the_content_of_the_file_without_line_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, " s3cret \r\n").unwrap();
        assert_eq!(SigningSecret::read(&path).unwrap().0, b" s3cret ");
        for bad in ["", "\n"] {
            std::fs::write(&path, bad).unwrap();
            assert!(matches!(SigningSecret::read(&path), Err(CliError::Usage(_))));
        }
        assert!(matches!(SigningSecret::read(&folder.path().join("none")), Err(CliError::Io { .. })));
    }
}

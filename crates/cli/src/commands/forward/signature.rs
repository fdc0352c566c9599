//! What a webhook checks to know that a POST is ours, whole, and not an old one sent again.

use std::{fmt::Write, path::Path};

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::error::CliError;

/// The header that carries it.
pub const HEADER: &str = "x-crewcast-signature";
/// Longest secret that is read, in bytes.
const LONGEST: usize = 4096;

/// The secret that the webhook knows too. Never printed.
pub struct Secret(Vec<u8>);

impl Secret {
    /// The file's content without the line end behind it.
    ///
    /// # Errors
    /// [`CliError`] when it cannot be read, or holds nothing that is a secret.
    pub fn read(path: &Path) -> Result<Self, CliError> {
        let mut bytes = std::fs::read(path).map_err(CliError::io(path.display().to_string()))?;
        while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
            bytes.pop();
        }
        if bytes.is_empty() || bytes.len() > LONGEST {
            return Err(CliError::Usage(format!("{}: a secret has 1 to {LONGEST} bytes", path.display())));
        }
        Ok(Self(bytes))
    }

    /// `t=<seconds>,v1=<hex of the HMAC-SHA256 of "<seconds>.<body>">`.
    pub fn sign(&self, seconds: u64, body: &[u8]) -> Option<String> {
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
    fn signs_as_other_programs_would_check() {
        // printf '1700000000.{"type":"x"}' | openssl dgst -sha256 -hmac s3cret
        let signature = Secret(b"s3cret".to_vec()).sign(1_700_000_000, br#"{"type":"x"}"#).unwrap();
        assert_eq!(signature, "t=1700000000,v1=02f86339ae9c3e11404721ac50eb73a0a5bf4480b42975d8eef5d42ebf8a12d8");
    }

    #[test]
    fn a_secret_is_what_the_file_holds_without_its_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, " s3cret \r\n").unwrap();
        assert_eq!(Secret::read(&path).unwrap().0, b" s3cret ");
        for bad in ["", "\n"] {
            std::fs::write(&path, bad).unwrap();
            assert!(matches!(Secret::read(&path), Err(CliError::Usage(_))));
        }
        assert!(matches!(Secret::read(&folder.path().join("none")), Err(CliError::Io { .. })));
    }
}

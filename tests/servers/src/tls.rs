//! Certificates for one test: an authority, a server at 127.0.0.1, and a client.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::RedisServer;

/// PEM files in a temporary directory.
#[derive(Debug)]
pub struct Certificates {
    directory: tempfile::TempDir,
}

impl Certificates {
    /// Generates new certificates.
    pub fn make() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let key = KeyPair::generate().expect("a key");
        let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
        authority.distinguished_name.push(DnType::CommonName, "the authority of a test");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = authority.self_signed(&key).expect("signed");
        let issuer = Issuer::new(authority, key);
        let certificates = Self { directory };
        certificates.write("ca.pem", &certificate.pem());
        for name in ["server", "client"] {
            let key = KeyPair::generate().expect("a key");
            let parameters =
                CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).expect("parameters");
            let certificate = parameters.signed_by(&key, &issuer).expect("signed");
            certificates.write(&format!("{name}.pem"), &certificate.pem());
            certificates.write(&format!("{name}.key"), &key.serialize_pem());
        }
        certificates
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("written");
    }

    /// The path of `ca.pem`, `server.pem`, `server.key`, `client.pem` or `client.key`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The bytes of one of these files.
    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect("a generated file")
    }

    /// The options that make a server speak TLS on this port and require a client certificate.
    pub fn options(&self, port: u16) -> Vec<String> {
        let path = |name| self.path(name).to_str().expect("a path").to_owned();
        let options = [
            ("--tls-port", port.to_string()),
            ("--tls-cert-file", path("server.pem")),
            ("--tls-key-file", path("server.key")),
            ("--tls-ca-cert-file", path("ca.pem")),
            ("--tls-auth-clients", "yes".to_owned()),
        ];
        options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
    }

    /// Starts a server that speaks TLS on the returned port, and plain TCP on its own port.
    pub fn start_server(&self) -> (RedisServer, u16) {
        let port = crate::free_port();
        let options = self.options(port);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        (RedisServer::start_with(&options), port)
    }
}

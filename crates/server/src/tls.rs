//! Certificate and keys of both listeners (rustls with ring; TLS 1.2 and 1.3).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use logwood_proto::read_pem_file;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use thiserror::Error;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Where the PEM files are.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The server's certificate, then those between it and its root.
    pub cert: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
    /// Roots of the certificates that clients have to show. `None`: anybody may connect.
    pub client_ca: Option<PathBuf>,
}

/// Why TLS cannot be served.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", .file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: {problem}", .file.display())]
    Content {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// What the two listeners need.
pub(crate) struct Tls {
    pub(crate) grpc: ServerTlsConfig,
    pub(crate) http: Arc<ServerConfig>,
}

impl Tls {
    /// Reads the files and checks that they fit together.
    pub(crate) fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let (cert, key) = (read(&files.cert)?, read(&files.key)?);
        let client_ca = files.client_ca.as_deref().map(|file| Ok((file, read(file)?))).transpose()?;

        let chain = certificates(&files.cert, &cert)?;
        let private = PrivateKeyDer::from_pem_slice(&key).map_err(|error| content(&files.key, &error))?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| content(&files.cert, &error))?;
        let builder = match &client_ca {
            None => builder.with_no_client_auth(),
            Some((file, pem)) => {
                let mut roots = RootCertStore::empty();
                for root in certificates(file, pem)? {
                    roots.add(root).map_err(|error| content(file, &error))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| content(file, &error))?)
            }
        };
        let mut http = builder.with_single_cert(chain, private).map_err(|error| content(&files.key, &error))?;
        http.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];

        let mut grpc = ServerTlsConfig::new().identity(Identity::from_pem(&cert, &key)).timeout(HANDSHAKE);
        if let Some((_, pem)) = &client_ca {
            grpc = grpc.client_ca_root(Certificate::from_pem(pem));
        }
        Ok(Self { grpc, http: Arc::new(http) })
    }
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    read_pem_file(file).map_err(|source| TlsError::Read { file: file.to_owned(), source })
}

fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|error| content(file, &error))?;
    if all.is_empty() { Err(content(file, &"it holds no certificate in PEM form")) } else { Ok(all) }
}

fn content(file: &Path, problem: &impl std::fmt::Display) -> TlsError {
    TlsError::Content { file: file.to_owned(), problem: problem.to_string() }
}

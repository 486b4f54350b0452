//! What a client trusts and shows when the server's URL is `https://`.

use std::path::{Path, PathBuf};

use logwood_proto::read_pem_file;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use crate::ClientError;

/// Roots and certificate of a client. The default trusts the roots of the system, and shows no certificate.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// The roots to trust instead of the system's, PEM.
    pub ca: Option<PathBuf>,
    /// Certificate chain and private key to show to a server that asks for one, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl TlsOptions {
    /// Whether anything differs from the default.
    pub(crate) fn is_given(&self) -> bool {
        self.ca.is_some() || self.identity.is_some()
    }

    /// Reads the files.
    ///
    /// # Errors
    ///
    /// [`ClientError::BadOption`] if one of them cannot be read.
    pub(crate) fn config(&self) -> Result<ClientTlsConfig, ClientError> {
        let mut config = match &self.ca {
            Some(file) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read("tls-ca", file)?)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        if let Some((cert, key)) = &self.identity {
            config = config.identity(Identity::from_pem(read("tls-cert", cert)?, read("tls-key", key)?));
        }
        Ok(config)
    }
}

fn read(option: &'static str, file: &Path) -> Result<Vec<u8>, ClientError> {
    let failed = |error| ClientError::BadOption { option, message: format!("{}: {error}", file.display()) };
    read_pem_file(file).map_err(failed)
}

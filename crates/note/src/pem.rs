//! Private keys as PKCS#8 in PEM: what `openssl genpkey` writes, and `openssl pkey` and OpenSSH read.
//!
//! ```text
//! SEQUENCE { INTEGER 0, SEQUENCE { OBJECT IDENTIFIER algorithm }, OCTET STRING key }
//!
//! Ed25519    1.3.101.112                 key = OCTET STRING seed      RFC 8410 §7
//! ML-DSA-44  2.16.840.1.101.3.4.3.17     key = [0] seed               RFC 9881 §6
//! ```
//!
//! Everything but the seed is constant, so that both encodings are a prefix and 32 bytes. PEM has no name for a key,
//! and no type beyond the algorithm. Source of the text around it: RFC 7468 §10.

use zeroize::Zeroizing;

use crate::key::{KeyError, SignatureType};
use crate::private_key::{PrivateKey, SEED_BYTES};
use crate::text;

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----\n";
const END: &str = "-----END PRIVATE KEY-----\n";

/// Characters of a line of base64 (RFC 7468 §2).
const LINE_CHARACTERS: usize = 64;

const ED25519: &[u8] = &[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
const ML_DSA_44: &[u8] =
    &[0x30, 0x34, 2, 1, 0, 0x30, 0x0b, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3, 0x11, 4, 0x22, 0x80, 0x20];

impl PrivateKey {
    /// The key called `name` in a PEM text: of type 0x01 for Ed25519, 0x06 for ML-DSA-44.
    ///
    /// # Errors
    ///
    /// * [`KeyError::Pem`] if it is anything else than one PKCS#8 key of the two algorithms, the latter as its seed.
    /// * [`KeyError::Name`] if `name` is no key name.
    pub fn from_pem(name: &str, pem: &str) -> Result<Self, KeyError> {
        let body = pem.strip_prefix(BEGIN).and_then(|pem| pem.strip_suffix(END)).ok_or(KeyError::Pem)?;
        // As long as the text, so that it never grows and leaves no copy behind.
        let mut base64 = Zeroizing::new(String::with_capacity(body.len()));
        body.lines().for_each(|line| base64.push_str(line));
        let der = Zeroizing::new(text::from_base64(&base64).ok_or(KeyError::Pem)?);

        let algorithms = [(ED25519, SignatureType::Ed25519), (ML_DSA_44, SignatureType::MlDsa44Cosignature)];
        for (prefix, kind) in algorithms {
            if let Some(seed) = der.strip_prefix(prefix) {
                return Self::from_seed(name, kind, seed.try_into().map_err(|_| KeyError::Pem)?);
            }
        }
        Err(KeyError::Pem)
    }

    /// The key without its name as PEM, the inverse of [`PrivateKey::from_pem`]. Overwritten when dropped.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        let prefix = match self.verifier().kind() {
            SignatureType::Ed25519 | SignatureType::Ed25519Cosignature => ED25519,
            SignatureType::MlDsa44Cosignature => ML_DSA_44,
        };
        let mut der = Zeroizing::new(Vec::with_capacity(prefix.len() + SEED_BYTES));
        der.extend_from_slice(prefix);
        der.extend_from_slice(self.seed());

        // One allocation each that is never outgrown: 4 characters for 3 bytes, and a newline a line.
        let characters = 4 * der.len().div_ceil(3);
        let mut base64 = Zeroizing::new(String::with_capacity(characters));
        text::push_base64(&der, &mut base64);
        let capacity = BEGIN.len() + characters + characters.div_ceil(LINE_CHARACTERS) + END.len();
        let mut pem = Zeroizing::new(String::with_capacity(capacity));
        pem.push_str(BEGIN);
        let mut rest = base64.as_str();
        while !rest.is_empty() {
            let (line, more) = rest.split_at(rest.len().min(LINE_CHARACTERS));
            pem.push_str(line);
            pem.push('\n');
            rest = more;
        }
        pem.push_str(END);
        pem
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8410 §10.3, and the same key pair's public half from §10.1.
    const RFC_8410: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
        -----END PRIVATE KEY-----\n";
    const RFC_8410_PUBLIC: &str = "Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";

    fn key(kind: SignatureType, seed: u8) -> PrivateKey {
        PrivateKey::from_seed("a", kind, &[seed; 32]).expect("a name")
    }

    #[test]
    fn the_example_of_rfc_8410_is_read_and_written_back() {
        let key = PrivateKey::from_pem("log.example", RFC_8410).expect("a key");
        assert_eq!((key.name(), key.verifier().kind()), ("log.example", SignatureType::Ed25519));
        assert_eq!(key.to_pem().as_str(), RFC_8410);
        assert_eq!(text::to_base64(key.verifier().public_key()), RFC_8410_PUBLIC);
    }

    /// RFC 9881, Appendix C.1.1: the seed `000102..1f`.
    #[test]
    fn the_example_of_rfc_9881_is_read_and_written_back() {
        let pem = "-----BEGIN PRIVATE KEY-----\n\
            MDQCAQAwCwYJYIZIAWUDBAMRBCKAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZ\n\
            GhscHR4f\n\
            -----END PRIVATE KEY-----\n";
        let key = PrivateKey::from_pem("log.example", pem).expect("a key");
        let seed: [u8; 32] = std::array::from_fn(|i| u8::try_from(i).expect("small"));
        assert_eq!(key.seed(), &seed);
        assert_eq!(key.verifier().kind(), SignatureType::MlDsa44Cosignature);
        assert_eq!(key.to_pem().as_str(), pem);
    }

    #[test]
    fn the_type_of_an_ed25519_key_is_the_caller_s_to_know() {
        let cosigner = key(SignatureType::Ed25519Cosignature, 5);
        let read = PrivateKey::from_pem("a", &cosigner.to_pem()).expect("a key");
        assert_eq!(read.verifier().kind(), SignatureType::Ed25519);
        let again = read.with_type(SignatureType::Ed25519Cosignature).expect("the same algorithm");
        assert_eq!(again.verifier(), cosigner.verifier());
        assert!(matches!(again.with_type(SignatureType::MlDsa44Cosignature), Err(KeyError::WrongType { .. })));
    }

    #[test]
    fn what_is_not_exactly_one_key_is_refused() {
        let good = key(SignatureType::MlDsa44Cosignature, 5).to_pem();
        for pem in [
            String::new(),
            good.replace("PRIVATE", "PUBLIC"),
            good.replace("PRIVATE KEY", "OPENSSH PRIVATE KEY"),
            good.trim_end().to_owned(),
            format!("\n{}", *good),
            format!("{0}{0}", *good),
            good.replacen('M', "N", 1),
            good.replace("\n-----END", "=\n-----END"),
            good.replace('\n', "\r\n"),
            good.replace("BQUF", ""),
            good.replacen("BQUF", "BQUFBQUF", 1),
        ] {
            assert_eq!(PrivateKey::from_pem("a", &pem).map(drop), Err(KeyError::Pem), "{pem:?}");
        }
        assert_eq!(PrivateKey::from_pem("a b", &good).map(drop), Err(KeyError::Name));
    }
}

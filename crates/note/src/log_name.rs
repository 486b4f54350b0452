//! Names of logs within a server, and origins: their names in the world.
//!
//! ```text
//! name      origin with public URL https://log.example/audit    origin without
//! payments  log.example/audit/logs/payments                     logwood.invalid/<32 hex>/payments
//! ```

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::checkpoint::ORIGIN_BYTES_MAX;
use crate::key::is_key_name;
use crate::text;

/// Longest log name, in bytes.
pub const LOG_NAME_BYTES_MAX: usize = 63;

/// What the names of the server's own logs begin with.
const RESERVED_NAME_PREFIX: &str = "logwood.";

/// What the first lines of signed texts that are no checkpoints begin with.
const RESERVED_ORIGIN_PREFIX: &str = "logwood-";

/// Host of origins that no public URL vouches for (RFC 2606 §2 reserves `.invalid`).
const NO_HOST: &str = "logwood.invalid";

/// Name of a log within its server: `[a-z0-9][a-z0-9._-]{0,62}`.
///
/// [`FromStr`] refuses the reserved names, which begin with `logwood.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogName(String);

impl LogName {
    /// A name of one of the server's own logs, such as `logwood.audit`. Never for a name that
    /// comes from a user.
    ///
    /// # Errors
    ///
    /// * [`LogNameError::Syntax`] if it is no log name.
    /// * [`LogNameError::NotReserved`] if it is everybody's to use.
    pub fn reserved(name: &str) -> Result<Self, LogNameError> {
        let name = Self::parse(name)?;
        if name.is_reserved() { Ok(name) } else { Err(LogNameError::NotReserved) }
    }

    /// Whether the name is reserved for the server's own logs.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with(RESERVED_NAME_PREFIX)
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(name: &str) -> Result<Self, LogNameError> {
        let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let valid = name.len() <= LOG_NAME_BYTES_MAX
            && name.bytes().next().is_some_and(alphanumeric)
            && name.bytes().all(|byte| alphanumeric(byte) || b"._-".contains(&byte));
        if valid { Ok(Self(name.to_owned())) } else { Err(LogNameError::Syntax) }
    }
}

impl FromStr for LogName {
    type Err = LogNameError;

    /// Parses a name that a user may choose.
    ///
    /// # Errors
    ///
    /// * [`LogNameError::Syntax`] if it is no log name.
    /// * [`LogNameError::Reserved`] if it begins with `logwood.`.
    fn from_str(name: &str) -> Result<Self, LogNameError> {
        let name = Self::parse(name)?;
        if name.is_reserved() { Err(LogNameError::Reserved) } else { Ok(name) }
    }
}

impl AsRef<str> for LogName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a log name was refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogNameError {
    /// The name has other characters than a log name may have, or none, or too many.
    #[error("a log name has 1 to 63 of the characters a-z, 0-9, `.`, `_` and `-`, and begins with a letter or digit")]
    Syntax,
    /// The name is one of the server's own.
    #[error("names that begin with `logwood.` are reserved; choose another")]
    Reserved,
    /// The name should be one of the server's own, and is not.
    #[error("the name is not reserved: it does not begin with `logwood.`")]
    NotReserved,
}

/// Identity of a log in the world, and the name of its key: at most 255 bytes, without Unicode
/// space, `+` and control characters, and never beginning with `logwood-`.
///
/// Fixed when the log is created.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(String);

impl Origin {
    /// Checks that `origin` is one that a log of ours may have.
    ///
    /// # Errors
    ///
    /// * [`OriginError::Syntax`] if it is empty, too long, or has a forbidden character.
    /// * [`OriginError::Reserved`] if a signed text of another kind begins like it.
    pub fn new(origin: &str) -> Result<Self, OriginError> {
        if !is_key_name(origin) {
            return Err(OriginError::Syntax);
        }
        if origin.starts_with(RESERVED_ORIGIN_PREFIX) {
            return Err(OriginError::Reserved);
        }
        Ok(Self(origin.to_owned()))
    }

    /// Origin of the log `name` under `public_url`: `<host and path>/logs/<name>`.
    ///
    /// * `public_url` - `http://` or `https://`, a host (with a port if it has one) and a path;
    ///   slashes at its end do not count.
    ///
    /// # Errors
    ///
    /// * [`OriginError::PublicUrl`] if the URL has another scheme, no host, a user, a query or a
    ///   fragment.
    /// * As [`Origin::new`] for the origin that results.
    pub fn under_public_url(public_url: &str, name: &LogName) -> Result<Self, OriginError> {
        let schemeless = ["https://", "http://"].iter().find_map(|s| public_url.strip_prefix(s));
        let base = schemeless.ok_or(OriginError::PublicUrl)?.trim_end_matches('/');
        let (host, path) = base.split_at(base.find('/').unwrap_or(base.len()));
        if host.is_empty() || host.contains('@') || base.contains(['?', '#']) {
            return Err(OriginError::PublicUrl);
        }
        // Hosts are the same in either case (RFC 3986 §6.2.2.1), origins are compared as bytes.
        Self::new(&format!("{}{path}/logs/{name}", host.to_ascii_lowercase()))
    }

    /// Origin of the log `name` on a server without public URL: `logwood.invalid/<hex>/<name>`.
    ///
    /// * `random` - 128 fresh random bits, so that no two logs share an origin.
    #[must_use]
    pub fn without_public_url(random: [u8; 16], name: &LogName) -> Self {
        Self(format!("{NO_HOST}/{}/{name}", text::hex(&random)))
    }

    /// The origin as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    /// As [`Origin::new`].
    ///
    /// # Errors
    ///
    /// As [`Origin::new`].
    fn from_str(origin: &str) -> Result<Self, OriginError> {
        Self::new(origin)
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.0
    }
}

impl AsRef<str> for Origin {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why an origin was refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum OriginError {
    /// The origin is empty, too long, or has a forbidden character.
    #[error(
        "an origin has 1 to {ORIGIN_BYTES_MAX} bytes, and no space, `+` or control character; shorten or change the public URL"
    )]
    Syntax,
    /// The origin could be taken for the first line of another signed text.
    #[error("no origin begins with `logwood-`; change the public URL")]
    Reserved,
    /// The public URL cannot give an origin.
    #[error("a public URL is https://<host>[:<port>][/<path>], without user, query and fragment")]
    PublicUrl,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(name: &str) -> LogName {
        name.parse().expect("a log name")
    }

    #[test]
    fn names_follow_the_grammar() {
        let longest = "a".repeat(LOG_NAME_BYTES_MAX);
        for accepted in ["a", "0", "a.b_c-d", "default", "logwood", "logwood-x", &longest] {
            assert_eq!(name(accepted).as_str(), accepted);
        }
        let too_long = "a".repeat(LOG_NAME_BYTES_MAX + 1);
        let refused = ["", ".a", "_a", "-a", "A", "aB", "a/b", "a b", "a\0", "a\n", "ä", "a+b", &too_long];
        for refused in refused {
            assert_eq!(refused.parse::<LogName>(), Err(LogNameError::Syntax), "{refused:?}");
        }
    }

    #[test]
    fn reserved_names_need_the_reserved_constructor() {
        assert_eq!("logwood.audit".parse::<LogName>(), Err(LogNameError::Reserved));
        assert!(LogName::reserved("logwood.audit").expect("reserved").is_reserved());
        assert_eq!(LogName::reserved("audit"), Err(LogNameError::NotReserved));
        assert_eq!(LogName::reserved("logwood./"), Err(LogNameError::Syntax));
    }

    #[test]
    fn an_origin_is_the_public_url_without_scheme() {
        for (url, expected) in [
            ("https://log.example", "log.example/logs/pay"),
            ("https://Log.Example/", "log.example/logs/pay"),
            ("http://log.example:8443/Audit//", "log.example:8443/Audit/logs/pay"),
            ("https://[::1]:80/a/b", "[::1]:80/a/b/logs/pay"),
        ] {
            let origin = Origin::under_public_url(url, &name("pay")).expect(url);
            assert_eq!(origin.as_str(), expected, "{url}");
        }
    }

    #[test]
    fn an_origin_without_public_url_is_random() {
        let origin = Origin::without_public_url([0xa5; 16], &name("pay"));
        assert_eq!(origin.as_str(), "logwood.invalid/a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5/pay");
        assert_eq!(Origin::new(origin.as_str()), Ok(origin));
    }

    #[test]
    fn public_urls_that_are_no_origin_are_refused() {
        for url in
            ["", "log.example", "ftp://a", "https://", "https:///a", "https://u@a", "https://a?b", "https://a/#b"]
        {
            let refused = Origin::under_public_url(url, &name("pay"));
            assert_eq!(refused, Err(OriginError::PublicUrl), "{url:?}");
        }
        let long = format!("https://{}", "a".repeat(ORIGIN_BYTES_MAX));
        for url in ["https://a b", "https://a+b", "https://a/\u{2003}", "https://a\n", &long] {
            let refused = Origin::under_public_url(url, &name("pay"));
            assert_eq!(refused, Err(OriginError::Syntax), "{url:?}");
        }
        let refused = Origin::under_public_url("https://logwood-seal", &name("pay"));
        assert_eq!(refused, Err(OriginError::Reserved));
    }

    proptest! {
        #[test]
        fn arbitrary_urls_never_panic(url in "(https://)?.{0,40}") {
            if let Ok(origin) = Origin::under_public_url(&url, &name("pay")) {
                prop_assert_eq!(Origin::new(origin.as_str()), Ok(origin.clone()));
            }
        }
    }
}

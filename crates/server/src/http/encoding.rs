//! `Accept-Encoding` (RFC 9110 §12.5.3): which encodings of a bundle a client takes.

use hyper::HeaderMap;
use hyper::header::ACCEPT_ENCODING;

/// What a client takes besides the bytes as they are, which everybody takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Accepted {
    pub(super) gzip: bool,
    pub(super) zstd: bool,
}

impl Accepted {
    /// Reads the field. What is malformed counts as not said. `*` takes neither: a client that cannot name an encoding
    /// is given the plain bytes.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut accepted = Self::default();
        let lines = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        for element in lines.flat_map(|line| line.split(',')) {
            let (coding, parameters) = element.split_once(';').unwrap_or((element, ""));
            let takes = !is_refused(parameters);
            match coding.trim() {
                coding if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") => {
                    accepted.gzip = takes;
                }
                coding if coding.eq_ignore_ascii_case("zstd") => accepted.zstd = takes,
                _ => {}
            }
        }
        accepted
    }
}

/// Whether the parameters hold a weight of 0, or one that is no number.
fn is_refused(parameters: &str) -> bool {
    let weight = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim())
    });
    weight.is_some_and(|weight| !weight.parse::<f32>().is_ok_and(|weight| weight > 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoding_is_taken_if_it_is_named_with_a_weight_above_zero() {
        let table = [
            ("", false, false),
            ("gzip", true, false),
            ("GZIP", true, false),
            ("deflate, gzip, br, zstd", true, true),
            ("gzip;q=0", false, false),
            ("gzip; q=0.000, zstd;q=0.1", false, true),
            ("gzip;q=1;x=y", true, false),
            ("gzip;q=much", false, false),
            ("*", false, false),
            ("identity", false, false),
            ("gzipped", false, false),
        ];
        for (value, gzip, zstd) in table {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, value.parse().expect("a field value"))]);
            assert_eq!(Accepted::of(&headers), Accepted { gzip, zstd }, "{value}");
        }
        assert_eq!(Accepted::of(&HeaderMap::new()), Accepted::default());
    }
}

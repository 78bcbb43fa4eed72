//! The `X-Amzn-SageMaker-Custom-Attributes` header, the only one that SageMaker hands through in
//! both directions.
//!
//! In a request it carries group attributes, `site=north,shift=night`; in an answer the digest of
//! the version that answered, `mloop-digest=…`. SageMaker allows 1,024 visible ASCII characters.

use std::collections::BTreeMap;

use crate::digest::Sha256Digest;

/// The header.
pub const CUSTOM_ATTRIBUTES_HEADER: &str = "x-amzn-sagemaker-custom-attributes";

/// The header with the caller's id of a request.
pub const INFERENCE_ID_HEADER: &str = "x-amzn-sagemaker-inference-id";

/// Key under which an answer carries the digest of the version that gave it.
const DIGEST_KEY: &str = "mloop-digest";

/// Reads `key=value` pairs separated by commas; what is no pair is left out.
#[must_use]
pub fn parse(header: &str) -> BTreeMap<String, String> {
    let pairs = header.split(',').filter_map(|pair| pair.split_once('='));
    let trimmed = pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()));
    trimmed.filter(|(key, value)| !key.is_empty() && !value.is_empty()).collect()
}

/// The header of an answer.
#[must_use]
pub fn of_answer(digest: &Sha256Digest) -> String {
    format!("{DIGEST_KEY}={digest}")
}

/// The digest that the header of an answer carries.
#[must_use]
pub fn digest_of(header: &str) -> Option<Sha256Digest> {
    parse(header).get(DIGEST_KEY)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_and_rubbish_is_left_out() {
        let found = parse(" site = north ,nonsense,=x,shift=,a=b=c");
        let expected = [("a", "b=c"), ("site", "north")];
        assert_eq!(found, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    }

    #[test]
    fn the_digest_of_an_answer_survives_the_header() {
        let digest = Sha256Digest::of(b"version");
        assert_eq!(digest_of(&of_answer(&digest)), Some(digest));
        assert_eq!(digest_of("mloop-digest=short"), None);
    }
}

//! Names that derive from what they name, so that a repeat finds what the first try made.
//!
//! `mloop-{model}-{12 digits of the version}-{10 digits of everything else}`: at most 63 characters,
//! the beginning of which an IAM policy can name.

use mloop_core::{ModelName, Sha256Digest};

/// What all names of models and configurations begin with.
pub(crate) const PREFIX: &str = "mloop-";

const MODEL_CHARACTERS: usize = 32;
const VERSION_DIGITS: usize = 12;
const INPUT_DIGITS: usize = 10;

/// The name of something that belongs to a version and is made with `inputs`.
pub(crate) fn derived(model: &ModelName, version: Sha256Digest, inputs: Sha256Digest) -> String {
    let model: String = model.as_str().chars().take(MODEL_CHARACTERS).collect();
    format!(
        "{PREFIX}{}-{}-{}",
        model.trim_end_matches('-'),
        version.short(VERSION_DIGITS),
        inputs.short(INPUT_DIGITS)
    )
}

/// Whether a name is one that mloop gives to what belongs to a version.
pub(crate) fn belongs(name: &str, version: Sha256Digest) -> bool {
    let mut parts = name.rsplitn(3, '-');
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let inputs = parts.next().is_some_and(|part| part.len() == INPUT_DIGITS && is_hex(part));
    let digits = parts.next() == Some(version.short(VERSION_DIGITS).as_str());
    inputs && digits && parts.next().is_some_and(|rest| rest.starts_with(PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_valid_short_and_know_their_version() {
        let [version, other, inputs] = [&b"version"[..], b"other", b"in"].map(Sha256Digest::of);
        for model in ["fashion", &"x".repeat(63), &format!("{}-y", "x".repeat(31))] {
            let name = derived(&ModelName::new(model).expect("a name"), version, inputs);
            // mloop's own rule for names is SageMaker's.
            assert!(ModelName::new(name.as_str()).is_ok(), "{name}");
            assert!(belongs(&name, version) && !belongs(&name, other), "{name}");
        }
        let stranger = format!("theirs-{}-0123456789", version.short(12));
        assert!(!belongs(&stranger, version));
        assert!(!belongs("mloop-fashion-manual", version));
    }
}

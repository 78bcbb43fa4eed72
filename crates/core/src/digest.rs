//! SHA-256 digests and the canonical JSON that they are taken of.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest; shown and serialised as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256Digest([u8; 32]);

/// A text that is not 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a SHA-256 digest: 64 hexadecimal digits are expected")]
pub struct InvalidDigest(String);

impl Sha256Digest {
    /// The digest of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of a value's [`canonical_json`].
    ///
    /// # Errors
    /// When the value does not serialise to JSON (a map with keys that are no strings).
    pub fn of_json(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        Ok(Self::of(canonical_json(value)?.as_bytes()))
    }

    /// The first `digits` hexadecimal digits (at most 64), for names and messages.
    #[must_use]
    pub fn short(&self, digits: usize) -> String {
        let mut text = hex::encode(self.0);
        text.truncate(digits);
        text
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A digest under way: of bytes that come in parts, such as those of a large file.
#[derive(Debug, Clone, Default)]
pub struct PartialDigest(Sha256);

impl PartialDigest {
    /// Takes the next bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all of them.
    #[must_use]
    pub fn finish(self) -> Sha256Digest {
        Sha256Digest(self.0.finalize().into())
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256Digest({self})")
    }
}

impl FromStr for Sha256Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| InvalidDigest(text.to_owned()))?;
        Ok(Self(bytes))
    }
}

impl Serialize for Sha256Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// JSON with sorted keys and no white space: equal values give equal bytes on every machine.
///
/// # Errors
/// When the value does not serialise to JSON.
pub fn canonical_json(value: &impl Serialize) -> Result<String, serde_json::Error> {
    // Sorted here rather than left to serde_json's map, whose order depends on a feature that any
    // crate of the final program may switch on.
    serde_json::to_string(&Sorted(&serde_json::to_value(value)?))
}

struct Sorted<'a>(&'a Value);

impl Serialize for Sorted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Array(items) => serializer.collect_seq(items.iter().map(Sorted)),
            Value::Object(map) => {
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_unstable_by_key(|(key, _)| key.as_str());
                serializer.collect_map(entries.into_iter().map(|(key, item)| (key, Sorted(item))))
            }
            other => other.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_json_sorts_keys_at_every_depth() {
        let value = serde_json::json!({"b": [{"z": 1, "a": 2}], "a": null});
        assert_eq!(canonical_json(&value).expect("json"), r#"{"a":null,"b":[{"a":2,"z":1}]}"#);
    }

    #[test]
    fn digest_round_trips_and_refuses_other_text() {
        let digest = Sha256Digest::of(b"abc");
        // FIPS 180-2, appendix B.1.
        let published = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), published);
        assert_eq!(published.parse(), Ok(digest));
        assert!("ba78".parse::<Sha256Digest>().is_err());
    }

    #[test]
    fn parts_have_the_digest_of_the_whole() {
        let mut parts = PartialDigest::default();
        assert_eq!(parts.clone().finish(), Sha256Digest::of(b""));
        for part in [b"a".as_slice(), b"", b"bc"] {
            parts.add(part);
        }
        assert_eq!(parts.finish(), Sha256Digest::of(b"abc"));
    }
}

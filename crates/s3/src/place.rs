//! Where in S3: `s3://bucket/prefix`.

use std::fmt;
use std::str::FromStr;

/// A bucket, and the folder in it that all keys are below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub(crate) bucket: String,
    /// Empty, or ended by `/`.
    pub(crate) prefix: String,
}

impl Place {
    /// What such a place begins with.
    pub const SCHEME: &'static str = "s3://";

    /// The key of what is named below this place.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}/{}", Self::SCHEME, self.bucket, self.prefix)
    }
}

impl FromStr for Place {
    /// What is wrong, in words.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix(Self::SCHEME);
        let rest = rest.ok_or("must be a place in S3: s3://bucket/prefix")?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        // The rules for names of buckets, without those that only Amazon keeps.
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(allowed) {
            return Err(format!(
                "`{bucket}` is no name of a bucket: 3 to 63 letters, digits, `.`, `-` or `_`"
            ));
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        if prefix.is_empty() {
            return Ok(Self { bucket: bucket.to_owned(), prefix: String::new() });
        }
        if prefix.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(format!("`{prefix}` has a part that is empty, `.` or `..`"));
        }
        if prefix.contains(char::is_control) {
            return Err("the prefix holds control characters".to_owned());
        }
        Ok(Self { bucket: bucket.to_owned(), prefix: format!("{prefix}/") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_bucket_and_a_folder() {
        for (text, shown) in [
            ("s3://models", Some("s3://models/")),
            ("s3://models/", Some("s3://models/")),
            ("s3://models/captured", Some("s3://models/captured/")),
            ("s3://models/a b/captured/", Some("s3://models/a b/captured/")),
            ("models/captured", None),
            ("S3://models/captured", None),
            ("s3://", None),
            ("s3:///captured", None),
            ("s3://mo", None),
            ("s3://mod els/captured", None),
            ("s3://user:password@models/captured", None),
            ("s3://models//captured", None),
            ("s3://models/captured//", None),
            ("s3://models/../captured", None),
            ("s3://models/cap\ntured", None),
        ] {
            let place = text.parse::<Place>().ok().map(|place| place.to_string());
            assert_eq!(place.as_deref(), shown, "{text:?}");
        }
        let place: Place = "s3://models/captured".parse().expect("a place");
        assert_eq!(place.key("shop/x.jsonl"), "captured/shop/x.jsonl");
    }
}

//! Names that people give and ids that mloop derives, each its own type.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Sha256Digest;

/// Longest name: what Kubernetes labels and SageMaker resources allow.
const MAX_NAME: usize = 63;

/// A name that could not stand in a file path, a label or a resource name everywhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a valid name: 1 to 63 letters, digits and single hyphens, beginning and ending with a letter or digit"
)]
pub struct InvalidName(String);

/// SageMaker's rule for resource names, the strictest among the services that see our names.
fn check_name(text: &str) -> Result<(), InvalidName> {
    let bytes = text.as_bytes();
    let ends_well = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let inside = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    if bytes.len() <= MAX_NAME && inside && ends_well(bytes.first()) && ends_well(bytes.last()) {
        return Ok(());
    }
    Err(InvalidName(text.to_owned()))
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(with = "String", extend("pattern" = r"^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$"))]
        pub struct $type(String);

        impl $type {
            /// Checks and wraps a name.
            ///
            /// # Errors
            /// [`InvalidName`] when it breaks the rule that all services share.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
                let text = text.into();
                check_name(&text)?;
                Ok(Self(text))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::new(text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::new(text)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// What a model is called in the registry and everywhere else.
    ModelName
}
name! {
    /// Where a model serves, such as `production-eu`: one model can have several targets.
    TargetName
}
name! {
    /// An endpoint that answers requests.
    EndpointName
}

/// One model at one place: what a loop turns for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Subject {
    /// The model.
    pub model: ModelName,
    /// Where it serves.
    pub target: TargetName,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.model, self.target)
    }
}

macro_rules! derived_id {
    ($(#[$doc:meta])* $type:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(with = "String")]
        pub struct $type(String);

        impl $type {
            /// Derives the id from what identifies the thing: equal parts give an equal id, on
            /// every host, which is what makes a repeat find the first try.
            #[must_use]
            pub fn derive(parts: &[&str]) -> Self {
                // Lengths keep ("ab", "c") and ("a", "bc") apart.
                let text: String =
                    parts.iter().map(|part| format!("{}:{part};", part.len())).collect();
                Self(format!(concat!($prefix, "-{}"), Sha256Digest::of(text.as_bytes()).short(20)))
            }

            /// The id as text; it is also a valid name.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                check_name(&text)?;
                Ok(Self(text))
            }
        }

        impl From<$type> for String {
            fn from(id: $type) -> String {
                id.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::try_from(text.to_owned())
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

derived_id! {
    /// One run of a binary; derived from what it was asked to do, so a repeat has the same id.
    RunId, "run"
}
derived_id! {
    /// One cause of retraining: model, target, serving version and attempt.
    EpisodeId, "episode"
}
derived_id! {
    /// One training job; derived from its episode.
    JobId, "job"
}
derived_id! {
    /// One journey of a version to production.
    DeploymentId, "deployment"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_strictest_service() {
        for good in ["a", "fashion", "Fashion-2", &"x".repeat(63)] {
            assert!(ModelName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "a_b", "a/b", "..", "é", &"x".repeat(64)] {
            assert!(ModelName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn derived_ids_depend_on_every_part_and_its_border() {
        let id = RunId::derive(&["ab", "c"]);
        assert_eq!(id, RunId::derive(&["ab", "c"]));
        assert_ne!(id, RunId::derive(&["a", "bc"]));
        assert!(ModelName::new(id.as_str()).is_ok());
    }
}

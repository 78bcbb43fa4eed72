//! Secrets: by reference in the configuration, never shown.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A secret in memory. Its `Debug` shows nothing, and it has no `Display` and no `Serialize`, so that
/// it can get into no log and no record.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the one call that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why a reference leads to no secret. Holds the reference, never the secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The variable is not set, or empty.
    #[error("the environment variable `{0}` is not set; the secret is expected there")]
    NotInEnvironment(String),
    /// The file cannot be read, or is empty.
    #[error("the secret's file {path} cannot be used: {problem}")]
    File {
        /// The file.
        path: String,
        /// Why not.
        problem: String,
    },
}

/// Where references to secrets lead. `mloop-config` has the one that programs use.
pub trait Secrets: Send + Sync {
    /// The secret that an environment variable holds.
    ///
    /// # Errors
    /// [`SecretError::NotInEnvironment`].
    fn in_env(&self, name: &str) -> Result<Secret, SecretError>;

    /// The secret that a file holds, without the line end that editors leave.
    ///
    /// # Errors
    /// [`SecretError::File`].
    fn in_file(&self, path: &Path) -> Result<Secret, SecretError>;
}

/// Secrets of a program that has none: every reference leads nowhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSecrets;

impl NoSecrets {
    /// To be handed over.
    #[must_use]
    pub fn shared() -> Arc<dyn Secrets> {
        Arc::new(Self)
    }
}

impl Secrets for NoSecrets {
    fn in_env(&self, name: &str) -> Result<Secret, SecretError> {
        Err(SecretError::NotInEnvironment(name.to_owned()))
    }

    fn in_file(&self, path: &Path) -> Result<Secret, SecretError> {
        let problem = "this program was given no secrets".to_owned();
        Err(SecretError::File { path: path.display().to_string(), problem })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "Secret(…) Some(Secret(…))");
        assert_eq!(secret.reveal(), "hunter2");
    }
}

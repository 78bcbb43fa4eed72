//! Why S3 did not answer as asked.

use mloop_platform::PlatformError;

/// Sorted by what the caller can do about it. `place` is `s3://bucket/key`, `said` what the store or the
/// system said, without anything that was signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum S3Error {
    /// No answer, half of one, a late one, or one that says that the store is busy: later may help.
    #[error("{place}: {system} cannot be reached or is busy: {said}")]
    Unavailable {
        /// Where the store is.
        system: String,
        /// What was asked for.
        place: String,
        /// What happened.
        said: String,
    },
    /// There are no credentials, or they are wrong, have expired, or do not permit this.
    #[error("{place}: {system} refused the credentials: {said}")]
    Denied {
        /// Where the store is.
        system: String,
        /// What was asked for.
        place: String,
        /// What the store said.
        said: String,
    },
    /// There is no such bucket.
    #[error("there is no bucket `{bucket}` in {system}")]
    NoBucket {
        /// Where the store is.
        system: String,
        /// Its name.
        bucket: String,
    },
    /// The object is not the one that was listed.
    #[error("{place} was replaced or removed since it was listed")]
    Changed {
        /// Where the store is.
        system: String,
        /// Which object.
        place: String,
    },
    /// The store refuses the request as it is, or does not speak S3's protocol.
    #[error("{place}: {system} refused the request: {said}")]
    Refused {
        /// Where the store is.
        system: String,
        /// What was asked for.
        place: String,
        /// What the store said.
        said: String,
    },
}

impl S3Error {
    /// Whether the same call may succeed later. For an object that was replaced only a new listing helps.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// As a contract's caller knows it; `doing` says what for.
    #[must_use]
    pub fn platform(self, doing: &str) -> PlatformError {
        match self {
            Self::Unavailable { system, place, said } => {
                PlatformError::unavailable(system, format!("{doing}: {place}"), said)
            }
            // The next look lists it as it is then.
            Self::Changed { ref system, .. } => {
                PlatformError::unavailable(system.clone(), doing, self)
            }
            Self::Denied { system, place, said } => {
                let doing = format!("{doing}: {place}");
                PlatformError::Denied { system, doing, cause: said.into() }
            }
            Self::NoBucket { .. } => {
                let problem = format!(
                    "{self}; correct the place or the `region` in the configuration, or create the bucket"
                );
                PlatformError::invalid(doing, problem)
            }
            Self::Refused { .. } => {
                let problem = format!(
                    "{self}; correct the place, the `region` or the `endpoint_url` in the configuration"
                );
                PlatformError::invalid(doing, problem)
            }
        }
    }
}

impl From<S3Error> for std::io::Error {
    /// For readers; the error is found again by `get_ref`.
    fn from(error: S3Error) -> Self {
        Self::other(error)
    }
}

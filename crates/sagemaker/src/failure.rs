//! What an answer of AWS, or none, means: one policy for the three services.
//!
//! | what came | class | what is done |
//! |---|---|---|
//! | throttling, 5xx, no or half an answer, time-out | `Busy` | repeated with back-off: by the SDK what only looks, after a look what changes something; then the caller tries again later |
//! | expired, missing or wrong credentials, no permission, a skewed clock | `Denied` | told at once |
//! | "Could not find …", `NoSuchKey` | `Missing` | an answer to a look; after a creation it may not be to be seen yet, so it is asked again |
//! | "Cannot create already existing …", `ResourceInUse`, 412 | `Exists` | a look: ours is adopted, another is a conflict |
//! | "Cannot update in-progress …" | `InProgress` | a look: ours is adopted, else later |
//! | quota, other 4xx | `Refused` | a person must look: Amazon refuses settings and rights, never the version itself, which may go on once that is mended |
//! | (a version that cannot be packed) | `Unfit` | it is the version's fault, and it stays so |
//! | (the run that asked was overtaken) | `Withdrawn` | the call is not made |

use std::error::Error;

use aws_sdk_sagemaker::error::{ProvideErrorMetadata, SdkError};
use mloop_core::{BoxError, error_chain};
use mloop_deployer::DeployError;
use mloop_platform::PlatformError;

/// What a failed call means for what is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Busy,
    Denied,
    Missing,
    Exists,
    InProgress,
    Refused,
    Unfit,
    Withdrawn,
}

/// A failed call.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) class: Class,
    /// AWS's code and words.
    pub(crate) said: String,
    cause: BoxError,
}

impl Failure {
    /// Of an error of any of the SDK's clients.
    pub(crate) fn of<E>(error: SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let (class, said) = match &error {
            SdkError::ServiceError(service) => {
                let status = service.raw().status().as_u16();
                let (code, message) = (service.err().code(), service.err().message());
                let said = match (code, message) {
                    (Some(code), Some(message)) => format!("{code}: {message}"),
                    (Some(code), None) => code.to_owned(),
                    (None, _) => format!("status {status}"),
                };
                (classify(code.unwrap_or_default(), message.unwrap_or_default(), status), said)
            }
            SdkError::ConstructionFailure(_) | SdkError::DispatchFailure(_) => {
                let chain = error_chain(&error);
                let class = if lacks_credentials(&chain) { Class::Denied } else { Class::Busy };
                (class, chain)
            }
            _ => (Class::Busy, error_chain(&error)),
        };
        Self { class, said, cause: error.into() }
    }

    /// A failure that is found here, not told by AWS.
    pub(crate) fn here(class: Class, said: impl Into<String>) -> Self {
        let said = said.into();
        Self { class, cause: said.clone().into(), said }
    }

    /// What was made a moment before may be seen by a later call.
    pub(crate) fn not_seen_yet(self) -> Self {
        if self.is_missing() { Self { class: Class::Busy, ..self } } else { self }
    }

    /// What is missing has not been made a moment before, so that waiting does not help.
    pub(crate) fn for_good(self) -> Self {
        if self.is_missing() { Self { class: Class::Refused, ..self } } else { self }
    }

    pub(crate) fn is_missing(&self) -> bool {
        self.class == Class::Missing
    }

    pub(crate) fn deploying(self, system: &str, doing: &str) -> DeployError {
        let (system, doing) = (system.to_owned(), doing.to_owned());
        match self.class {
            Class::Busy | Class::InProgress => DeployError::Unavailable {
                system,
                doing,
                hint: format!("it said `{}`; run again later", self.said),
                cause: self.cause,
            },
            Class::Denied => DeployError::Denied { system, doing, cause: self.cause },
            Class::Exists | Class::Missing | Class::Refused => {
                DeployError::Conflict { doing, problem: self.said }
            }
            Class::Unfit => DeployError::Refused { doing, problem: self.said },
            Class::Withdrawn => DeployError::Withdrawn { doing },
        }
    }

    pub(crate) fn submitting(self, system: &str, doing: &str) -> PlatformError {
        let (system, doing) = (system.to_owned(), doing.to_owned());
        match self.class {
            Class::Busy | Class::InProgress => {
                PlatformError::Unavailable { system, doing, cause: self.cause }
            }
            Class::Denied => PlatformError::Denied { system, doing, cause: self.cause },
            Class::Exists => PlatformError::conflict(doing, self.said),
            Class::Missing | Class::Refused | Class::Unfit | Class::Withdrawn => {
                PlatformError::invalid(doing, self.said)
            }
        }
    }
}

const THROTTLING: [&str; 8] = [
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "SlowDown",
];

const CREDENTIALS: [&str; 17] = [
    "AccessDenied",
    "AccessDeniedException",
    "NotAuthorized",
    "UnauthorizedOperation",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "InvalidAccessKeyId",
    "InvalidToken",
    "ExpiredToken",
    "ExpiredTokenException",
    "TokenRefreshRequired",
    "IncompleteSignature",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "OptInRequired",
];

/// What an error that AWS told means.
fn classify(code: &str, message: &str, status: u16) -> Class {
    let says = |words: &str| message.contains(words);
    if THROTTLING.contains(&code) || status == 429 || status >= 500 {
        return Class::Busy;
    }
    match code {
        _ if CREDENTIALS.contains(&code) => Class::Denied,
        "RequestTimeTooSkewed" | "RequestExpired" => Class::Denied,
        "RequestTimeout" | "RequestTimeoutException" => Class::Busy,
        "ResourceInUse" | "PreconditionFailed" => Class::Exists,
        // Another writes the same object at this moment: S3 asks for another try.
        "ConditionalRequestConflict" => Class::Busy,
        "ResourceNotFound" | "NoSuchKey" | "NotFound" => Class::Missing,
        "NoSuchBucket" => Class::Refused,
        _ if says("already existing") => Class::Exists,
        _ if says("in-progress") => Class::InProgress,
        _ if says("Could not find") || says("Requested resource not found") => Class::Missing,
        // HEAD has no body, and so no code.
        _ => match status {
            401 | 403 => Class::Denied,
            404 => Class::Missing,
            409 | 412 => Class::Exists,
            _ => Class::Refused,
        },
    }
}

/// Whether a call was not even sent, for want of credentials.
fn lacks_credentials(chain: &str) -> bool {
    let chain = chain.to_lowercase();
    chain.contains("credential") && !chain.contains("timed out")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_has_its_class() {
        for (code, message, status, expected) in [
            ("ThrottlingException", "Rate exceeded", 400, Class::Busy),
            ("SlowDown", "", 503, Class::Busy),
            ("", "", 429, Class::Busy),
            ("InternalFailure", "", 500, Class::Busy),
            ("ValidationException", "Could not find endpoint \"arn\".", 400, Class::Missing),
            ("ValidationException", "Requested resource not found.", 400, Class::Missing),
            (
                "ValidationException",
                "Cannot create already existing model \"x\".",
                400,
                Class::Exists,
            ),
            (
                "ValidationException",
                "Cannot update in-progress endpoint \"x\".",
                400,
                Class::InProgress,
            ),
            ("ValidationException", "1 validation error detected", 400, Class::Refused),
            ("ResourceLimitExceeded", "The account-level service limit", 400, Class::Refused),
            ("ResourceInUse", "Training job names must be unique", 400, Class::Exists),
            ("ExpiredTokenException", "", 400, Class::Denied),
            ("UnrecognizedClientException", "", 400, Class::Denied),
            ("AccessDeniedException", "is not authorized", 400, Class::Denied),
            ("", "", 403, Class::Denied),
            ("", "", 404, Class::Missing),
            ("PreconditionFailed", "", 412, Class::Exists),
            ("NoSuchBucket", "", 404, Class::Refused),
        ] {
            assert_eq!(classify(code, message, status), expected, "{code} {message} {status}");
        }
    }

    #[test]
    fn a_call_without_credentials_is_no_matter_of_the_network() {
        for (chain, expected) in [
            ("dispatch failure: other: no providers in chain provided credentials", true),
            ("dispatch failure: io error: connection refused", false),
            ("dispatch failure: other: credential provider timed out after 5 s", false),
        ] {
            assert_eq!(lacks_credentials(chain), expected, "{chain}");
        }
    }
}

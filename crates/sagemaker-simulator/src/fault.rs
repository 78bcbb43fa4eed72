//! What goes wrong on request.
//!
//! Faults are a script: each waits for the first call or change that it fits, in the order in which
//! they were given, and is used up then (after `times` of them, for calls).

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

fn once() -> u32 {
    1
}

/// One thing that goes wrong. `operation` is a call such as `UpdateEndpoint` or `InvokeEndpoint`,
/// `endpoint` the name of an endpoint; without one, any is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// A call is answered with `ThrottlingException` and has no effect.
    Throttle {
        /// Which call.
        operation: Option<String>,
        /// How many.
        #[serde(default = "once")]
        times: u32,
    },
    /// A call has its effect, and the connection is closed without an answer.
    LoseAnswer {
        /// Which call.
        operation: Option<String>,
        /// How many.
        #[serde(default = "once")]
        times: u32,
    },
    /// The connection is closed before a call has an effect.
    LoseRequest {
        /// Which call.
        operation: Option<String>,
        /// How many.
        #[serde(default = "once")]
        times: u32,
    },
    /// What a call names is not to be seen yet, though it was made: eventual consistency.
    NotFound {
        /// Which call.
        operation: Option<String>,
        /// How many.
        #[serde(default = "once")]
        times: u32,
    },
    /// A call is answered with this error and has no effect.
    Error {
        /// Which call.
        operation: Option<String>,
        /// How many.
        #[serde(default = "once")]
        times: u32,
        /// HTTP status.
        status: u16,
        /// Such as `ExpiredTokenException`.
        code: String,
        /// For people.
        message: String,
    },
    /// A call is answered so much later.
    Slow {
        /// Which call.
        operation: Option<String>,
        /// How many.
        #[serde(default = "once")]
        times: u32,
        /// How much later.
        millis: u64,
    },
    /// An update is undone: the endpoint is `InService` again, with what it served before.
    SilentRollback {
        /// Which endpoint.
        endpoint: Option<String>,
        /// `FailureReason`; SageMaker often gives none.
        reason: Option<String>,
    },
    /// A creation or an update ends in `Failed`.
    Failed {
        /// Which endpoint.
        endpoint: Option<String>,
        /// `FailureReason`.
        reason: Option<String>,
    },
    /// An update fails and so does going back: `UpdateRollbackFailed`.
    UpdateRollbackFailed {
        /// Which endpoint.
        endpoint: Option<String>,
        /// `FailureReason`.
        reason: Option<String>,
    },
    /// A creation or an update ends in `OutOfService`.
    OutOfService {
        /// Which endpoint.
        endpoint: Option<String>,
        /// `FailureReason`.
        reason: Option<String>,
    },
    /// A creation or an update never ends.
    Stuck {
        /// Which endpoint.
        endpoint: Option<String>,
    },
    /// The next description of an endpoint in service finds it in `SystemUpdating` for so long.
    SystemUpdating {
        /// Which endpoint.
        endpoint: Option<String>,
        /// How long.
        millis: u64,
    },
    /// A training job ends with this status (`Failed`, `Stopped`) without running its command.
    JobEnds {
        /// The status.
        status: String,
        /// `FailureReason`.
        reason: Option<String>,
    },
}

/// What befalls a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CallFault {
    Throttle,
    LoseAnswer,
    LoseRequest,
    NotFound,
    Error { status: u16, code: String, message: String },
    Slow { millis: u64 },
}

/// The script.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<Vec<Fault>>);

impl Faults {
    pub(crate) fn add(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().extend(faults);
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    pub(crate) fn waiting(&self) -> Vec<Fault> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Fault>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first fault that fits a call.
    pub(crate) fn for_call(&self, called: &str) -> Option<CallFault> {
        let mut faults = self.lock();
        let fits = |wanted: &Option<String>| wanted.as_deref().is_none_or(|name| name == called);
        for (index, fault) in faults.iter_mut().enumerate() {
            let (operation, times, found) = match fault {
                Fault::Throttle { operation, times } => (operation, times, CallFault::Throttle),
                Fault::LoseAnswer { operation, times } => (operation, times, CallFault::LoseAnswer),
                Fault::LoseRequest { operation, times } => {
                    (operation, times, CallFault::LoseRequest)
                }
                Fault::NotFound { operation, times } => (operation, times, CallFault::NotFound),
                Fault::Error { operation, times, status, code, message } => {
                    let (status, code, message) = (*status, code.clone(), message.clone());
                    (operation, times, CallFault::Error { status, code, message })
                }
                Fault::Slow { operation, times, millis } => {
                    (operation, times, CallFault::Slow { millis: *millis })
                }
                _ => continue,
            };
            if !fits(operation) {
                continue;
            }
            *times = times.saturating_sub(1);
            if *times == 0 {
                faults.remove(index);
            }
            return Some(found);
        }
        None
    }

    /// The first fault of those that `wanted` takes, taken out of the script.
    pub(crate) fn take(&self, wanted: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let mut faults = self.lock();
        let index = faults.iter().position(wanted)?;
        Some(faults.remove(index))
    }

    /// The first fault that fits a change of an endpoint.
    pub(crate) fn for_change(&self, changed: &str, is_update: bool) -> Option<Fault> {
        let is = |wanted: &Option<String>| wanted.as_deref().is_none_or(|name| name == changed);
        self.take(|fault| match fault {
            Fault::SilentRollback { endpoint, .. }
            | Fault::UpdateRollbackFailed { endpoint, .. } => is_update && is(endpoint),
            Fault::Failed { endpoint, .. }
            | Fault::OutOfService { endpoint, .. }
            | Fault::Stuck { endpoint } => is(endpoint),
            _ => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(json: &str) -> Faults {
        let faults = Faults::default();
        faults.add(serde_json::from_str::<Vec<Fault>>(json).expect("a script"));
        faults
    }

    #[test]
    fn calls_use_faults_up_in_their_order() {
        let faults = script(
            r#"[{"fault": "throttle", "operation": "DescribeModel", "times": 2},
                {"fault": "lose_answer"}]"#,
        );
        assert_eq!(faults.for_call("DescribeModel"), Some(CallFault::Throttle));
        assert_eq!(faults.for_call("CreateModel"), Some(CallFault::LoseAnswer));
        assert_eq!(faults.for_call("CreateModel"), None);
        assert_eq!(faults.for_call("DescribeModel"), Some(CallFault::Throttle));
        assert_eq!(faults.for_call("DescribeModel"), None);
        assert_eq!(faults.waiting(), vec![]);
    }

    #[test]
    fn changes_wait_for_their_endpoint_and_kind() {
        let faults = script(
            r#"[{"fault": "silent_rollback", "endpoint": "production"}, {"fault": "stuck"}]"#,
        );
        assert_eq!(faults.for_change("production", false), Some(Fault::Stuck { endpoint: None }));
        assert_eq!(faults.for_change("staging", true), None);
        assert!(faults.for_change("production", true).is_some());
        assert!(serde_json::from_str::<Fault>(r#"{"fault": "stuck", "endpont": "x"}"#).is_err());
    }
}

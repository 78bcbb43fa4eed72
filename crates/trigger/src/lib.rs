//! The contract of triggers: pure decisions over what the ledger knows.
//!
//! ```
//! use mloop_trigger::TriggerRegistry;
//!
//! let registry: TriggerRegistry = TriggerRegistry::new("trigger");
//! assert_eq!(registry.kinds().count(), 0);
//! ```

#[cfg(feature = "testing")]
pub mod conformance;

use mloop_core::history::{History, Verdict};
use mloop_core::registry::KindRegistry;

pub use mloop_core::registry::{BuildError, Spec};

/// All kinds of triggers that a program knows.
pub type TriggerRegistry = KindRegistry<Box<dyn Trigger>>;

/// Decides whether the recent past asks for a retraining.
///
/// # Contract
/// - Synchronous and pure: equal histories give equal verdicts, on any host at any time.
/// - An empty history is `cannot_tell` or, for triggers of time, judged by what is known; never a
///   `yes` that rests on nothing.
/// - The reason is one sentence with the numbers that decided.
#[cfg_attr(feature = "testing", mockall::automock)]
pub trait Trigger: Send + Sync {
    /// Stable name, unique within a run.
    fn name(&self) -> &str;

    /// Judges the past.
    fn check(&self, history: &History) -> Verdict;
}

/// How verdicts become one decision; implemented beside the triggers, called by the orchestrator.
#[cfg_attr(feature = "testing", mockall::automock)]
pub trait Policy: Send + Sync {
    /// The decision over all verdicts, given in the order of the triggers.
    fn decide(&self, history: &History, verdicts: &[(String, Verdict)]) -> Decision;
}

/// What all triggers together amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Retrain: the verdicts that said yes, in order.
    Retrain(Vec<(String, Verdict)>),
    /// No trigger asks for it.
    No,
    /// No trigger asks for it, and at least one could not tell.
    CannotTell,
    /// Retraining is held back, whatever the triggers say.
    Held {
        /// One sentence.
        reason: String,
    },
}

#[cfg(feature = "testing")]
impl MockTrigger {
    /// A mock of that name that must be asked exactly once and answers with `verdict`.
    #[must_use]
    pub fn answering(name: &str, verdict: Verdict) -> Self {
        let mut mock = Self::new();
        mock.expect_name().return_const(name.to_owned());
        mock.expect_check().once().return_const(verdict);
        mock
    }
}

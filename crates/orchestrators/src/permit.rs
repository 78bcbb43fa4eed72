//! The permission to change an endpoint: asked for by the deployer directly before its call.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use mloop_core::Clock;
use mloop_core::deployment::ChangeCall;
use mloop_core::failpoint::reach;
use mloop_deployer::Permission;
use mloop_platform::Journal;

use crate::OrchestratorError;
use crate::lease::Held;

/// A permission that holds as long as the run's lease.
///
/// Giving it is the last look before the change: the lease is extended, and a call that changes
/// production is announced in the journal. What is left is the moment between this answer and the call.
pub(crate) struct Permit {
    pub(crate) held: Held,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Passed when it is given.
    pub(crate) point: &'static str,
    /// What is announced; none for a change of staging.
    pub(crate) call: Option<ChangeCall>,
    pub(crate) asked: Mutex<Asked>,
}

/// What became of it.
#[derive(Default)]
pub(crate) struct Asked {
    given: bool,
    refusal: Option<OrchestratorError>,
}

impl Permit {
    async fn renew(&self) -> Result<(), OrchestratorError> {
        self.held.renew().await?;
        if let Some(call) = &self.call {
            let call = ChangeCall { announced_at: self.clock.now(), ..call.clone() };
            self.journal.save_call(self.held.lease(), &call).await?;
        }
        Ok(())
    }

    /// What follows once the deployer returned, with whatever answer: why it got no permission; else it
    /// is written down that the call returned, where one was announced.
    pub(crate) async fn returned(&self) -> Result<(), OrchestratorError> {
        let Asked { given, refusal } = std::mem::take(&mut *self.lock());
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        if let Some(call) = self.call.as_ref().filter(|_| given) {
            let call = ChangeCall { returned_at: Some(self.clock.now()), ..call.clone() };
            self.journal.save_call(self.held.lease(), &call).await?;
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Permission for Permit {
    async fn is_given(&self) -> bool {
        match self.renew().await {
            Ok(()) => {
                self.lock().given = true;
                reach(self.point);
                true
            }
            Err(error) => {
                self.lock().refusal = Some(error);
                false
            }
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Permit").field("call", &self.call).finish_non_exhaustive()
    }
}

//! Whom retraining tells of what: each message once, by a mark on its episode.

use mloop_core::episode::Episode;
use mloop_core::error_chain;
use mloop_core::failpoint::reach;
use mloop_platform::{PlatformError, send_attempt_ended, send_attempts_used_up, send_slack_alert};

use crate::retraining::Run;
use crate::{OrchestratorError, RetrainOrchestrator, points};

impl Run<'_> {
    /// Whether people were told; who could not be is kept for the result.
    fn was_told(&mut self, sent: Result<(), PlatformError>) -> bool {
        let Err(error) = sent else { return true };
        let error = error_chain(&error);
        tracing::error!(error, "people could not be told; the next run tries again");
        self.undelivered.push(error);
        false
    }
}

impl RetrainOrchestrator {
    /// Tells people that the job was submitted, once.
    pub(crate) async fn announce(
        &self,
        run: &mut Run<'_>,
        episode: &mut Episode,
    ) -> Result<(), OrchestratorError> {
        if episode.announced {
            return Ok(());
        }
        let sent = send_slack_alert(self.deps.notifier.as_ref(), episode, episode.opened_at).await;
        if run.was_told(sent) {
            reach(points::RETRAINING_NOTIFIED);
            episode.announced = true;
            self.deps.journal.save_episode(run.held.lease(), episode).await?;
            reach(points::RETRAINING_ANNOUNCED);
        }
        Ok(())
    }

    /// Tells people, once, that the job of a closed episode left nothing to deploy.
    pub(crate) async fn tell_end(
        &self,
        run: &mut Run<'_>,
        episode: &mut Episode,
    ) -> Result<(), OrchestratorError> {
        if episode.closed.as_ref().is_none_or(|closing| closing.told) {
            return Ok(());
        }
        let sent = send_attempt_ended(self.deps.notifier.as_ref(), episode).await;
        if run.was_told(sent) {
            reach(points::RETRAINING_END_NOTIFIED);
            episode.closed.iter_mut().for_each(|closing| closing.told = true);
            self.deps.journal.save_episode(run.held.lease(), episode).await?;
            reach(points::RETRAINING_END_TOLD);
        }
        Ok(())
    }

    /// Tells people, once, that a failed attempt was the last.
    pub(crate) async fn tell_last(
        &self,
        run: &mut Run<'_>,
        episode: &mut Episode,
        reason: &str,
    ) -> Result<(), OrchestratorError> {
        if episode.closed.as_ref().is_none_or(|closing| closing.told_last) {
            return Ok(());
        }
        let notifier = self.deps.notifier.as_ref();
        let sent = send_attempts_used_up(notifier, episode, reason, run.as_of).await;
        if run.was_told(sent) {
            reach(points::RETRAINING_LAST_NOTIFIED);
            episode.closed.iter_mut().for_each(|closing| closing.told_last = true);
            self.deps.journal.save_episode(run.held.lease(), episode).await?;
            reach(points::RETRAINING_LAST_TOLD);
        }
        Ok(())
    }
}

//! Whom retraining tells of what: each message once, by a mark on its episode, queued in the transaction
//! that sets it.

use mloop_core::episode::Episode;
use mloop_core::failpoint::reach;
use mloop_platform::{Message, attempt_ended, attempts_used_up, submission};

use crate::retraining::Run;
use crate::waiting::to_all;
use crate::{OrchestratorError, RetrainOrchestrator, points};

impl RetrainOrchestrator {
    /// Marks an episode as one whose job people were told of; the message, where they were not yet.
    pub(crate) fn announce(&self, episode: &mut Episode) -> Option<Message> {
        if std::mem::replace(&mut episode.announced, true) {
            return None;
        }
        Some(to_all(&self.deps.notifiers, submission(episode, episode.opened_at)))
    }

    /// Marks a closed episode as one whose end people know; the message, where its job left nothing to
    /// deploy and they do not know yet.
    pub(crate) fn tell_end(&self, episode: &mut Episode) -> Option<Message> {
        let closing = episode.closed.as_mut().filter(|closing| !closing.told)?;
        closing.told = true;
        attempt_ended(episode).map(|message| to_all(&self.deps.notifiers, message))
    }

    /// Tells people, once, that a failed attempt was the last.
    pub(crate) async fn tell_last(
        &self,
        run: &Run<'_>,
        episode: &mut Episode,
        reason: &str,
    ) -> Result<(), OrchestratorError> {
        let Some(closing) = episode.closed.as_mut().filter(|closing| !closing.told_last) else {
            return Ok(());
        };
        closing.told_last = true;
        let message = to_all(&self.deps.notifiers, attempts_used_up(episode, reason, run.as_of));
        self.deps.journal.save_episode_with(run.held.lease(), episode, &[message]).await?;
        reach(points::RETRAINING_LAST_TOLD);
        Ok(())
    }
}

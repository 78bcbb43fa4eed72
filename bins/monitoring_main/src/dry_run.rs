//! A ledger that can be read and keeps nothing, for `--dry-run`.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use mloop_core::deployment::{ChangeCall, Deployment, JournalEntry};
use mloop_core::episode::Episode;
use mloop_core::profile::{ProfileKey, StoredProfile};
use mloop_core::run::RunRecord;
use mloop_core::{
    DeploymentId, EpisodeId, ModelVersion, ProfileSchema, RunId, Sha256Digest, Subject, Window,
};
use mloop_platform::{
    Journal, Lease, Message, PlatformError, ProfileQuery, ProfileStore, RunQuery,
};

use crate::compose::Parts;

/// Hands reads on, and drops writes.
pub(crate) struct ReadOnly<T: ?Sized>(pub(crate) Arc<T>);

impl Parts {
    /// From here on nothing is kept and nobody is told.
    pub(crate) fn make_read_only(&mut self) {
        self.deps.journal = Arc::new(ReadOnly(Arc::clone(&self.deps.journal)));
        self.deps.profiles = Arc::new(ReadOnly(Arc::clone(&self.deps.profiles)));
        self.deps.reporters.clear();
    }
}

#[async_trait]
impl Journal for ReadOnly<dyn Journal> {
    async fn probe(&self) -> Result<(), PlatformError> {
        self.0.probe().await
    }

    async fn record_run_with(
        &self,
        _run: &RunRecord,
        _messages: &[Message],
    ) -> Result<(), PlatformError> {
        Ok(())
    }

    async fn run(&self, id: &RunId) -> Result<Option<RunRecord>, PlatformError> {
        self.0.run(id).await
    }

    async fn runs(&self, query: &RunQuery) -> Result<Vec<RunRecord>, PlatformError> {
        self.0.runs(query).await
    }

    async fn was_told(&self, id: &DeploymentId, outcome: &str) -> Result<bool, PlatformError> {
        self.0.was_told(id, outcome).await
    }

    async fn save_episode_with(
        &self,
        _lease: &Lease,
        _episode: &Episode,
        _messages: &[Message],
    ) -> Result<(), PlatformError> {
        Ok(())
    }

    async fn episodes(&self, subject: &Subject) -> Result<Vec<Episode>, PlatformError> {
        self.0.episodes(subject).await
    }

    async fn record_version(
        &self,
        _version: &ModelVersion,
        _episode: Option<EpisodeId>,
    ) -> Result<(), PlatformError> {
        Ok(())
    }

    async fn save_deployment(
        &self,
        _lease: &Lease,
        _deployment: &Deployment,
    ) -> Result<(), PlatformError> {
        Ok(())
    }

    async fn deployments(&self, subject: &Subject) -> Result<Vec<Deployment>, PlatformError> {
        self.0.deployments(subject).await
    }

    async fn append_with(
        &self,
        _lease: &Lease,
        _entry: &JournalEntry,
        _messages: &[Message],
    ) -> Result<(), PlatformError> {
        Ok(())
    }

    async fn entries(&self, id: &DeploymentId) -> Result<Vec<JournalEntry>, PlatformError> {
        self.0.entries(id).await
    }

    async fn save_call(&self, _lease: &Lease, _call: &ChangeCall) -> Result<(), PlatformError> {
        Ok(())
    }

    async fn unreturned_calls(&self, subject: &Subject) -> Result<Vec<ChangeCall>, PlatformError> {
        self.0.unreturned_calls(subject).await
    }
}

#[async_trait]
impl ProfileStore for ReadOnly<dyn ProfileStore> {
    async fn put(
        &self,
        _schema: &ProfileSchema,
        profile: &StoredProfile,
    ) -> Result<u32, PlatformError> {
        let newest = self.0.newest(&profile.profile.key, &profile.profile.window).await?;
        Ok(newest.map_or(1, |(revision, _)| revision))
    }

    async fn newest(
        &self,
        key: &ProfileKey,
        window: &Window,
    ) -> Result<Option<(u32, StoredProfile)>, PlatformError> {
        self.0.newest(key, window).await
    }

    async fn within(&self, query: &ProfileQuery) -> Result<Vec<StoredProfile>, PlatformError> {
        self.0.within(query).await
    }

    async fn schema(&self, digest: &Sha256Digest) -> Result<Option<ProfileSchema>, PlatformError> {
        self.0.schema(digest).await
    }

    async fn merge_days(
        &self,
        _subject: &Subject,
        _until: DateTime<Utc>,
        _limit: u32,
    ) -> Result<u32, PlatformError> {
        Ok(0)
    }
}

//! The ledger: the one memory of the loop, under four names.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use mloop_core::deployment::{ChangeCall, Deployment, JournalEntry};
use mloop_core::episode::Episode;
use mloop_core::notification::Notification;
use mloop_core::profile::{ProfileKey, StoredProfile};
use mloop_core::run::{RunKind, RunRecord};
use mloop_core::{
    DeploymentId, EpisodeId, ModelVersion, Profile, ProfileSchema, RunId, Sha256Digest, Subject,
    Window,
};

use crate::PlatformError;

/// What a kind of ledger builds: the four views of one store.
#[derive(Clone)]
pub struct Ledger {
    /// Runs, episodes, versions, deployments.
    pub journal: Arc<dyn Journal>,
    /// Who may act.
    pub leases: Arc<dyn Leases>,
    /// Profiles of windows.
    pub profiles: Arc<dyn ProfileStore>,
    /// Messages on their way.
    pub outbox: Arc<dyn Outbox>,
}

/// The right to act on something, for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// On what, such as `deployment/fashion@production`.
    pub name: String,
    /// Who: the id of the run, and what tells its process from a copy of it.
    pub holder: String,
    /// Ascends with every change of holder; a write with an older number is refused.
    pub fence: u64,
}

/// Keeps two copies of a run apart.
///
/// # Contract
/// - At most one holder at a time, by the store's own clock.
/// - A lease that expired and that nobody took is still its holder's: nobody else can have acted.
/// - Each new holder gets a higher fencing number; the number of a lease that was taken over is
///   refused by every write of [`Journal`] that asks for a lease.
#[cfg_attr(feature = "testing", mockall::automock)]
#[async_trait]
pub trait Leases: Send + Sync {
    /// Takes a lease that is free, expired, or held by this very holder.
    ///
    /// # Errors
    /// [`PlatformError::LeaseHeld`].
    async fn acquire(
        &self,
        name: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<Lease, PlatformError>;

    /// Extends a lease.
    ///
    /// # Errors
    /// [`PlatformError::LeaseLost`].
    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<(), PlatformError>;

    /// Gives a lease back; one that is no longer ours is left alone.
    ///
    /// # Errors
    /// When the store could not be written.
    async fn release(&self, lease: &Lease) -> Result<(), PlatformError>;
}

/// A message with those who are to get it, by the names of their notifiers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What they are told.
    pub notification: Notification,
    /// Who.
    pub receivers: Vec<String>,
}

/// A message that waits for a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The message.
    pub notification: Notification,
    /// How often the receiver refused it.
    pub refusals: u32,
}

/// When a message that could not be delivered is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// At once, after those that wait longer: the receiver could not be reached.
    Soon,
    /// Not before so long: the receiver refused it.
    After(Duration),
    /// Never: the receiver refused it for the last time. It is kept and counted.
    Never,
}

/// Which runs to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunQuery {
    /// Of which binary.
    pub kind: RunKind,
    /// Of which model and target.
    pub subject: Subject,
    /// Only runs whose `as_of` is at or after this moment.
    pub since: Option<DateTime<Utc>>,
    /// The newest so many.
    pub limit: u32,
}

/// Runs, episodes, versions and deployments. Decisions and deployments are never deleted.
///
/// # Contract
/// - Each call is one transaction: killed at any moment, it happened or it did not.
/// - Writing the same thing again leaves one record.
/// - Calls that take a [`Lease`] fail with [`PlatformError::LeaseLost`], and write nothing, once
///   another holder has taken it.
#[cfg_attr(feature = "testing", mockall::automock)]
#[async_trait]
pub trait Journal: Send + Sync {
    /// Looks whether the store can be used by this release, and changes nothing; a store that the
    /// first write would make is fine.
    ///
    /// # Errors
    /// As every other call would fail.
    async fn probe(&self) -> Result<(), PlatformError>;

    /// Writes a run. One that is known and [`RunRecord::replaces`] what stands becomes the
    /// revision that readers get; one that says the same changes nothing. No revision is lost.
    ///
    /// # Errors
    /// When the store could not be written.
    async fn record_run(&self, run: &RunRecord) -> Result<(), PlatformError> {
        self.record_run_with(run, &[]).await
    }

    /// Writes a run as [`Journal::record_run`] does, and queues the messages about it as
    /// [`Outbox::enqueue`] does, in one transaction: no kill leaves a run that nobody hears of.
    ///
    /// # Errors
    /// When the store could not be written.
    async fn record_run_with(
        &self,
        run: &RunRecord,
        messages: &[Message],
    ) -> Result<(), PlatformError>;

    /// One run: the revision that stands.
    ///
    /// # Errors
    /// When the store could not be read.
    async fn run(&self, id: &RunId) -> Result<Option<RunRecord>, PlatformError>;

    /// Runs, each in the revision that stands, oldest first (by window end, else `as_of`).
    ///
    /// # Errors
    /// When the store could not be read.
    async fn runs(&self, query: &RunQuery) -> Result<Vec<RunRecord>, PlatformError>;

    /// Whether any deployment run, however long ago, came to this outcome of a deployment.
    ///
    /// # Errors
    /// When the store could not be read.
    async fn was_told(&self, id: &DeploymentId, outcome: &str) -> Result<bool, PlatformError>;

    /// Writes an episode as it now stands.
    ///
    /// # Errors
    /// [`PlatformError::LeaseLost`], or when the store could not be written.
    async fn save_episode(&self, lease: &Lease, episode: &Episode) -> Result<(), PlatformError> {
        self.save_episode_with(lease, episode, &[]).await
    }

    /// Writes an episode as [`Journal::save_episode`] does, and queues the messages about it as
    /// [`Outbox::enqueue`] does, in one transaction.
    ///
    /// # Errors
    /// [`PlatformError::LeaseLost`], or when the store could not be written.
    async fn save_episode_with(
        &self,
        lease: &Lease,
        episode: &Episode,
        messages: &[Message],
    ) -> Result<(), PlatformError>;

    /// All episodes of a subject, newest first.
    ///
    /// # Errors
    /// When the store could not be read.
    async fn episodes(&self, subject: &Subject) -> Result<Vec<Episode>, PlatformError>;

    /// Writes down that a version exists, and which episode it came of; a repeat without an episode
    /// keeps the one that is known.
    ///
    /// # Errors
    /// [`PlatformError::Conflict`] when the number is known with another digest, or when the store
    /// could not be written.
    async fn record_version(
        &self,
        version: &ModelVersion,
        episode: Option<EpisodeId>,
    ) -> Result<(), PlatformError>;

    /// Writes a deployment as it now stands.
    ///
    /// # Errors
    /// [`PlatformError::LeaseLost`], or when the store could not be written.
    async fn save_deployment(
        &self,
        lease: &Lease,
        deployment: &Deployment,
    ) -> Result<(), PlatformError>;

    /// All deployments of a subject, newest first.
    ///
    /// # Errors
    /// When the store could not be read.
    async fn deployments(&self, subject: &Subject) -> Result<Vec<Deployment>, PlatformError>;

    /// Adds an entry to a deployment's journal; an entry of the same step and phase that is there
    /// already stays.
    ///
    /// # Errors
    /// [`PlatformError::LeaseLost`], [`PlatformError::Invalid`] for a deployment that was never
    /// saved, or when the store could not be written.
    async fn append(&self, lease: &Lease, entry: &JournalEntry) -> Result<(), PlatformError> {
        self.append_with(lease, entry, &[]).await
    }

    /// Adds an entry as [`Journal::append`] does, and queues the messages about it as
    /// [`Outbox::enqueue`] does, in one transaction.
    ///
    /// # Errors
    /// As [`Journal::append`].
    async fn append_with(
        &self,
        lease: &Lease,
        entry: &JournalEntry,
        messages: &[Message],
    ) -> Result<(), PlatformError>;

    /// The journal of a deployment, in the order of its steps, intents before outcomes.
    ///
    /// # Errors
    /// When the store could not be read.
    async fn entries(&self, id: &DeploymentId) -> Result<Vec<JournalEntry>, PlatformError>;

    /// Writes a call for a deployment as it now stands: about to be made, or returned.
    ///
    /// # Errors
    /// [`PlatformError::LeaseLost`], [`PlatformError::Invalid`] for a deployment that was never
    /// saved, or when the store could not be written.
    async fn save_call(&self, lease: &Lease, call: &ChangeCall) -> Result<(), PlatformError>;

    /// The calls for a subject's deployments that never returned to those who made them, the first
    /// announced first.
    ///
    /// # Errors
    /// When the store could not be read.
    async fn unreturned_calls(&self, subject: &Subject) -> Result<Vec<ChangeCall>, PlatformError>;
}

/// Which profiles to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileQuery {
    /// Of which model and target.
    pub subject: Subject,
    /// Of this version alone; none: of all.
    pub version: Option<Sha256Digest>,
    /// Whose windows lie wholly within.
    pub span: Window,
    /// Only those that come after this one; none: from the first on.
    pub after: Option<ProfilePlace>,
    /// At most so many.
    pub limit: u32,
}

/// Where a profile stands among those of its subject: by the end of its window, then by its start,
/// then by its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProfilePlace {
    end: DateTime<Utc>,
    start: DateTime<Utc>,
    version: Sha256Digest,
}

impl ProfilePlace {
    /// The place of a profile.
    #[must_use]
    pub fn of(profile: &Profile) -> Self {
        Self::at(&profile.window, profile.key.version)
    }

    /// The place of a version's window.
    #[must_use]
    pub fn at(window: &Window, version: Sha256Digest) -> Self {
        Self { end: window.end(), start: window.start(), version }
    }

    /// First and last moment of the window, and the version.
    #[must_use]
    pub fn parts(&self) -> (DateTime<Utc>, DateTime<Utc>, Sha256Digest) {
        (self.start, self.end, self.version)
    }
}

/// The windows of a day that may be merged without counting a request twice, each given with whether it
/// was merged itself: none that overlaps one that was, or a shorter one that is taken, and none at all
/// where fewer than two are left. Their order does not matter.
#[must_use]
pub fn mergeable(windows: &[(Window, bool)]) -> Vec<Window> {
    let mut sorted = windows.to_vec();
    sorted.sort_unstable_by_key(|(window, merged)| (!merged, window.length(), window.start()));
    let mut taken: Vec<Window> = vec![];
    for (window, _) in sorted {
        if !taken.iter().any(|one| one.overlaps(&window)) {
            taken.push(window);
        }
    }
    taken.sort_unstable();
    if taken.len() < 2 { vec![] } else { taken }
}

/// Profiles of windows, and the schemas that they were counted under.
///
/// # Contract
/// - A window counted again over other input becomes a new revision; the same counts as the newest
///   revision's change nothing. Nothing is overwritten.
/// - Windows are merged into longer ones by [`ProfileStore::merge_days`] alone. A window that was merged
///   is closed: counted again, it is not stored again, since its requests would count twice.
#[cfg_attr(feature = "testing", mockall::automock)]
#[async_trait]
pub trait ProfileStore: Send + Sync {
    /// Stores a profile with its schema; gives its revision, from 1. Of a window that was merged into a
    /// longer one it gives the revision that was, and stores nothing.
    ///
    /// # Errors
    /// [`PlatformError::Invalid`] when the profile was counted under another schema, or when the
    /// store could not be written.
    async fn put(
        &self,
        schema: &ProfileSchema,
        profile: &StoredProfile,
    ) -> Result<u32, PlatformError>;

    /// The newest revision of a window's profile, with its number.
    ///
    /// # Errors
    /// When the store could not be read.
    async fn newest(
        &self,
        key: &ProfileKey,
        window: &Window,
    ) -> Result<Option<(u32, StoredProfile)>, PlatformError>;

    /// The newest revisions of profiles, in the order of their places: a page of at most
    /// [`ProfileQuery::limit`], so that no span need be held as a whole.
    ///
    /// # Errors
    /// When the store could not be read.
    async fn within(&self, query: &ProfileQuery) -> Result<Vec<StoredProfile>, PlatformError>;

    /// A schema that a stored profile was counted under.
    ///
    /// # Errors
    /// When the store could not be read.
    async fn schema(&self, digest: &Sha256Digest) -> Result<Option<ProfileSchema>, PlatformError>;

    /// Merges the windows of one version and schema within one UTC day into one profile (as
    /// [`Profile::merge`] does, of their newest revisions), and removes them, all in one transaction; so
    /// for days that ended at or before `until`, oldest first. Of windows that overlap only some
    /// are merged ([`mergeable`]); the others stay. Gives the number of merged profiles that it made,
    /// at most `limit`.
    ///
    /// # Errors
    /// When the store could not be read or written; days that were merged before are.
    async fn merge_days(
        &self,
        subject: &Subject,
        until: DateTime<Utc>,
        limit: u32,
    ) -> Result<u32, PlatformError>;
}

/// Messages on their way: written before they are sent, so that none is lost by a kill or a dead
/// receiver.
///
/// # Contract
/// - A message is queued once for each receiver, by its id; a settled one never comes back.
/// - One that cannot be delivered delays no other.
#[cfg_attr(feature = "testing", mockall::automock)]
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Queues a message for receivers, by their names; one that is known already stays as it is, and
    /// only receivers that are new to it get it.
    ///
    /// # Errors
    /// When the store could not be written.
    async fn enqueue(
        &self,
        notification: &Notification,
        receivers: &[String],
    ) -> Result<(), PlatformError>;

    /// Messages about a subject that wait for a receiver and whose time has come, at most `limit`: those
    /// that were never tried, in the order in which they were first queued, then the others, those that
    /// wait longest first. Loops that share a ledger have receivers of the same name that are not the
    /// same.
    ///
    /// # Errors
    /// When the store could not be read.
    async fn pending(
        &self,
        subject: &Subject,
        receiver: &str,
        limit: u32,
    ) -> Result<Vec<Waiting>, PlatformError>;

    /// Writes down that a try failed: [`Again::After`] and [`Again::Never`] count as a refusal.
    ///
    /// # Errors
    /// When the store could not be written.
    async fn not_delivered(
        &self,
        receiver: &str,
        id: &str,
        again: Again,
    ) -> Result<(), PlatformError>;

    /// How many messages about a subject were given up, since a receiver refused them too often.
    ///
    /// # Errors
    /// When the store could not be read.
    async fn given_up(&self, subject: &Subject, receiver: &str) -> Result<u64, PlatformError>;

    /// Marks a message as delivered to a receiver.
    ///
    /// # Errors
    /// When the store could not be written.
    async fn delivered(&self, receiver: &str, id: &str) -> Result<(), PlatformError>;
}

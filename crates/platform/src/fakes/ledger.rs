//! The ledger in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use mloop_core::deployment::{ChangeCall, Deployment, JournalEntry, Phase, Step};
use mloop_core::episode::Episode;
use mloop_core::notification::Notification;
use mloop_core::profile::{ProfileKey, StoredProfile};
use mloop_core::run::RunRecord;
use mloop_core::{
    Clock, DeploymentId, EpisodeId, ModelName, ModelVersion, Profile, ProfileSchema, RunId,
    Sha256Digest, Subject, Window,
};

use super::leases::LeaseTable;
use super::lock;
use crate::{
    Again, Journal, Lease, Leases, Ledger, Message, Outbox, PlatformError, ProfilePlace,
    ProfileQuery, ProfileStore, RunQuery, Waiting, mergeable,
};

mod profiles;

/// A rule of the ledger's contract to be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerFault {
    /// A lease is given to a second holder before it expired.
    GrantsTwice,
    /// A new holder gets the number of the one before.
    RepeatsFences,
    /// Writes do not look at the lease.
    IgnoresFences,
    /// A repeat of a run replaces it, however late it comes.
    OverwritesRuns,
    /// What was told is looked for in the newest run alone.
    ForgetsRuns,
    /// A repeated journal entry replaces the first.
    OverwritesEntries,
    /// A call that returned is taken for one that did not.
    ForgetsReturns,
    /// A window counted again replaces the revision before.
    OverwritesProfiles,
    /// A window that was merged is stored again.
    ReopensWindows,
    /// Windows that overlap are merged all the same.
    MergesOverlaps,
    /// A page leaves out other versions' profiles of the window that the one before ended with.
    SkipsProfiles,
    /// A message that was delivered and is queued again comes back.
    Redelivers,
    /// A message that could not be delivered stays the first.
    BlocksQueue,
    /// A message that was given up is tried again.
    NeverGivesUp,
    /// The messages of a record are not queued with it.
    ForgetsMessages,
    /// The messages of a record are queued although it is refused.
    TellsTooEarly,
}

/// Everything in memory; leases expire by the clock that it is given.
pub struct InMemoryLedger {
    clock: Arc<dyn Clock>,
    fault: Option<LedgerFault>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    leases: LeaseTable,
    runs: BTreeMap<RunId, RunRecord>,
    episodes: BTreeMap<EpisodeId, Episode>,
    versions: BTreeMap<(ModelName, u64), (ModelVersion, Option<EpisodeId>)>,
    deployments: BTreeMap<DeploymentId, Deployment>,
    entries: BTreeMap<(DeploymentId, Step, bool), JournalEntry>,
    calls: BTreeMap<(DeploymentId, Step, u64), ChangeCall>,
    schemas: BTreeMap<Sha256Digest, ProfileSchema>,
    profiles: BTreeMap<(ProfileKey, Window), Vec<StoredProfile>>,
    /// Windows that were merged into longer ones, with the revisions that were.
    merged: BTreeMap<(ProfileKey, Window), (u32, Window)>,
    messages: Vec<Notification>,
    /// By receiver and index of the message.
    deliveries: BTreeMap<(String, usize), Delivery>,
}

/// How a message stands with a receiver.
#[derive(Default)]
struct Delivery {
    done: bool,
    /// None: it was never tried.
    due: Option<DateTime<Utc>>,
    refusals: u32,
    given_up: bool,
}

impl Delivery {
    fn waits(&self, now: DateTime<Utc>) -> bool {
        !self.done && !self.given_up && self.due.is_none_or(|due| due <= now)
    }
}

impl State {
    fn delivery(&mut self, receiver: &str, id: &str) -> Option<&mut Delivery> {
        let index = self.messages.iter().position(|known| known.id == id)?;
        self.deliveries.get_mut(&(receiver.to_owned(), index))
    }
}

impl State {
    /// Puts one profile in the place of several.
    fn merge(&mut self, key: &ProfileKey, parts: &[Window]) -> Result<(), PlatformError> {
        let mut sum: Option<StoredProfile> = None;
        for window in parts {
            let of = (key.clone(), *window);
            let Some(newest) = self.profiles.get(&of).and_then(|all| all.last()) else { continue };
            match &mut sum {
                None => sum = Some(newest.clone()),
                Some(sum) => sum.merge(newest).map_err(|error| {
                    PlatformError::conflict("merging profiles", error.to_string())
                })?,
            }
        }
        let Some(sum) = sum else { return Ok(()) };
        let into = sum.profile.window;
        for window in parts.iter().filter(|window| **window != into) {
            let of = (key.clone(), *window);
            let revisions = self.profiles.remove(&of).map_or(0, |all| all.len());
            self.merged.insert(of, (revisions as u32, into));
        }
        self.profiles.entry((key.clone(), into)).or_default().push(sum);
        Ok(())
    }
}

impl InMemoryLedger {
    /// An empty ledger.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, fault: None, state: Mutex::default() })
    }

    /// The same, with a fault.
    #[must_use]
    pub fn with_fault(clock: Arc<dyn Clock>, fault: LedgerFault) -> Arc<Self> {
        Arc::new(Self { clock, fault: Some(fault), state: Mutex::default() })
    }

    /// Its four views.
    #[must_use]
    pub fn ledger(self: &Arc<Self>) -> Ledger {
        Ledger {
            journal: self.clone(),
            leases: self.clone(),
            profiles: self.clone(),
            outbox: self.clone(),
        }
    }

    /// The versions that were written down, by model and number, with their episodes.
    #[must_use]
    pub fn versions(&self) -> Vec<(ModelVersion, Option<EpisodeId>)> {
        lock(&self.state).versions.values().cloned().collect()
    }

    fn has(&self, fault: LedgerFault) -> bool {
        self.fault == Some(fault)
    }

    /// Queues messages with what was just written, unless that is at fault.
    fn queue(&self, state: &mut State, messages: &[Message]) {
        if self.has(LedgerFault::ForgetsMessages) {
            return;
        }
        for Message { notification, receivers } in messages {
            self.put_up(state, notification, receivers);
        }
    }

    /// Queues messages before it is known whether the rest can be written: a fault.
    fn queue_before(&self, state: &mut State, messages: &[Message]) {
        if self.has(LedgerFault::TellsTooEarly) {
            self.queue(state, messages);
        }
    }

    fn put_up(&self, state: &mut State, notification: &Notification, receivers: &[String]) {
        let known = state.messages.iter().position(|known| known.id == notification.id);
        let index = known.unwrap_or(state.messages.len());
        if known.is_none() {
            state.messages.push(notification.clone());
        }
        for receiver in receivers {
            let delivery = state.deliveries.entry((receiver.clone(), index)).or_default();
            delivery.done &= !self.has(LedgerFault::Redelivers);
        }
    }

    fn is_after(&self, profile: &Profile, after: ProfilePlace) -> bool {
        if self.has(LedgerFault::SkipsProfiles) {
            return profile.window.end() > after.parts().1;
        }
        ProfilePlace::of(profile) > after
    }

    fn check_fence(&self, state: &mut State, lease: &Lease) -> Result<(), PlatformError> {
        if self.has(LedgerFault::IgnoresFences) {
            return Ok(());
        }
        state.leases.ours(lease).map(|_| ())
    }
}

#[async_trait]
impl Leases for InMemoryLedger {
    async fn acquire(
        &self,
        name: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<Lease, PlatformError> {
        lock(&self.state).leases.acquire(name, holder, self.clock.now(), ttl, self.fault)
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<(), PlatformError> {
        lock(&self.state).leases.renew(lease, self.clock.now(), ttl)
    }

    async fn release(&self, lease: &Lease) -> Result<(), PlatformError> {
        lock(&self.state).leases.release(lease);
        Ok(())
    }
}

#[async_trait]
impl Journal for InMemoryLedger {
    async fn probe(&self) -> Result<(), PlatformError> {
        Ok(())
    }

    async fn record_run_with(
        &self,
        run: &RunRecord,
        messages: &[Message],
    ) -> Result<(), PlatformError> {
        let mut state = lock(&self.state);
        let known = state.runs.get(&run.run_id);
        let overwrites = self.has(LedgerFault::OverwritesRuns);
        if overwrites || known.is_none_or(|known| run.replaces(known)) {
            state.runs.insert(run.run_id.clone(), run.clone());
        }
        self.queue(&mut state, messages);
        Ok(())
    }

    async fn run(&self, id: &RunId) -> Result<Option<RunRecord>, PlatformError> {
        Ok(lock(&self.state).runs.get(id).cloned())
    }

    async fn runs(&self, query: &RunQuery) -> Result<Vec<RunRecord>, PlatformError> {
        let state = lock(&self.state);
        let asked = |run: &&RunRecord| {
            run.kind == query.kind
                && run.subject == query.subject
                && query.since.is_none_or(|since| run.as_of >= since)
        };
        let mut found: Vec<_> = state.runs.values().filter(asked).cloned().collect();
        let moment = |run: &RunRecord| run.window.map_or(run.as_of, |window| window.end());
        found.sort_by_key(|run| (moment(run), run.as_of));
        let surplus = found.len().saturating_sub(query.limit as usize);
        Ok(found.split_off(surplus))
    }

    async fn was_told(&self, id: &DeploymentId, outcome: &str) -> Result<bool, PlatformError> {
        let state = lock(&self.state);
        let tells =
            |run: &RunRecord| run.deployment() == Some(id.as_str()) && run.outcome == outcome;
        if self.has(LedgerFault::ForgetsRuns) {
            return Ok(state.runs.values().max_by_key(|run| run.as_of).is_some_and(tells));
        }
        Ok(state.runs.values().any(tells))
    }

    async fn save_episode_with(
        &self,
        lease: &Lease,
        episode: &Episode,
        messages: &[Message],
    ) -> Result<(), PlatformError> {
        let mut state = lock(&self.state);
        self.queue_before(&mut state, messages);
        self.check_fence(&mut state, lease)?;
        state.episodes.insert(episode.id.clone(), episode.clone());
        self.queue(&mut state, messages);
        Ok(())
    }

    async fn episodes(&self, subject: &Subject) -> Result<Vec<Episode>, PlatformError> {
        let state = lock(&self.state);
        let mut found: Vec<Episode> =
            state.episodes.values().filter(|e| e.subject == *subject).cloned().collect();
        found.sort_by_key(|e| std::cmp::Reverse((e.opened_at, e.attempt)));
        Ok(found)
    }

    async fn record_version(
        &self,
        version: &ModelVersion,
        episode: Option<EpisodeId>,
    ) -> Result<(), PlatformError> {
        let mut state = lock(&self.state);
        let key = (version.model.clone(), version.version.number);
        let before = state.versions.get(&key);
        if before.is_some_and(|(known, _)| known.version.digest != version.version.digest) {
            let doing = format!("writing down {} {}", version.model, version.version);
            return Err(PlatformError::conflict(doing, "its number is known with another digest"));
        }
        let episode = episode.or_else(|| before.and_then(|(_, episode)| episode.clone()));
        state.versions.insert(key, (version.clone(), episode));
        Ok(())
    }

    async fn save_deployment(
        &self,
        lease: &Lease,
        deployment: &Deployment,
    ) -> Result<(), PlatformError> {
        let mut state = lock(&self.state);
        self.check_fence(&mut state, lease)?;
        state.deployments.insert(deployment.id.clone(), deployment.clone());
        Ok(())
    }

    async fn deployments(&self, subject: &Subject) -> Result<Vec<Deployment>, PlatformError> {
        let state = lock(&self.state);
        let mut found: Vec<Deployment> =
            state.deployments.values().filter(|d| d.subject == *subject).cloned().collect();
        found.sort_by_key(|d| std::cmp::Reverse((d.opened_at, d.version.number, d.attempt)));
        Ok(found)
    }

    async fn append_with(
        &self,
        lease: &Lease,
        entry: &JournalEntry,
        messages: &[Message],
    ) -> Result<(), PlatformError> {
        let mut state = lock(&self.state);
        self.queue_before(&mut state, messages);
        self.check_fence(&mut state, lease)?;
        if !state.deployments.contains_key(&entry.deployment) {
            let doing = format!("writing the journal of {}", entry.deployment);
            return Err(PlatformError::invalid(doing, "the deployment was never saved"));
        }
        let key = (entry.deployment.clone(), entry.step, entry.phase == Phase::Outcome);
        if self.has(LedgerFault::OverwritesEntries) || !state.entries.contains_key(&key) {
            state.entries.insert(key, entry.clone());
        }
        self.queue(&mut state, messages);
        Ok(())
    }

    async fn entries(&self, id: &DeploymentId) -> Result<Vec<JournalEntry>, PlatformError> {
        let state = lock(&self.state);
        Ok(state.entries.values().filter(|entry| entry.deployment == *id).cloned().collect())
    }

    async fn save_call(&self, lease: &Lease, call: &ChangeCall) -> Result<(), PlatformError> {
        let mut state = lock(&self.state);
        self.check_fence(&mut state, lease)?;
        if !state.deployments.contains_key(&call.deployment) {
            let doing = format!("writing down a call for {}", call.deployment);
            return Err(PlatformError::invalid(doing, "the deployment was never saved"));
        }
        state.calls.insert((call.deployment.clone(), call.step, call.fence), call.clone());
        Ok(())
    }

    async fn unreturned_calls(&self, subject: &Subject) -> Result<Vec<ChangeCall>, PlatformError> {
        let state = lock(&self.state);
        let is_asked = |call: &&ChangeCall| {
            state.deployments.get(&call.deployment).is_some_and(|one| one.subject == *subject)
                && (call.returned_at.is_none() || self.has(LedgerFault::ForgetsReturns))
        };
        let mut found: Vec<ChangeCall> = state.calls.values().filter(is_asked).cloned().collect();
        found.sort_by_key(|call| call.announced_at);
        Ok(found)
    }
}

#[async_trait]
impl Outbox for InMemoryLedger {
    async fn enqueue(
        &self,
        notification: &Notification,
        receivers: &[String],
    ) -> Result<(), PlatformError> {
        self.put_up(&mut lock(&self.state), notification, receivers);
        Ok(())
    }

    async fn pending(
        &self,
        subject: &Subject,
        receiver: &str,
        limit: u32,
    ) -> Result<Vec<Waiting>, PlatformError> {
        let (state, now) = (lock(&self.state), self.clock.now());
        let mut found: Vec<_> = state
            .deliveries
            .iter()
            .filter(|((to, index), one)| {
                to == receiver && state.messages[*index].subject == *subject && one.waits(now)
            })
            .collect();
        found.sort_by_key(|((_, index), one)| (one.due, *index));
        let waiting = found.into_iter().map(|((_, index), one)| Waiting {
            notification: state.messages[*index].clone(),
            refusals: one.refusals,
        });
        Ok(waiting.take(limit as usize).collect())
    }

    async fn not_delivered(
        &self,
        receiver: &str,
        id: &str,
        again: Again,
    ) -> Result<(), PlatformError> {
        let (mut state, now) = (lock(&self.state), self.clock.now());
        let Some(delivery) = state.delivery(receiver, id) else { return Ok(()) };
        if self.has(LedgerFault::BlocksQueue) {
            return Ok(());
        }
        delivery.refusals += u32::from(again != Again::Soon);
        match again {
            Again::Soon => delivery.due = Some(now),
            Again::After(pause) => delivery.due = Some(now + pause),
            Again::Never => delivery.given_up = !self.has(LedgerFault::NeverGivesUp),
        }
        Ok(())
    }

    async fn given_up(&self, subject: &Subject, receiver: &str) -> Result<u64, PlatformError> {
        let state = lock(&self.state);
        let given_up = state.deliveries.iter().filter(|((to, index), one)| {
            to == receiver && state.messages[*index].subject == *subject && one.given_up
        });
        Ok(given_up.count() as u64)
    }

    async fn delivered(&self, receiver: &str, id: &str) -> Result<(), PlatformError> {
        if let Some(delivery) = lock(&self.state).delivery(receiver, id) {
            delivery.done = true;
        }
        Ok(())
    }
}

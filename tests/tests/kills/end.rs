//! What must stand at the end, however often a run was killed on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mloop_core::deployment::{Deployment, DeploymentVerdict, Phase, Step};
use mloop_core::episode::{Episode, EpisodeOutcome};
use mloop_core::run::{RunKind, RunRecord};
use mloop_core::version::{aliases, tags};
use mloop_core::{
    ModelName, ModelVersion, Sha256Digest, Subject, SystemClock, TargetName, VersionRef,
};
use mloop_ledger::SqliteLedger;
use mloop_local::DirectoryRegistry;
use mloop_platform::{Ledger, ModelRegistry, RunQuery};
use mloop_testkit::small::SmallWorld;
use serde_json::Value;

/// Everything that a world's ledger, registry, server and people know.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) versions: Vec<ModelVersion>,
    champion: Option<VersionRef>,
    previous: Option<VersionRef>,
    challenger: Option<VersionRef>,
    pub(crate) deployments: Vec<Deployment>,
    /// Journal entries of each deployment.
    steps: Vec<usize>,
    /// Steps with an outcome in the deployment of version 2.
    outcomes: Vec<Step>,
    /// Whether a job is at work, or left its version.
    pub(crate) has_job: bool,
    pub(crate) episodes: Vec<Episode>,
    runs: BTreeMap<&'static str, Vec<RunRecord>>,
    /// Messages by id.
    messages: Vec<String>,
    undelivered: usize,
    /// Endpoint → digest that it serves.
    endpoints: BTreeMap<String, Option<Sha256Digest>>,
    /// Switches of production since the server began.
    pub(crate) switches: u64,
}

impl Seen {
    /// Looks at a world in which nothing is at work.
    pub(crate) fn of(world: &SmallWorld) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(Self::look(world))
    }

    async fn look(world: &SmallWorld) -> Self {
        let var = world.folder().join("var");
        let subject = subject();
        let Ledger { journal, outbox, .. } = SqliteLedger::new(var.join("ledger.sqlite")).ledger();
        let registry = DirectoryRegistry::new(var.join("registry"), Arc::new(SystemClock));
        let deployments = journal.deployments(&subject).await.expect("readable");
        let (mut steps, mut runs, mut undelivered) = (vec![], BTreeMap::new(), 0);
        let mut outcomes = vec![];
        for one in &deployments {
            let entries = journal.entries(&one.id).await.expect("readable");
            steps.push(entries.len());
            if one.version.number == 2 {
                let ended = entries.iter().filter(|entry| entry.phase == Phase::Outcome);
                outcomes.extend(ended.map(|entry| entry.step));
            }
        }
        for kind in [RunKind::Deployment, RunKind::Retraining] {
            let query = RunQuery { kind, subject: subject.clone(), since: None, limit: 1000 };
            runs.insert(kind.as_str(), journal.runs(&query).await.expect("readable"));
        }
        for receiver in ["file", "stderr"] {
            undelivered += outbox.pending(&subject, receiver, 1000).await.expect("readable").len();
        }
        let alias = |name| registry.alias(&subject.model, name);
        let versions = registry.versions(&subject.model).await.expect("readable");
        let has_job = !world.jobs_at_work().is_empty() || versions.len() > 1;
        Self {
            versions,
            champion: alias(aliases::CHAMPION).await.expect("readable"),
            previous: alias(aliases::PREVIOUS_CHAMPION).await.expect("readable"),
            challenger: alias(aliases::CHALLENGER).await.expect("readable"),
            deployments,
            steps,
            outcomes,
            has_job,
            episodes: journal.episodes(&subject).await.expect("readable"),
            runs,
            messages: messages(world),
            undelivered,
            endpoints: endpoints(world),
            switches: switches(world),
        }
    }

    /// Whether a step of the deployment of version 2 has its outcome.
    pub(crate) fn has_outcome(&self, step: Step) -> bool {
        self.outcomes.contains(&step)
    }

    /// Version 2 was deployed once, by one run, and nothing else happened since this base.
    pub(crate) fn is_deployed_once(&self, base: &Self, point: &str) {
        self.is_switched_once(base, point);
        assert_eq!(self.new_runs(base, RunKind::Deployment), 1, "{point}: run records");
    }

    /// Version 2 was deployed once, by however many runs.
    pub(crate) fn is_switched_once(&self, base: &Self, point: &str) {
        let [new, old] = self.deployments.as_slice() else {
            panic!("{point}: {} deployments", self.deployments.len());
        };
        let (new, old) = if new.version.number == 2 { (new, old) } else { (old, new) };
        assert_eq!((new.version.number, old.version.number), (2, 1), "{point}");
        assert_eq!((new.verdict, new.attempt), (Some(DeploymentVerdict::Switched), 1), "{point}");
        assert_eq!(new.previous, Some(old.version), "{point}");
        assert_eq!(self.steps, [16, 16], "{point}: an intent and an outcome of each step");
        assert_eq!(
            (self.champion, self.previous, self.challenger),
            (Some(new.version), Some(old.version), None),
            "{point}"
        );
        let serves = BTreeMap::from([("production".to_owned(), Some(new.version.digest))]);
        assert_eq!(self.endpoints, serves, "{point}: production alone, and the new version");
        assert_eq!(self.switches, 1, "{point}: switches of production");
        assert_eq!(self.versions.len(), base.versions.len(), "{point}: versions");
        assert_eq!(self.episodes, base.episodes, "{point}: episodes");
        self.told(base, 1, point);
    }

    /// Version 2, which had served, was rolled back once, and one run recorded it.
    pub(crate) fn is_rolled_back_once(&self, base: &Self, point: &str) {
        self.is_rolled_back(base, point);
        assert_eq!(self.records(DeploymentVerdict::RolledBack), 1, "{point}: records of it");
    }

    /// Version 2, which had served, was rolled back once, by however many runs.
    pub(crate) fn is_rolled_back(&self, base: &Self, point: &str) {
        let [new, old] = self.deployments.as_slice() else {
            panic!("{point}: {} deployments", self.deployments.len());
        };
        let (new, old) = if new.version.number == 2 { (new, old) } else { (old, new) };
        let verdicts = (new.verdict, old.verdict);
        let wanted = (Some(DeploymentVerdict::RolledBack), Some(DeploymentVerdict::Switched));
        assert_eq!(verdicts, wanted, "{point}");
        let mut steps = self.steps.clone();
        steps.sort_unstable();
        assert_eq!(steps, [16, 26], "{point}: an intent and an outcome of each step");
        assert_eq!(
            (self.champion, self.previous, self.challenger),
            (Some(old.version), None, None),
            "{point}: aliases"
        );
        let serves = BTreeMap::from([("production".to_owned(), Some(old.version.digest))]);
        assert_eq!(self.endpoints, serves, "{point}: production alone, and the old version");
        assert_eq!(self.switches, 1, "{point}: switches of production");
        self.told(base, 1, point);
    }

    /// Production was changed behind mloop's back and brought back once, and nothing else happened.
    pub(crate) fn is_restored_once(&self, before: &Self, point: &str) {
        assert_eq!(self.deployments, before.deployments, "{point}");
        let entries = |seen: &Self| seen.steps.iter().sum::<usize>();
        assert_eq!(entries(self), entries(before) + 2, "{point}: an intent and an outcome of it");
        let aliases = |seen: &Self| (seen.champion, seen.previous, seen.challenger);
        assert_eq!(aliases(self), aliases(before), "{point}: aliases");
        assert_eq!(self.endpoints, before.endpoints, "{point}: what serves");
        assert_eq!(self.switches, 2, "{point}: there and back");
        self.told(before, 1, point);
    }

    /// Whether a run has recorded such a verdict.
    pub(crate) fn tells(&self, verdict: DeploymentVerdict) -> bool {
        self.records(verdict) > 0
    }

    fn records(&self, verdict: DeploymentVerdict) -> usize {
        let runs = self.runs[RunKind::Deployment.as_str()].iter();
        runs.filter(|run| run.outcome == verdict.as_str()).count()
    }

    /// Nothing at all happened since this base.
    pub(crate) fn is_untouched(&self, base: &Self, point: &str) {
        assert_eq!(self.deployments, base.deployments, "{point}");
        assert_eq!(self.steps, base.steps, "{point}");
        assert_eq!(self.endpoints, base.endpoints, "{point}");
        assert_eq!(self.messages, base.messages, "{point}");
        assert_eq!(self.switches, 0, "{point}: switches of production");
    }

    /// One episode with one job gave one version, and people were told of it once.
    pub(crate) fn is_retrained_once(&self, before: &Self, restarts: bool, point: &str) {
        self.is_retrained(before, point);
        let submissions = self.episodes[0].job.submissions;
        let allowed = if restarts { 1..=3 } else { 1..=1 };
        assert!(allowed.contains(&submissions), "{point}: submitted {submissions} times");
        self.told(before, 1, point);
    }

    /// One episode with one job gave one version.
    pub(crate) fn is_retrained(&self, before: &Self, point: &str) {
        let [episode] = self.episodes.as_slice() else {
            panic!("{point}: {} episodes", self.episodes.len());
        };
        let closed = episode.closed.as_ref().expect("closed");
        assert_eq!(closed.outcome, EpisodeOutcome::Blessed, "{point}: {}", closed.detail);
        assert!(episode.announced, "{point}: people were told");
        self.has_one_version_more(&before.versions, point);
        let new = self.versions.iter().find(|version| version.version.number == 2);
        let new = new.expect("version 2");
        assert_eq!(closed.version, Some(new.version), "{point}");
        assert_eq!(new.tags.get(tags::JOB_ID).map(String::as_str), Some(episode.job.id.as_str()));
        let champions = (before.champion, before.previous);
        assert_eq!((self.champion, self.previous), champions, "{point}: aliases");
        assert_eq!(self.deployments, before.deployments, "{point}: nothing was deployed");
        assert_eq!(self.switches, 0, "{point}: switches of production");
    }

    /// The one episode of this base ended like this, with its one job, and nothing else happened.
    pub(crate) fn is_closed_once(&self, before: &Self, outcome: EpisodeOutcome, point: &str) {
        let [episode] = self.episodes.as_slice() else {
            panic!("{point}: {} episodes", self.episodes.len());
        };
        let closed = episode.closed.as_ref().expect("closed");
        assert_eq!(closed.outcome, outcome, "{point}: {}", closed.detail);
        assert_eq!(episode.job.submissions, 1, "{point}: submissions");
        let versions = |seen: &Self| -> Vec<(VersionRef, bool)> {
            seen.versions.iter().map(|one| (one.version, one.is_staging_ready())).collect()
        };
        assert_eq!(versions(self), versions(before), "{point}: versions");
        assert_eq!(self.deployments, before.deployments, "{point}: deployments");
        let aliases = |seen: &Self| (seen.champion, seen.previous, seen.challenger);
        assert_eq!(aliases(self), aliases(before), "{point}: aliases");
        assert_eq!(self.endpoints, before.endpoints, "{point}");
    }

    /// One version more than before, ready for staging; each made from inputs of its own.
    pub(crate) fn has_one_version_more(&self, before: &[ModelVersion], point: &str) {
        assert_eq!(self.versions.len(), before.len() + 1, "{point}: versions");
        assert!(self.versions.iter().all(ModelVersion::is_staging_ready), "{point}: readiness");
        let key = |version: &ModelVersion| version.tags.get(tags::KEY).cloned();
        let keys: BTreeSet<_> = self.versions.iter().map(key).collect();
        assert_eq!(keys.len(), self.versions.len(), "{point}: two versions of the same inputs");
        assert!(!keys.contains(&None), "{point}: a version without its key");
        let newest = self.versions.first().map(|version| version.version);
        assert_eq!(self.challenger, newest, "{point}: what waits for deployment");
    }

    /// Runs of a kind that are recorded now and were not before, under the moment of the test.
    pub(crate) fn new_runs(&self, before: &Self, kind: RunKind) -> usize {
        let moment =
            super::world::AS_OF.parse::<chrono::DateTime<chrono::Utc>>().expect("a moment");
        let of_test =
            |seen: &Self| seen.runs[kind.as_str()].iter().filter(|run| run.as_of == moment).count();
        of_test(self) - of_test(before)
    }

    /// So many messages more than before, each told once to each receiver.
    pub(crate) fn told(&self, before: &Self, more: usize, point: &str) {
        let ids: BTreeSet<&String> = self.messages.iter().collect();
        assert_eq!(ids.len(), self.messages.len(), "{point}: a message stands twice");
        assert_eq!(
            self.messages.len(),
            before.messages.len() + more,
            "{point}: {:?}",
            self.messages
        );
        assert_eq!(self.undelivered, 0, "{point}: messages that still wait");
    }
}

pub(crate) fn subject() -> Subject {
    Subject {
        model: ModelName::new("fashion").expect("a name"),
        target: TargetName::new("production").expect("a name"),
    }
}

fn messages(world: &SmallWorld) -> Vec<String> {
    let text = std::fs::read_to_string(world.folder().join("var/alerts.jsonl")).unwrap_or_default();
    let id = |line: &str| {
        let message: Value = serde_json::from_str(line).expect("whole lines");
        message["id"].as_str().expect("an id").to_owned()
    };
    text.lines().map(id).collect()
}

fn endpoints(world: &SmallWorld) -> BTreeMap<String, Option<Sha256Digest>> {
    let text = get(&world.server().admin_url(), "/admin/endpoints");
    let listed: Value = serde_json::from_str(&text).expect("JSON");
    let named = |one: &Value| {
        let digest = one["digest"].as_str().map(|digest| digest.parse().expect("a digest"));
        (one["name"].as_str().expect("a name").to_owned(), digest)
    };
    listed["endpoints"].as_array().expect("a list").iter().map(named).collect()
}

fn switches(world: &SmallWorld) -> u64 {
    let text = get(&world.server().url(), "/metrics");
    let mut lines = text.lines().filter(|line| line.contains("endpoint=\"production\""));
    let line = lines.find(|line| line.starts_with("mloop_serving_switches_total"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

/// The body that a server on this machine answers with.
fn get(base: &str, path: &str) -> String {
    use std::io::{Read as _, Write as _};
    let address = base.trim_start_matches("http://");
    let mut stream = std::net::TcpStream::connect(address).expect("listens");
    let request = format!("GET {path} HTTP/1.0\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    assert!(head.starts_with("HTTP/1.") && head.contains(" 200 "), "{head}");
    body.to_owned()
}

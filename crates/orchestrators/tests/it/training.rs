//! Training over the fakes: the registry afterwards.

use std::sync::Arc;

use async_trait::async_trait;
use mloop_core::Sha256Digest;
use mloop_core::evaluation::GateVerdict;
use mloop_core::version::{aliases, files, tags};
use mloop_core::{Profile, ProfileSchema, Window};
use mloop_orchestrators::gate::GateConfig;
use mloop_orchestrators::{Classified, ExitClass, TrafficUse, TrainingResult};
use mloop_platform::fakes::InMemoryModelRegistry;
use mloop_platform::{MockModelRegistry, ModelRegistry, PlatformError};
use mloop_trainer::{
    FakeTrainer, ImageUse, StopFlag, TrainError, Trained, Trainer, Training, TrainingRequest,
};
use tokio::sync::Barrier;

use crate::world::{World, at, files_of, first_allowed, job, now, subject};

async fn first(world: &World) -> TrainingResult {
    let training = world.training("one", &[], first_allowed());
    training.run(&job("first", None, None), &StopFlag::default()).await.expect("a version")
}

fn used(result: &TrainingResult) -> TrafficUse {
    result.traffic.expect("the traffic was read")
}

fn day() -> Window {
    Window::new(at(0), at(24)).expect("a day")
}

/// Trains a second version against the first, on 1000 labelled rows.
async fn second(world: &World, accuracies: &[(&str, f64, f64)]) -> TrainingResult {
    let champion = first(world).await.version;
    world.add_labelled(1000, at(0));
    let training = world.training("two", accuracies, GateConfig::default());
    let job = job("second", Some(champion), Some(day()));
    training.run(&job, &StopFlag::default()).await.expect("a version")
}

#[tokio::test]
async fn a_first_version_is_refused_unless_allowed() {
    let world = World::new();
    let training = world.training("one", &[], GateConfig::default());
    let result = training.run(&job("first", None, None), &StopFlag::default()).await;
    let result = result.expect("a version");
    assert_eq!((result.outcome, result.staging_ready), (GateVerdict::Rejected, false));
    assert!(result.evaluation.sets[0].reason.contains("first_model"), "{result:?}");

    let world = World::new();
    let result = first(&world).await;
    assert_eq!((result.outcome, result.staging_ready), (GateVerdict::Blessed, true));
}

#[tokio::test]
async fn a_version_carries_all_its_files_and_tags() {
    let world = World::new();
    let accuracies = [("one", 0.8, 0.5), ("two", 0.8, 0.9)];
    let result = second(&world, &accuracies).await;
    let versions = world.versions().await;
    let [newer, older] = versions.as_slice() else { panic!("two versions: {versions:?}") };
    assert_eq!(result.version, newer.version);
    assert_eq!(newer.tags.get(tags::JOB_ID).map(String::as_str), Some(result.job_id.as_str()));
    assert_eq!(newer.tags.get(tags::VERDICT).map(String::as_str), Some("blessed"));
    let folder = world.folder.path().join("check");
    let mut expected = vec![
        files::EVALUATION,
        files::GOLDEN,
        files::METRICS,
        files::MODEL,
        files::WEIGHTS,
        files::ANCHOR,
        files::REFERENCE,
        files::SCHEMA,
        files::TRAINING_CONFIG,
    ];
    expected.sort_unstable();
    assert_eq!(files_of(&world, newer, &folder.join("new")).await, expected);
    expected.retain(|file| *file != files::ANCHOR);
    assert_eq!(files_of(&world, older, &folder.join("old")).await, expected);

    let read = |path: &str| std::fs::read_to_string(folder.join(path)).expect("a file");
    let of = |which: &str, file: &str| read(&format!("{which}/{file}"));
    assert_eq!(of("new", files::SCHEMA), of("old", files::SCHEMA), "the bins are inherited");
    assert_eq!(of("new", files::ANCHOR), of("old", files::REFERENCE), "the first is the anchor");
    let schema: ProfileSchema = serde_json::from_str(&of("new", files::SCHEMA)).expect("json");
    let profile: Profile = serde_json::from_str(&of("new", files::REFERENCE)).expect("json");
    assert_eq!(profile.schema, schema.digest());
    assert_eq!(profile.rows as usize, used(&result).fresh, "the reference is the fresh slice");
    assert_eq!(used(&result).fresh + used(&result).training, 1000);
    let images = ImageUse { given: used(&result).training as u64, left_out: 0 };
    assert_eq!(result.images, Some(images), "as the trainer told it");
    assert_eq!(of("new", files::GOLDEN).lines().count(), 3);
}

#[tokio::test]
async fn only_a_blessed_version_is_ready_for_staging() {
    for (accuracies, expected) in [
        // Better on the fresh slice, equal on the frozen set.
        ([("one", 0.8, 0.5), ("two", 0.8, 0.9)], GateVerdict::Blessed),
        // Worse on the frozen set.
        ([("one", 0.9, 0.5), ("two", 0.7, 0.9)], GateVerdict::Rejected),
        // Worse on the fresh slice.
        ([("one", 0.8, 0.9), ("two", 0.8, 0.7)], GateVerdict::Rejected),
        // The same everywhere: whether it is better cannot be told.
        ([("one", 0.8, 0.8), ("two", 0.8, 0.8)], GateVerdict::Inconclusive),
    ] {
        let world = World::new();
        let result = second(&world, &accuracies).await;
        assert_eq!(result.outcome, expected, "{accuracies:?}");
        assert_eq!(result.staging_ready, expected == GateVerdict::Blessed);
        let newer = world.versions().await.remove(0);
        assert_eq!(newer.is_staging_ready(), expected == GateVerdict::Blessed, "{accuracies:?}");
        let waits = world.registry.alias(&subject().model, aliases::CHALLENGER).await;
        let waits = waits.expect("an alias").map(|version| version.number);
        let newest_blessed = if expected == GateVerdict::Blessed { 2 } else { 1 };
        assert_eq!(waits, Some(newest_blessed));
    }
}

#[tokio::test]
async fn without_fresh_traffic_an_improvement_cannot_be_told() {
    let world = World::new();
    let champion = first(&world).await.version;
    let training = world.training("two", &[("one", 0.5, 0.5)], GateConfig::default());
    let job = job("second", Some(champion), Some(day()));
    let result = training.run(&job, &StopFlag::default()).await.expect("a version");
    assert_eq!((result.outcome, used(&result).fresh), (GateVerdict::Inconclusive, 0));
    assert!(result.evaluation.sets[1].reason.contains("no labelled traffic"));
}

#[tokio::test]
async fn a_repeat_gives_the_same_version() {
    let world = World::new();
    let accuracies = [("one", 0.8, 0.5), ("two", 0.8, 0.9)];
    let result = second(&world, &accuracies).await;
    let champion = world.versions().await[1].version;
    let training = world.training("two", &accuracies, GateConfig::default());
    let job = job("second", Some(champion), Some(day()));
    let again = training.run(&job, &StopFlag::default()).await.expect("a version");
    assert!(again.adopted && !result.adopted);
    assert_eq!((again.version, again.outcome), (result.version, result.outcome));
    assert_eq!(again.run_id, result.run_id);
    assert_eq!(world.versions().await.len(), 2);
}

/// Hands all on to a registry but the first alias that is set, as if the run was killed just then.
fn killed_before_its_alias(registry: Arc<InMemoryModelRegistry>) -> MockModelRegistry {
    let mut mock = MockModelRegistry::new();
    let inner = registry.clone();
    mock.expect_register().returning(move |one| now(inner.register(one)));
    let inner = registry.clone();
    mock.expect_versions().returning(move |model| now(inner.versions(model)));
    let inner = registry.clone();
    mock.expect_fetch().returning(move |version, into| now(inner.fetch(version, into)));
    mock.expect_alias().returning(move |model, alias| now(registry.alias(model, alias)));
    mock.expect_set_alias()
        .withf(|_, alias, version| (alias, version.number) == (aliases::CHALLENGER, 2))
        .once()
        .returning(|_, _, _| Err(PlatformError::unavailable("the registry", "naming", "killed")));
    mock
}

#[tokio::test]
async fn a_repeat_of_a_run_that_was_killed_once_registered_sets_the_alias_and_only_that() {
    let world = World::new();
    let accuracies = [("one", 0.8, 0.5), ("two", 0.8, 0.9)];
    let champion = first(&world).await.version;
    let model = subject().model;
    world.registry.remove_alias(&model, aliases::CHALLENGER).await.expect("removed");
    world.registry.set_alias(&model, aliases::CHAMPION, &champion).await.expect("set");
    world.add_labelled(1000, at(0));
    let job = job("second", Some(champion), Some(day()));
    let stop = StopFlag::default();
    let killed = killed_before_its_alias(world.registry.clone());
    let gate = GateConfig::default();
    let training = world.training_over(Arc::new(killed), "two", &accuracies, gate);
    training.run(&job, &stop).await.expect_err("killed");
    assert_eq!((world.versions().await.len(), world.aliases().await), (2, [Some(1), None, None]));

    let training = world.training("two", &accuracies, GateConfig::default());
    let again = training.run(&job, &stop).await.expect("a version");
    assert_eq!((again.adopted, again.staging_ready), (true, true));
    assert_eq!(world.aliases().await, [Some(1), None, Some(2)]);

    // It was tried in vain since, so that it waits no longer: the job is done all the same.
    world.registry.remove_alias(&model, aliases::CHALLENGER).await.expect("removed");
    let again = training.run(&job, &stop).await.expect("a version");
    assert!(again.adopted);
    assert_eq!(world.aliases().await, [Some(1), None, None]);
}

#[tokio::test]
async fn a_stop_leaves_no_version() {
    let world = World::new();
    let stop = StopFlag::default();
    stop.raise();
    let training = world.training("one", &[], first_allowed());
    let error = training.run(&job("first", None, None), &stop).await.expect_err("stopped");
    assert_eq!(error.exit_class(), ExitClass::Stopped);
    assert_eq!(world.versions().await, []);
}

#[tokio::test]
async fn a_champion_that_the_registry_lost_needs_a_person() {
    let world = World::new();
    let champion =
        mloop_core::VersionRef { number: 7, digest: mloop_core::Sha256Digest::of(b"gone") };
    let training = world.training("two", &[], first_allowed());
    let error = training.run(&job("second", Some(champion), None), &StopFlag::default()).await;
    assert_eq!(error.expect_err("lost").exit_class(), ExitClass::NeedsPerson);
}

#[tokio::test]
async fn a_repeat_adopts_the_version_of_its_job_whatever_changed_since() {
    let world = World::new();
    let accuracies = [("one", 0.8, 0.5), ("two", 0.8, 0.9)];
    let result = second(&world, &accuracies).await;
    // More rows than before, of a moment when they count, and another champion's word.
    world.add_labelled(500, at(1));
    let training = world.training("three", &accuracies, GateConfig::default());
    let again = training.run(&job("second", None, Some(day())), &StopFlag::default()).await;
    let again = again.expect("the version");
    assert_eq!((again.version, again.adopted), (result.version, true));
    assert_eq!((again.images, again.traffic), (None, None), "nothing was read");
    assert_eq!(again.evaluation, result.evaluation);
    assert_eq!(world.versions().await.len(), 2);
}

#[tokio::test]
async fn labels_that_arrive_between_a_stop_and_its_repeat_change_nothing() {
    let accuracies = [("one", 0.8, 0.5), ("two", 0.8, 0.9)];
    let mut digests = vec![];
    for late in [0, 500] {
        let world = World::new();
        let champion = first(&world).await.version;
        world.add_labelled(1000, at(0));
        let training = world.training("two", &accuracies, GateConfig::default());
        let mut job = job("second", Some(champion), Some(day()));
        job.as_of = at(24);
        let stop = StopFlag::default();
        stop.raise();
        training.run(&job, &stop).await.expect_err("stopped");
        world.add_labelled_at(at(25), late, at(1));
        let result = training.run(&job, &StopFlag::default()).await.expect("a version");
        assert_eq!(used(&result).unlabelled, late as u64, "they are no labels of that moment");
        let again = training.run(&job, &StopFlag::default()).await.expect("a version");
        assert_eq!(again.version, result.version);
        assert_eq!(world.versions().await.len(), 2, "one job, one version");
        let newest = world.versions().await.remove(0);
        digests.push((newest.version.digest, newest.tags.get(tags::KEY).cloned()));
    }
    assert_eq!(digests[0], digests[1]);
}

/// Trains, then waits until the other job has trained too.
struct Together {
    trainer: FakeTrainer,
    both: Arc<Barrier>,
}

#[async_trait]
impl Trainer for Together {
    async fn key(&self, request: &TrainingRequest) -> Result<Sha256Digest, TrainError> {
        self.trainer.key(request).await
    }

    async fn train(&self, request: &TrainingRequest) -> Result<Trained, TrainError> {
        let model = self.trainer.train(request).await;
        self.both.wait().await;
        model
    }
}

#[tokio::test]
async fn two_jobs_at_once_register_each_its_own_and_leave_nothing() {
    let world = World::new();
    let both = Arc::new(Barrier::new(2));
    let training = |weights: &str| {
        let fake =
            FakeTrainer { frozen_rows: 1000, accuracies: vec![], weights: weights.to_owned() };
        let trainer = Arc::new(Together { trainer: fake.clone(), both: both.clone() });
        world.training_with(Training { trainer, evaluator: Arc::new(fake) }, first_allowed())
    };
    let (left, right) = (training("left"), training("right"));
    let (jobs, stop) = ([job("left", None, None), job("right", None, None)], StopFlag::default());
    let (left, right) = tokio::join!(left.run(&jobs[0], &stop), right.run(&jobs[1], &stop));
    for (name, result) in [("left", left), ("right", right)] {
        let version = result.expect("a version").version;
        let versions = world.versions().await;
        let found = versions.iter().find(|known| known.version == version).expect("registered");
        let folder = world.folder.path().join(name);
        world.registry.fetch(found, &folder).await.expect("files");
        let weights = std::fs::read_to_string(folder.join(files::WEIGHTS)).expect("weights");
        assert_eq!(weights, name);
    }
    let left = std::fs::read_dir(world.training_work()).expect("listed").count();
    assert_eq!(left, 0, "the jobs' folders are removed");
}

//! `deployment_main` and SageMaker: one change of each endpoint, there and back.

use mloop_core::deployment::DeploymentVerdict::{self, RolledBack, Switched};
use mloop_core::deployment::{Phase, Step};
use mloop_core::version::aliases;
use mloop_services::Services;
use serde_json::{Value, json};

use crate::runs::AS_OF;
use crate::stand::Place::{After, Before, Point};
use crate::stand::{Acting, Command, DEPLOY, Place, Stand, TRAIN, block_on};
use crate::world::World;

const RUN: Command<'static> =
    &["deployment_main", "run", "--config", "deployment_config.yaml", "--as-of", AS_OF];
const ROLLBACK: Command<'static> =
    &["deployment_main", "rollback", "--config", "deployment_config.yaml", "--as-of", AS_OF];

const ARTIFACT: &str = "PUT /*/model.tar.gz";
const ALIAS: &str = "POST /api/2.0/mlflow/registered-models/alias";
const NO_ALIAS: &str = "DELETE /api/2.0/mlflow/registered-models/alias";
const CHAT: &str = "POST /services/*";
const ALERT: &str = "POST /api/v2/alerts";

/// All acting calls on the way to production, in their order.
const SWITCHING: [Place; 30] = [
    Point("ledger.save_deployment.before_commit"),
    Before(ARTIFACT),
    After(ARTIFACT),
    Before("CreateModel"),
    After("CreateModel"),
    Before("CreateEndpointConfig"),
    After("CreateEndpointConfig"),
    Before("CreateEndpoint"),
    After("CreateEndpoint"),
    // That of production.
    Before("CreateEndpointConfig"),
    After("CreateEndpointConfig"),
    Point("sagemaker.changing"),
    Before("UpdateEndpoint"),
    After("UpdateEndpoint"),
    Point("deployment.production_submitted.called"),
    Point("deployment.production_submitted.called"),
    Point("deployment.production_submitted.called"),
    Point("deployment.production_submitted.called"),
    Point("deployment.production_submitted.called"),
    Before(NO_ALIAS),
    After(NO_ALIAS),
    Before(ALIAS),
    After(ALIAS),
    Before("DeleteEndpoint"),
    After("DeleteEndpoint"),
    // After a kill there the next run ends the deployment first, and then tells people.
    Before(CHAT),
    Point("deployment.concluded"),
    Point("deployment.recorded"),
    After(CHAT),
    Point("ledger.delivered.before_commit"),
];

/// All acting calls on the way back, in their order; that which changes production, over and over.
const ROLLING_BACK: [Place; 26] = [
    Point("deployment.turned"),
    Point("deployment.rollback_submitted.intent"),
    Point("sagemaker.changing"),
    Before("UpdateEndpoint"),
    Before("UpdateEndpoint"),
    Before("UpdateEndpoint"),
    Before("UpdateEndpoint"),
    Before("UpdateEndpoint"),
    Before("UpdateEndpoint"),
    After("UpdateEndpoint"),
    Point("deployment.rollback_submitted.called"),
    Point("deployment.rollback_submitted.called"),
    Point("deployment.rollback_submitted.called"),
    Point("deployment.rollback_submitted.called"),
    Point("deployment.rollback_submitted.called"),
    Point("deployment.rollback_submitted.outcome"),
    Point("deployment.rollback_verified.called"),
    Before(ALIAS),
    After(ALIAS),
    Before(NO_ALIAS),
    After(NO_ALIAS),
    Point("deployment.rollback_staging_removed.called"),
    Before(ALERT),
    Point("deployment.concluded"),
    Point("deployment.recorded"),
    After(ALERT),
];

/// The versions that champion, previous champion and challenger name on the server.
fn named(world: &World) -> [Value; 3] {
    let url = Services::running().mlflow().url.clone();
    let path = ["api", "2.0", "mlflow", "registered-models", "get"];
    let model = world.ask(&url, &path, ("name", &world.name));
    let all = model["registered_model"]["aliases"].as_array().cloned().unwrap_or_default();
    [aliases::CHAMPION, aliases::PREVIOUS_CHAMPION, aliases::CHALLENGER].map(|alias| {
        let found = all.iter().find(|one| one["alias"] == alias);
        found.map_or(Value::Null, |one| one["version"].clone())
    })
}

/// The one deployment of version 2, its verdict, and how many entries its journal has.
fn deployed(stand: &Stand<'_>) -> (String, Option<DeploymentVerdict>, usize) {
    let journal = stand.ledger().journal;
    block_on(async {
        let deployments = journal.deployments(&stand.subject()).await.expect("readable");
        assert_eq!(deployments.len(), 2, "one for each version");
        let second = deployments.iter().find(|one| one.version.number == 2).expect("version 2");
        let entries = journal.entries(&second.id).await.expect("readable");
        (second.id.to_string(), second.verdict, entries.len())
    })
}

/// The alerts of a message that are active.
fn alerts(world: &World, message: &str) -> usize {
    let url = Services::running().alertmanager().url.clone();
    let filter = format!("message=\"{message}\"");
    let found = world.ask(&url, &["api", "v2", "alerts"], ("filter", &filter));
    found.as_array().expect("a list").len()
}

fn runs(stand: &Stand<'_>, outcome: &str) -> i64 {
    let of = format!("kind = 'deployment' AND outcome = '{outcome}'");
    stand.count(&format!("SELECT count(*) FROM mloop.runs WHERE {of}"))
}

#[test]
fn production_is_changed_once_there_and_once_back() {
    let world = World::new("killed-production");
    let stand = Stand::of(&world);
    stand.done(TRAIN, &[0]);
    stand.done(DEPLOY, &[0]);
    let first = stand.answering();
    stand.train_another(2);

    let effects = || world.effects("UpdateEndpoint");
    let noted = |step: Step| {
        let (stand, journal) = (&stand, stand.ledger().journal);
        move || {
            let deployments = block_on(journal.deployments(&stand.subject())).expect("readable");
            let second = deployments.iter().find(|one| one.version.number == 2);
            second.is_some_and(|second| {
                let entries = block_on(journal.entries(&second.id)).expect("readable");
                entries.iter().any(|one| (one.step, one.phase) == (step, Phase::Outcome))
            })
        }
    };
    let is_noted = noted(Step::ProductionSubmitted);
    let acting = Acting { effects: &effects, is_noted: &is_noted, least_between: 5 };
    let last = stand.killed_about(&acting, RUN, &SWITCHING, &[0]);
    assert_eq!(last["outcome"], "switched", "{last}");
    assert_eq!(stand.answering(), last["version"]["digest"]);
    let changes = ["CreateModel", "CreateEndpointConfig", "CreateEndpoint", "DeleteEndpoint"];
    // Each of the first version too, whose production endpoint was created, not updated.
    assert_eq!(changes.map(|operation| world.effects(operation)), [2, 4, 3, 2]);
    assert_eq!(world.effects("UpdateEndpoint"), 1);
    let (id, verdict, entries) = deployed(&stand);
    assert_eq!((verdict, entries), (Some(Switched), 16));
    assert_eq!(named(&world), [json!("2"), json!("1"), Value::Null]);
    assert_eq!((runs(&stand, "switched"), stand.messages()), (2, 2), "one of each version");
    let message = format!("{id}-switched");
    // At least once: again after each kill between the call and its record.
    assert!((1..=3).contains(&world.told(&message)), "{} times", world.told(&message));
    assert_eq!(alerts(&world, &message), 1);

    let is_noted = noted(Step::RollbackSubmitted);
    let acting = Acting { effects: &effects, is_noted: &is_noted, least_between: 5 };
    let last = stand.killed_about(&acting, ROLLBACK, &ROLLING_BACK, &[13]);
    assert_eq!(last["outcome"], "rolled_back", "{last}");
    assert_eq!(stand.answering(), first);
    assert_eq!(changes.map(|operation| world.effects(operation)), [2, 4, 3, 2]);
    assert_eq!(world.effects("UpdateEndpoint"), 2);
    assert_eq!(deployed(&stand), (id.clone(), Some(RolledBack), 26));
    assert_eq!(named(&world), [json!("1"), Value::Null, Value::Null]);
    assert_eq!((runs(&stand, "rolled_back"), stand.messages()), (1, 3));
    assert_eq!(alerts(&world, &format!("{id}-rolled_back")), 1);

    // A schedule finds nothing to do.
    stand.done(DEPLOY, &[99]);
    let status =
        stand.done(&["deployment_main", "status", "--config", "deployment_config.yaml"], &[0]);
    assert_eq!(status["outcome"], "consistent", "{status}");
    assert_eq!((world.effects("UpdateEndpoint"), stand.messages()), (2, 3));
}

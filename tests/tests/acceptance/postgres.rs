//! The loop with its ledger in PostgreSQL: a change of YAML, and of nothing else.

use mloop_config::secrets;
use mloop_core::deployment::DeploymentVerdict;
use mloop_core::run::RunKind;
use mloop_core::{Clock as _, SystemClock};
use mloop_ledger::PostgresSettings;
use mloop_platform::{Ledger, PlatformDeps, RunQuery, Spec as _};
use mloop_services::Services;
use mloop_testkit::camera::Camera;
use mloop_testkit::small::SmallWorld;
use serde_json::json;

use crate::database::Database;
use crate::world::{ended_with, run, subject, wait};

/// Puts the ledger of a world's configurations into a database; gives that ledger.
fn move_ledger(world: &SmallWorld, database: &Database) -> Ledger {
    let services = Services::running();
    let server = services.postgres();
    let folder = world.folder().join("configs");
    std::fs::write(folder.join("ledger-password"), &server.password).expect("written");
    let url = format!("postgresql://{}@127.0.0.1:{}/{}", server.admin, server.port, database.name);
    let settings = json!({ "url": url, "password_file": "ledger-password" });
    for file in ["monitoring_config.yaml", "retrain_config.yaml", "deployment_config.yaml"] {
        let path = folder.join(file);
        let text = std::fs::read_to_string(&path).expect("a configuration");
        let (before, rest) = text.split_once("\nledger:\n").expect("a ledger");
        let (_, after) = rest.split_once("\n\n").expect("what follows the ledger");
        let ledger = json!({ "kind": "postgres", "settings": settings });
        std::fs::write(&path, format!("{before}\nledger: {ledger}\n\n{after}")).expect("written");
    }
    let deps = PlatformDeps::new(folder, std::sync::Arc::new(SystemClock)).with_secrets(secrets());
    let settings: PostgresSettings = serde_json::from_value(settings).expect("settings");
    settings.build("ledger".to_owned(), &deps).expect("a ledger")
}

#[test]
fn the_loop_turns_with_its_ledger_in_postgresql() {
    let database = Database::new("loop");
    let mut world = SmallWorld::new().expect("a world");
    let ledger = move_ledger(&world, &database);
    for (program, file) in
        [("monitoring_main", "monitoring_config.yaml"), ("retraining_main", "retrain_config.yaml")]
    {
        ended_with(&run(&world, &[program, "--config", file, "--check"]), 0);
    }
    ended_with(&world.train_first().expect("runs"), 0);
    ended_with(&world.deploy().expect("runs"), 0);
    let sent = world.traffic(Camera::Cheap, 300).expect("traffic");
    let alarm = world.monitor(&sent).expect("runs");
    ended_with(&alarm, 0);
    assert_eq!(alarm.last["outcome"], "alert", "{}", alarm.stderr);
    ended_with(&world.retrain().expect("runs"), 0);
    let closed = world.retrain_until_closed().expect("closed");
    assert_eq!(closed["outcome"], "blessed", "{closed}");
    ended_with(&world.deploy().expect("runs"), 0);
    ended_with(&world.deploy().expect("runs"), 99);

    let (deployments, episodes, runs) = wait(async {
        let since = Some(SystemClock.now() - chrono::TimeDelta::hours(1));
        let query = RunQuery { kind: RunKind::Monitoring, subject: subject(), since, limit: 10 };
        let journal = &ledger.journal;
        let deployments = journal.deployments(&subject()).await.expect("read");
        let episodes = journal.episodes(&subject()).await.expect("read");
        (deployments, episodes, journal.runs(&query).await.expect("read"))
    });
    let switched: Vec<_> = deployments
        .iter()
        .map(|deployment| (deployment.version.number, deployment.verdict))
        .collect();
    let verdict = Some(DeploymentVerdict::Switched);
    assert_eq!(switched, [(2, verdict), (1, verdict)], "newest first");
    assert_eq!(episodes.len(), 1, "one cause");
    assert_eq!(runs.len(), 1, "one window");
    assert!(!world.folder().join("var/ledger.sqlite").exists(), "and no file");
}

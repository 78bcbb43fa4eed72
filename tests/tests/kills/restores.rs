//! SIGKILL while production is brought back to what should serve, after a call that came too late had
//! changed it: whichever run comes next finishes that.

use std::sync::Arc;

use mloop_core::{EndpointName, SystemClock};
use mloop_deployer::{Always, DeployRequest};
use mloop_local::DirectoryRegistry;
use mloop_orchestrators::points;
use mloop_platform::ModelRegistry as _;
use mloop_testkit::small::SmallWorld;

use crate::end::{Seen, subject};
use crate::points::{kill_at, restoring_points};
use crate::world::{
    Bases, Command, DEPLOY, LATER, MANY, ROLLBACK, STATUS, bases, in_parallel, until_done,
};

const RUN: Command = ("deployment_main", &["run", "--config", "deployment_config.yaml"]);

/// Version 2 was switched to by two runs, the first of them killed when it was about to ask for it, and
/// was then rolled back.
fn rolled_back(ready: &SmallWorld) -> SmallWorld {
    let world = ready.fork().expect("a copy");
    kill_at(&world, DEPLOY, points::CALLING_SWITCH);
    until_done(&world, &[&[DEPLOY.0], DEPLOY.1].concat(), &[0]);
    until_done(&world, &[&[ROLLBACK.0], ROLLBACK.1].concat(), &[13]);
    world
}

/// Gives production to version 2, as the first run would have done if it had been stopped, not killed, and
/// if `model_server` did not compare what serves with what is expected to.
fn call_late(world: &SmallWorld) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let root = world.folder().join("var/registry");
        let registry = DirectoryRegistry::new(root, Arc::new(SystemClock));
        let versions = registry.versions(&subject().model).await.expect("a list");
        let version = versions.into_iter().find(|one| one.version.number == 2).expect("version 2");
        let folder = world.folder().join("late");
        std::fs::create_dir(&folder).expect("made");
        registry.fetch(&version, &folder).await.expect("its files");
        let endpoint = EndpointName::new("production").expect("a name");
        let permission = Arc::new(Always);
        let request = DeployRequest { endpoint, version, folder, permission };
        let endpoints = world.server().endpoints().expect("a deployer");
        endpoints.deployer.deploy_model(&request).await.expect("changed");
    });
}

#[test]
fn a_killed_restoration_is_finished_by_the_next_run() {
    let Bases { ready, .. } = &*bases();
    let base = rolled_back(ready);
    let before = Seen::of(&base);
    in_parallel(MANY, &restoring_points(), |point| {
        let world = base.fork().expect("a copy");
        call_late(&world);
        let status = until_done(&world, STATUS, &[0]);
        assert_eq!(status["outcome"], "inconsistent", "{point}: {status}");
        assert!(status["reason"].to_string().contains("`run` puts it right"), "{point}: {status}");
        kill_at(&world, RUN, point);
        until_done(&world, LATER, &[99]);
        let seen = Seen::of(&world);
        seen.is_restored_once(&before, point);
        let status = until_done(&world, STATUS, &[0]);
        assert_eq!(status["outcome"], "consistent", "{point}: {status}");
        // Nothing is left to do.
        until_done(&world, LATER, &[99]);
        Seen::of(&world).is_restored_once(&before, point);
    });
}

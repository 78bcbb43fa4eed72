//! Where runs are killed: a set of configurations of a world, and the ledger that it names.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;

use mloop_config::secrets;
use mloop_core::{ModelName, Subject, SystemClock, TargetName};
use mloop_http::testing::Fault;
use mloop_ledger::PostgresSettings;
use mloop_platform::{Ledger, PlatformDeps, Spec as _};
use mloop_services::Services;
use mloop_testkit::program::Program;
use serde_json::{Value, json};

use crate::configured::{airflow, configure, credentialed};
use crate::runs::{eventually, kill, until_done};
use crate::trap::{Call, Trap};
use crate::world::World;

/// A binary with its arguments.
pub(crate) type Command<'a> = &'a [&'a str];

pub(crate) const TRAIN: Command<'static> = &["training_main", "--config", "training_config.yaml"];
pub(crate) const DEPLOY: Command<'static> =
    &["deployment_main", "run", "--config", "deployment_config.yaml"];

/// Kills that each acting call must survive.
const KILLS: usize = 20;

/// Where a run is killed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// As a call arrives, which then has no effect.
    Before(Call),
    /// After a call has had its effect, before its answer.
    After(Call),
    /// At a fail point.
    Point(&'static str),
}

/// The call that a run is there for, told apart by what a kill left.
pub(crate) struct Acting<'a> {
    /// How many effects it has had so far.
    pub(crate) effects: &'a dyn Fn() -> usize,
    /// Whether the ledger knows of it.
    pub(crate) is_noted: &'a dyn Fn() -> bool,
    /// Kills that must fall between the effect and the note, at least.
    pub(crate) least_between: usize,
}

/// A set of configurations, and what it names.
pub(crate) struct Stand<'a> {
    world: &'a World,
    /// Before all services of these configurations.
    pub(crate) trap: Arc<Trap>,
    configs: PathBuf,
    /// Name of the ledger's database.
    pub(crate) database: String,
}

impl<'a> Stand<'a> {
    /// A stand in a folder of the world, whose submitter is told by how services are reached.
    pub(crate) fn new(
        world: &'a World,
        folder: &str,
        database: &str,
        submitter: impl FnOnce(&dyn Fn(&str) -> String) -> String,
    ) -> Self {
        let (trap, configs) = (Arc::new(Trap::default()), world.folder().join(folder));
        let submitter = submitter(&|url| trap.before(url));
        configure(world, &configs, &trap, database, submitter);
        Self { world, trap, configs, database: database.to_owned() }
    }

    /// The world's own one, which submits nothing.
    pub(crate) fn of(world: &'a World) -> Self {
        let nobody = airflow("http://127.0.0.1:1", "none");
        Self::new(world, "configs", &world.database.name, |_| nobody)
    }

    /// Where its configurations lie.
    pub(crate) fn configs(&self) -> &Path {
        &self.configs
    }

    fn program(&self, command: Command<'_>) -> Program {
        let program = Program::new(command[0], &command[1..]).expect("built");
        credentialed(program.within(&self.configs))
    }

    /// Starts a command, to hold at a fail point if one is named.
    pub(crate) fn start(&self, command: Command<'_>, point: Option<&str>) -> Child {
        let mut program = self.program(command);
        if let Some(point) = point {
            program = program.env("MLOOP_FAILPOINT", point);
            program = program.env("MLOOP_FAILPOINT_MARK", self.mark());
        }
        program.start_logging(&self.log()).expect("starts")
    }

    /// By this file a process tells that it holds at its fail point.
    pub(crate) fn mark(&self) -> PathBuf {
        self.configs.join("mark")
    }

    fn log(&self) -> PathBuf {
        self.configs.join("run.log")
    }

    /// What the runs that were killed or stopped have said.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Waits until something is so of a run that must not end before.
    pub(crate) fn waits(&self, run: &mut Child, about: &str, is_so: impl Fn() -> bool) {
        eventually(about, || {
            let ended = run.try_wait().expect("a child of this process");
            assert!(ended.is_none() || is_so(), "{about}: it ended: {ended:?}\n{}", self.said());
            is_so()
        });
    }

    /// Runs a command until it is at a place, and kills it there. Its lease is taken for expired.
    fn kill(&self, command: Command<'_>, place: Place) {
        let about = format!("{} is killed at {place:?}", command[0]);
        let caught = self.trap.caught();
        let point = match place {
            Place::Before(call) => {
                self.trap.set(call, Fault::Silent);
                None
            }
            Place::After(call) => {
                self.trap.set(call, Fault::SilentAfter);
                None
            }
            Place::Point(point) => Some(point),
        };
        let mut run = self.start(command, point);
        self.waits(&mut run, &about, || match point {
            Some(_) => self.mark().exists(),
            None => self.trap.caught() > caught,
        });
        let status = kill(&mut run);
        assert_eq!(status.signal(), Some(9), "{about}: it ended before: {status}");
        if point.is_some() {
            std::fs::remove_file(self.mark()).expect("the mark");
        }
        self.execute(
            "DO $$ BEGIN IF to_regclass('mloop.leases') IS NOT NULL THEN
                 UPDATE mloop.leases SET expires_at = 0;
             END IF; END $$",
        );
    }

    /// Calls a command once for each place, twenty times at least, each time killed there; then until it
    /// is done. Gives its last line.
    pub(crate) fn killed(&self, command: Command<'_>, places: &[Place], codes: &[i32]) -> Value {
        assert!(places.len() >= KILLS, "{} kills of {command:?}", places.len());
        for place in places {
            self.kill(command, *place);
        }
        self.done(command, codes)
    }

    /// The same, where some of the kills must fall before the effect of a call, some between that and its
    /// note in the ledger, and some after both.
    pub(crate) fn killed_about(
        &self,
        acting: &Acting<'_>,
        command: Command<'_>,
        places: &[Place],
        codes: &[i32],
    ) -> Value {
        let (before, mut left) = ((acting.effects)(), [0; 3]);
        assert!(places.len() >= KILLS, "{} kills of {command:?}", places.len());
        for place in places {
            self.kill(command, *place);
            match ((acting.effects)() - before, (acting.is_noted)()) {
                (0, false) => left[0] += 1,
                (1, false) => left[1] += 1,
                (1, true) => left[2] += 1,
                other => panic!("{command:?} killed at {place:?} left {other:?}"),
            }
        }
        let [none, between, noted] = left;
        let both = none >= acting.least_between && between >= acting.least_between && noted > 0;
        assert!(both, "{command:?}: kills before, between and after: {left:?}");
        self.done(command, codes)
    }

    /// Calls a command until it is done.
    pub(crate) fn done(&self, command: Command<'_>, codes: &[i32]) -> Value {
        until_done(|| self.program(command), codes)
    }

    /// Makes another version, ready for staging.
    pub(crate) fn train_another(&self, seed: u32) -> Value {
        let path = self.configs.join("training_config.yaml");
        let text = std::fs::read_to_string(&path).expect("a configuration");
        let (before, rest) = text.split_once("seed: ").expect("a seed");
        let (_, after) = rest.split_once('\n').expect("a line");
        std::fs::write(&path, format!("{before}seed: {seed}\n{after}")).expect("written");
        self.done(TRAIN, &[0])
    }

    /// The digest of the version that answers for production.
    pub(crate) fn answering(&self) -> Value {
        self.world.answering(&self.configs)
    }

    fn sql<T>(&self, work: impl AsyncFnOnce(tokio_postgres::Client) -> T) -> T {
        let mut config: tokio_postgres::Config =
            Services::running().postgres().url.parse().expect("an address");
        config.dbname(&self.database);
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let connected = config.connect(tokio_postgres::NoTls).await;
            let (client, connection) = connected.expect("the bench");
            tokio::spawn(connection);
            work(client).await
        })
    }

    fn execute(&self, sql: &str) {
        self.sql(async |client| client.batch_execute(sql).await.expect("done"));
    }

    /// A number from the ledger.
    pub(crate) fn count(&self, sql: &str) -> i64 {
        self.sql(async |client| client.query_one(sql, &[]).await.expect("a row").get(0))
    }

    /// Each message waits for nobody any more, and each receiver has it once in the ledger.
    pub(crate) fn messages(&self) -> i64 {
        let waiting = "SELECT count(*) FROM mloop.deliveries WHERE delivered_at IS NULL";
        assert_eq!(self.count(waiting), 0, "messages that still wait");
        self.count("SELECT count(*) FROM mloop.outbox")
    }

    /// The ledger, as the binaries see it.
    pub(crate) fn ledger(&self) -> Ledger {
        let postgres = Services::running().postgres().clone();
        let (port, name) = (postgres.port, &self.database);
        let url = format!("postgresql://{}@127.0.0.1:{port}/{name}", postgres.admin);
        let settings = json!({"url": url, "password_file": "secrets/ledger-password"});
        let settings: PostgresSettings = serde_json::from_value(settings).expect("settings");
        let deps = PlatformDeps::new(self.configs.clone(), Arc::new(SystemClock));
        settings.build("ledger".to_owned(), &deps.with_secrets(secrets())).expect("a ledger")
    }

    pub(crate) fn subject(&self) -> Subject {
        Subject {
            model: ModelName::new(&*self.world.name).expect("a name"),
            target: TargetName::new("production").expect("a name"),
        }
    }
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().expect("a runtime").block_on(work)
}

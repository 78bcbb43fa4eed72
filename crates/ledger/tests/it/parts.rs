//! What the processes of these tests do.
#![expect(clippy::disallowed_methods, reason = "a child is told its part through the environment")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mloop_core::deployment::{Deployment, Phase, Step};
use mloop_platform::conformance::samples;
use mloop_platform::{Again, Ledger, PlatformError};

use crate::place::{Place, build};

pub(crate) const LONG: Duration = Duration::from_secs(600);

/// Hours that every hammering process writes: the same ones, so that each is written many times.
pub(crate) const HOURS: i64 = 12;

/// How long the lease of a process that is to be stopped lasts.
pub(crate) const SHORT: Duration = Duration::from_millis(300);

/// A process of its own; one that is still there when its test ends, or fails, is killed.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Process {
    /// Starts this test's program as a child that does nothing but one part.
    pub(crate) fn start(part: &str, place: &Place, extra: &[(&str, &str)]) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", "--ignored", "parts::child_part", "--nocapture"]);
        command.env("LEDGER_PART", part).env("LEDGER_KIND", place.kind);
        command.env("LEDGER_SETTINGS", place.settings.to_string());
        command.env("LEDGER_PASSWORD", &place.password).envs(extra.iter().copied());
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a child"))
    }

    /// Waits for its end; says whether it did its part.
    pub(crate) fn succeeds(mut self) -> bool {
        self.0.wait().expect("its end").success()
    }

    pub(crate) fn id(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.0)
    }

    pub(crate) fn kill(mut self) {
        self.0.kill().expect("SIGKILL");
        self.0.wait().expect("its end");
    }
}

/// Waits for a file that another process makes.
pub(crate) fn wait_for(mark: &Path) {
    let begun = Instant::now();
    while !mark.exists() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the point was not reached: {mark:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
#[ignore = "the other tests run this in processes of its own"]
fn child_part() {
    // Asked for by a person (`--include-ignored`), there is no part to play.
    let Ok(part) = std::env::var("LEDGER_PART") else { return };
    let given = |name: &str| std::env::var(name).expect("given with the part");
    let settings = given("LEDGER_SETTINGS").parse().expect("settings");
    let ledger = build(&given("LEDGER_KIND"), &settings, &given("LEDGER_PASSWORD"));
    let ledger = ledger.expect("settings of a ledger");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        match part.as_str() {
            "hammer" => hammer(&ledger).await,
            "walk" => walk(&ledger).await.expect("a walk"),
            "open" => open(&ledger).await,
            "sleepy" => sleepy(&ledger, &PathBuf::from(given("LEDGER_FOLDER"))).await,
            "endless" => loop {
                hammer(&ledger).await;
            },
            other => panic!("unknown part {other}"),
        }
    });
}

/// Only makes the ledger, in a race.
async fn open(ledger: &Ledger) {
    let holder = format!("process {}", std::process::id());
    ledger.leases.acquire(&holder, &holder, LONG).await.expect("a lease of its own");
}

/// Takes turns at one lease, and counts each turn in an entry that only its holder may write.
async fn hammer(ledger: &Ledger) {
    let holder = format!("process {}", std::process::id());
    let subject = samples::subject("production");
    for hour in 0..HOURS {
        ledger.journal.record_run(&samples::monitoring_run(&subject, hour)).await.expect("a run");
        let message = samples::notification(&format!("message-{hour}"));
        ledger.outbox.enqueue(&message, &["chat".to_owned()]).await.expect("a message");
        let profile = samples::profile(&subject, samples::hour(hour), 10);
        ledger.profiles.put(&samples::schema(), &profile).await.expect("a profile");
        let lease = loop {
            match ledger.leases.acquire("turn", &holder, LONG).await {
                Ok(lease) => break lease,
                Err(PlatformError::LeaseHeld { .. }) => {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                Err(other) => panic!("{other}"),
            }
        };
        let deployment = samples::deployment(&subject, lease.fence);
        ledger.journal.save_deployment(&lease, &deployment).await.expect("a turn of ours");
        ledger.leases.release(&lease).await.expect("given back");
    }
}

/// One of each record, as a run writes them.
pub(crate) async fn walk(ledger: &Ledger) -> Result<(), PlatformError> {
    let subject = samples::subject("production");
    let lease = ledger.leases.acquire("loop", "run", LONG).await?;
    let run = samples::monitoring_run(&subject, 0);
    ledger.journal.record_run(&run).await?;
    let profile = samples::profile(&subject, samples::hour(0), 10);
    ledger.profiles.put(&samples::schema(), &profile).await?;
    let profile = samples::profile(&subject, samples::hour(1), 5);
    ledger.profiles.put(&samples::schema(), &profile).await?;
    let next_day = samples::hour(24).start();
    ledger.profiles.merge_days(&subject, next_day, 1).await?;
    let episode = samples::episode(&subject, 1);
    ledger.journal.save_episode(&lease, &episode).await?;
    ledger.journal.record_version(&samples::version(2), Some(episode.id)).await?;
    let deployment = samples::deployment(&subject, 2);
    ledger.journal.save_deployment(&lease, &deployment).await?;
    for phase in [Phase::Intent, Phase::Outcome] {
        let entry = samples::entry(&deployment, Step::Planned, phase, "planned");
        ledger.journal.append(&lease, &entry).await?;
    }
    for returned_at in [None, Some(samples::day_one())] {
        let call = samples::call(&deployment, 1, returned_at);
        ledger.journal.save_call(&lease, &call).await?;
    }
    let message = samples::notification("message");
    ledger.outbox.enqueue(&message, &["chat".to_owned()]).await?;
    ledger.outbox.delivered("chat", "message").await?;
    ledger.outbox.enqueue(&samples::notification("refused"), &["chat".to_owned()]).await?;
    ledger.outbox.not_delivered("chat", "refused", Again::After(LONG)).await?;
    ledger.leases.release(&lease).await
}

/// Renews its lease, falls asleep between that check and its calls, and wakes up overtaken.
async fn sleepy(ledger: &Ledger, folder: &Path) {
    let subject = samples::subject("production");
    let lease = ledger.leases.acquire("loop", "sleepy", SHORT).await.expect("a lease");
    let deployment = samples::deployment(&subject, 1);
    ledger.journal.save_deployment(&lease, &deployment).await.expect("nobody overtook it");
    ledger.leases.renew(&lease, SHORT).await.expect("ours");
    std::fs::write(folder.join("checked"), "").expect("a mark");
    wait_for(&folder.join("go"));
    let closed = Deployment { closed_at: Some(samples::day_one()), ..deployment.clone() };
    let entry = samples::entry(&deployment, Step::Planned, Phase::Intent, "sleepy");
    let episode = samples::episode(&subject, 1);
    let call = samples::call(&deployment, lease.fence, None);
    for (late, what) in [
        (ledger.journal.save_deployment(&lease, &closed).await, "a deployment"),
        (ledger.journal.append(&lease, &entry).await, "an entry"),
        (ledger.journal.save_call(&lease, &call).await, "a call"),
        (ledger.journal.save_episode(&lease, &episode).await, "an episode"),
        (ledger.leases.renew(&lease, LONG).await, "a renewal"),
    ] {
        let refusal = late.expect_err(what);
        assert!(matches!(refusal, PlatformError::LeaseLost { .. }), "{what}: {refusal:?}");
    }
    ledger.leases.release(&lease).await.expect("what is another's is left alone");
}

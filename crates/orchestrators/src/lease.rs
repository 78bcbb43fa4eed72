//! The right to act, held for the length of a run.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mloop_core::{RunId, error_chain};
use mloop_platform::{Lease, Leases, PlatformError};
use tokio::time::{Instant, sleep, timeout};

use crate::{OrchestratorError, Stopping};

/// Longest wait for the ledger to take a lease back: a caller that stops a run waits for its end.
const RELEASE_PATIENCE: Duration = Duration::from_secs(4);

/// Shortest pause between two renewals, however short a lease is.
const SHORTEST_BEAT: Duration = Duration::from_millis(10);

/// How a run takes, keeps and waits for its lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseConfig {
    /// Tells this process from a copy of the same run, such as `host-1234`.
    pub instance: String,
    /// How long a lease lasts unless it is renewed; a killed run blocks others for so long.
    pub ttl: Duration,
    /// How long to wait for another copy of the same run.
    pub wait: Duration,
    /// Pause between two looks.
    pub poll: Duration,
}

/// A lease that is held.
///
/// Looking after it is what a run does at its safe points, so that this is also where it learns that
/// its caller wants it to end: [`Self::renew`] and [`Self::keep`] then give
/// [`OrchestratorError::Stopped`].
#[derive(Clone)]
pub(crate) struct Held {
    leases: Arc<dyn Leases>,
    lease: Lease,
    ttl: Duration,
    renewed: Arc<Mutex<Instant>>,
    stopping: Stopping,
}

impl Held {
    /// Takes a lease. A copy of the same run that holds it is waited for; another run is not.
    pub(crate) async fn acquire(
        leases: &Arc<dyn Leases>,
        name: &str,
        run: &RunId,
        config: &LeaseConfig,
        stopping: &Stopping,
    ) -> Result<Self, OrchestratorError> {
        let holder = holder_of(run, &config.instance);
        let end = Instant::now().checked_add(config.wait);
        loop {
            check(stopping, name)?;
            match leases.acquire(name, &holder, config.ttl).await {
                Ok(lease) => {
                    let renewed = Arc::new(Mutex::new(Instant::now()));
                    let leases = Arc::clone(leases);
                    let (ttl, stopping) = (config.ttl, stopping.clone());
                    return Ok(Self { leases, lease, ttl, renewed, stopping });
                }
                Err(PlatformError::LeaseHeld { holder, .. })
                    if is_copy_of(run, &holder) && end.is_none_or(|end| Instant::now() < end) =>
                {
                    tracing::info!(lease = name, %holder, "another copy of this run is at work");
                    stopping.pause(config.poll).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Extends the lease: a safe point, and the look that is due directly before a remote change.
    pub(crate) async fn renew(&self) -> Result<(), OrchestratorError> {
        check(&self.stopping, &self.lease.name)?;
        Ok(self.extend().await?)
    }

    async fn extend(&self) -> Result<(), PlatformError> {
        let now = Instant::now();
        self.leases.renew(&self.lease, self.ttl).await?;
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = now;
        Ok(())
    }

    fn age(&self) -> Duration {
        self.renewed.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Renews the lease once a third of its time is over: for places passed many times a second.
    pub(crate) async fn keep(&self) -> Result<(), OrchestratorError> {
        check(&self.stopping, &self.lease.name)?;
        if self.age() >= self.ttl / 3 { self.renew().await } else { Ok(()) }
    }

    /// Keeps the lease while other work is waited for, such as a call of minutes; ends when it is lost.
    /// A ledger that does not answer takes nothing away: whoever is about to change something asks it.
    async fn heartbeat(&self) -> PlatformError {
        let third = (self.ttl / 3).max(SHORTEST_BEAT);
        let mut pause = third;
        loop {
            sleep(pause).await;
            // The run itself renews it too.
            pause = third.checked_sub(self.age()).filter(|left| !left.is_zero()).unwrap_or(third);
            if pause < third {
                continue;
            }
            match self.extend().await {
                Ok(()) => {}
                Err(error @ PlatformError::LeaseLost { .. }) => return error,
                Err(error) => {
                    let (lease, error) = (&self.lease.name, error_chain(&error));
                    tracing::warn!(lease, error, "not renewed; trying again");
                }
            }
        }
    }

    /// Waits between two looks; shorter once the run is to end.
    pub(crate) async fn pause(&self, time: Duration) {
        self.stopping.pause(time).await;
    }

    /// Does work under the lease, which is renewed meanwhile. The work is broken off once the lease is
    /// lost, or a stop has had its grace: as by a kill, wherever it is.
    pub(crate) async fn guard<T>(
        &self,
        work: impl Future<Output = Result<T, OrchestratorError>>,
    ) -> Result<T, OrchestratorError> {
        tokio::select! {
            biased;
            ended = work => ended,
            () = self.stopping.grace_is_over() => Err(stopped(&self.lease.name)),
            lost = self.heartbeat() => Err(lost.into()),
        }
    }

    /// Gives the lease back; one that cannot be given back expires by itself.
    pub(crate) async fn release(self) {
        let name = &self.lease.name;
        match timeout(RELEASE_PATIENCE, self.leases.release(&self.lease)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(lease = name, error = error_chain(&error), "not released");
            }
            Err(_) => tracing::warn!(lease = name, "not released: the ledger does not answer"),
        }
    }
}

fn check(stopping: &Stopping, name: &str) -> Result<(), OrchestratorError> {
    if stopping.is_raised() { Err(stopped(name)) } else { Ok(()) }
}

fn stopped(name: &str) -> OrchestratorError {
    OrchestratorError::Stopped { doing: format!("at work on {name}") }
}

fn holder_of(run: &RunId, instance: &str) -> String {
    format!("{run}/{instance}")
}

fn is_copy_of(run: &RunId, holder: &str) -> bool {
    holder.split_once('/').is_some_and(|(id, _)| id == run.as_str())
}

#[cfg(test)]
mod tests {
    use mloop_platform::MockLeases;

    use super::*;

    fn config() -> LeaseConfig {
        LeaseConfig {
            instance: "b".to_owned(),
            ttl: Duration::from_secs(60),
            wait: Duration::from_secs(5),
            poll: Duration::from_millis(1),
        }
    }

    fn held_by(holder: String) -> PlatformError {
        PlatformError::LeaseHeld { name: "l".to_owned(), holder, until: "soon".to_owned() }
    }

    #[tokio::test]
    async fn a_copy_of_the_same_run_is_waited_for() {
        let run = RunId::derive(&["one"]);
        let (mine, mut looks) = (holder_of(&run, "a"), 0);
        let mut leases = MockLeases::new();
        leases.expect_acquire().times(3).returning(move |name, holder, _| {
            looks += 1;
            if looks < 3 {
                return Err(held_by(mine.clone()));
            }
            Ok(Lease { name: name.to_owned(), holder: holder.to_owned(), fence: 2 })
        });
        let leases: Arc<dyn Leases> = Arc::new(leases);
        let held = Held::acquire(&leases, "l", &run, &config(), &Stopping::never()).await;
        let held = held.expect("a lease");
        assert_eq!(held.lease().holder, format!("{run}/b"));
    }

    #[tokio::test]
    async fn a_lease_is_kept_once_a_third_of_its_time_is_over() {
        // Of a lease of an hour no third is over within this test; of one of no time, always.
        for (ttl, renewals) in [(Duration::from_secs(3600), 0), (Duration::ZERO, 3)] {
            let mut leases = MockLeases::new();
            leases.expect_acquire().once().returning(|name, holder, _| {
                Ok(Lease { name: name.to_owned(), holder: holder.to_owned(), fence: 1 })
            });
            leases.expect_renew().times(renewals).returning(|_, _| Ok(()));
            let leases: Arc<dyn Leases> = Arc::new(leases);
            let config = LeaseConfig { ttl, ..config() };
            let run = RunId::derive(&["one"]);
            let held = Held::acquire(&leases, "l", &run, &config, &Stopping::never()).await;
            let held = held.expect("a lease");
            for _ in 0..3 {
                assert!(held.keep().await.is_ok(), "{ttl:?}");
            }
        }
    }

    #[tokio::test]
    async fn work_keeps_its_lease_and_is_broken_off_when_that_is_lost() {
        struct Told(Arc<Mutex<bool>>);
        impl Drop for Told {
            fn drop(&mut self) {
                *self.0.lock().expect("no panic") = true;
            }
        }
        let mut leases = MockLeases::new();
        leases.expect_acquire().once().returning(|name, holder, _| {
            Ok(Lease { name: name.to_owned(), holder: holder.to_owned(), fence: 1 })
        });
        let mut beats = 0;
        leases.expect_renew().times(4).returning(move |lease, _| {
            beats += 1;
            match beats {
                1 | 3 => Ok(()),
                2 => Err(PlatformError::unavailable("ledger", "renewing", "away")),
                _ => Err(PlatformError::LeaseLost { name: lease.name.clone(), fence: 1 }),
            }
        });
        let leases: Arc<dyn Leases> = Arc::new(leases);
        let (run, never) = (RunId::derive(&["one"]), Stopping::never());
        let config = LeaseConfig { ttl: Duration::from_millis(60), ..config() };
        let held = Held::acquire(&leases, "l", &run, &config, &never).await.expect("a lease");
        let is_dropped = Arc::new(Mutex::new(false));
        let told = Told(Arc::clone(&is_dropped));
        let silent = async move {
            let _told = told;
            std::future::pending::<Result<(), OrchestratorError>>().await
        };
        let lost = held.guard(silent).await.expect_err("lost");
        let lost = matches!(lost, OrchestratorError::Platform(PlatformError::LeaseLost { .. }));
        assert!(lost && *is_dropped.lock().expect("no panic"), "the call is dropped");
    }

    #[tokio::test]
    async fn another_run_is_not_waited_for() {
        let other = holder_of(&RunId::derive(&["two"]), "a");
        let mut leases = MockLeases::new();
        leases.expect_acquire().once().returning(move |_, _, _| Err(held_by(other.clone())));
        let leases: Arc<dyn Leases> = Arc::new(leases);
        let (run, never) = (RunId::derive(&["one"]), Stopping::never());
        let refusal = Held::acquire(&leases, "l", &run, &config(), &never).await;
        assert!(matches!(
            refusal.err(),
            Some(OrchestratorError::Platform(PlatformError::LeaseHeld { .. }))
        ));
    }

    /// Leases that are granted, to be given back once.
    fn granted_once() -> Arc<dyn Leases> {
        let mut leases = MockLeases::new();
        leases.expect_acquire().once().returning(|name, holder, _| {
            Ok(Lease { name: name.to_owned(), holder: holder.to_owned(), fence: 1 })
        });
        leases.expect_release().once().returning(|_| Ok(()));
        Arc::new(leases)
    }

    #[tokio::test]
    async fn a_stop_is_told_at_the_next_safe_point_and_breaks_off_what_never_comes_to_one() {
        let (leases, run) = (granted_once(), RunId::derive(&["one"]));
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let stopping = Stopping::when(async move { drop(receiver.await) }, Duration::ZERO);
        let held = Held::acquire(&leases, "l", &run, &config(), &stopping).await;
        let held = held.expect("a lease");
        held.keep().await.expect("nobody stopped it yet");
        sender.send(()).expect("somebody waits");
        held.pause(Duration::from_secs(3600)).await;
        for found in [held.keep().await, held.renew().await] {
            let found = found.expect_err("stopped");
            assert!(matches!(found, OrchestratorError::Stopped { .. }), "{found}");
        }
        let silent = std::future::pending::<Result<(), OrchestratorError>>();
        let broken_off = held.guard(silent).await.expect_err("stopped");
        assert!(matches!(broken_off, OrchestratorError::Stopped { .. }), "{broken_off}");
        held.release().await;
        let late = Held::acquire(&leases, "l", &run, &config(), &stopping).await;
        assert!(matches!(late.err(), Some(OrchestratorError::Stopped { .. })), "nothing is begun");
    }
}

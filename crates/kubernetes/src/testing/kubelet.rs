//! The kubelet: runs the pods of a namespace, and tells the API server how they end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::api::{Ended, State};
use super::lock;
use super::pod::{Container, NOT_STARTED};

/// Pause between two looks at the pods.
const EVERY: Duration = Duration::from_millis(20);

/// A kubelet at work; all that it runs ends with the value.
pub(super) struct Kubelet {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Kubelet {
    /// Runs the pods that are there, and those that will be.
    pub(super) fn new(state: &Arc<Mutex<State>>, folder: &Path) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (told, state, claims) = (Arc::clone(&over), Arc::clone(state), folder.join("claims"));
        let mut work = Work { claims, running: BTreeMap::new(), leaving: vec![] };
        let thread = thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                work.look(&state);
                thread::sleep(EVERY);
            }
            work.end();
        });
        Self { over, thread: Some(thread) }
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What it panicked of stands in the log of the test.
            drop(thread.join());
        }
    }
}

struct Work {
    claims: PathBuf,
    running: BTreeMap<String, Container>,
    /// Their pods were deleted; killed at that moment.
    leaving: Vec<(Container, Instant)>,
}

impl Work {
    fn look(&mut self, state: &Mutex<State>) {
        let mut state = lock(state);
        self.start_pending(&mut state);
        let gone: Vec<String> =
            self.running.keys().filter(|pod| !state.pods.contains_key(*pod)).cloned().collect();
        for container in gone.iter().filter_map(|pod| self.running.remove(pod)) {
            container.stop();
            let deadline = Instant::now() + container.grace;
            self.leaving.push((container, deadline));
        }
        self.running.retain(|pod, container| match container.ended() {
            None => true,
            Some((exit_code, message)) => {
                state.ended(pod, &Ended { exit_code, message, disrupted: false });
                false
            }
        });
        self.leaving.retain_mut(|(container, deadline)| {
            if Instant::now() >= *deadline {
                container.kill();
            }
            container.ended().is_none()
        });
    }

    fn start_pending(&mut self, state: &mut State) {
        let pending = state.pods.iter().filter(|(_, pod)| pod["status"]["phase"] == "Pending");
        let pending: Vec<_> = pending.map(|(name, pod)| (name.clone(), pod.clone())).collect();
        for (name, pod) in pending {
            match Container::start(&pod, &state.given, &self.claims) {
                Ok(container) => {
                    state.runs(&name);
                    self.running.insert(name, container);
                }
                // A real pod would wait where a ConfigMap or a Secret is missing; nobody adds one here.
                Err(message) => {
                    state
                        .ended(&name, &Ended { exit_code: NOT_STARTED, message, disrupted: false });
                }
            }
        }
    }

    fn end(&mut self) {
        let running = std::mem::take(&mut self.running).into_values();
        let leaving = std::mem::take(&mut self.leaving).into_iter().map(|(container, _)| container);
        running.chain(leaving).for_each(|mut container| container.kill());
    }
}

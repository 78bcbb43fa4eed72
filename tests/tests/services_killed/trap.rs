//! A trap before services: it keeps one caller waiting at one call, so that it can be killed there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mloop_http::testing::{Asked, Fault, Relay};

/// A call, by its line without the query (`*` stands for anything), or by its operation of SageMaker.
pub(crate) type Call = &'static str;

/// Relays before services, which hand on everything but the call that is waited for.
#[derive(Default)]
pub(crate) struct Trap {
    set: Mutex<Option<(Call, Fault)>>,
    relays: Mutex<BTreeMap<String, Relay>>,
}

impl Trap {
    /// Where a service is reached through the trap.
    pub(crate) fn before(self: &Arc<Self>, url: &str) -> String {
        let trap = Arc::clone(self);
        let made = || Relay::new(url, move |asked| trap.fault(asked));
        lock(&self.relays).entry(url.to_owned()).or_insert_with(made).url()
    }

    /// Keeps the next caller of this call waiting: before it has its effect, or after.
    pub(crate) fn set(&self, call: Call, fault: Fault) {
        *lock(&self.set) = Some((call, fault));
    }

    /// How many callers were kept waiting.
    pub(crate) fn caught(&self) -> usize {
        lock(&self.relays).values().map(Relay::kept_waiting).sum()
    }

    fn fault(&self, asked: &Asked) -> Fault {
        let mut set = lock(&self.set);
        match set.filter(|(call, _)| is(call, asked)) {
            Some((_, fault)) => {
                *set = None;
                fault
            }
            None => Fault::None,
        }
    }
}

fn is(call: Call, asked: &Asked) -> bool {
    if let Some(operation) = asked.header("x-amz-target") {
        return operation.strip_prefix("SageMaker.") == Some(call);
    }
    let line = asked.line.split('?').next().unwrap_or_default();
    match call.split_once('*') {
        None => line == call,
        Some((first, rest)) => line.strip_prefix(first).is_some_and(|left| left.contains(rest)),
    }
}

fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The service bench on the command line, and around the tests.

use std::io::Write;
use std::sync::atomic::Ordering;

use mloop_services::{Bench, Service};

use crate::shell::{INTERRUPTED, Outcome, stage, watch_signals};

pub(crate) fn run(words: &[&str]) -> Outcome {
    let Some((verb, names)) = words.split_first() else { return Err(usage("nothing to do")) };
    let named = |name: &&str| {
        Service::named(name).ok_or_else(|| usage(&format!("there is no service `{name}`")))
    };
    let services = names.iter().map(named).collect::<Outcome<Vec<Service>>>()?;
    let bench = Bench::new(&tell, &INTERRUPTED);
    let outcome = match *verb {
        "up" => {
            watch_signals()?;
            bench.up(&services).map(|_| tell(&format!("the bench: {}", bench.file().display())))
        }
        "down" => bench.down(&services),
        "status" => bench.status(),
        other => return Err(usage(&format!("there is no `services {other}`"))),
    };
    outcome.map_err(|error| error.to_string())
}

/// Does work with all services running. Those that it had to start are stopped afterwards, whatever
/// becomes of the work, after SIGINT and SIGTERM too.
pub(crate) fn around(work: impl FnOnce() -> Outcome) -> Outcome {
    watch_signals()?;
    let bench = Bench::new(&tell, &INTERRUPTED);
    let mut started = None;
    stage("services", || {
        started = Some(bench.up(&[]).map_err(|error| error.to_string())?);
        Ok(())
    })?;
    let outcome = if INTERRUPTED.load(Ordering::SeqCst) { Ok(()) } else { work() };
    let stopped = started.map_or(Ok(()), |started| bench.take_down(&started));
    outcome?;
    stopped.map_err(|error| error.to_string())?;
    if INTERRUPTED.load(Ordering::SeqCst) { Err("interrupted".to_owned()) } else { Ok(()) }
}

/// What is told must not decide over what is done: nobody may be listening any more.
fn tell(line: &str) {
    writeln!(std::io::stdout(), "{line}").unwrap_or(());
}

fn usage(problem: &str) -> String {
    let names: Vec<&str> = Service::ALL.into_iter().map(Service::name).collect();
    format!("{problem}\ncargo xtask services up|down|status [NAME …]; NAME: {}", names.join(", "))
}

//! Bringing the bench up and down.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use crate::engine::{Engine, Prepare, logs};
use crate::reader::Services;
use crate::record::Record;
use crate::service::Service;
use crate::start::{Ground, prepare};
use crate::{BenchError, place, process};

/// The bench as its operator sees it.
pub struct Bench<'a> {
    file: PathBuf,
    tell: &'a (dyn Fn(&str) + Sync),
    interrupted: &'a AtomicBool,
}

/// The services that one call of [`Bench::up`] started, and no other.
#[derive(Debug, Clone, Default)]
pub struct Started(Vec<Service>);

impl<'a> Bench<'a> {
    /// The bench of this workspace, or of the file that `MLOOP_SERVICES` names.
    ///
    /// `tell` gets one line for each thing that people may want to know; [`Bench::up`] gives up, with
    /// nothing left running, soon after `interrupted` was set.
    #[must_use]
    pub fn new(tell: &'a (dyn Fn(&str) + Sync), interrupted: &'a AtomicBool) -> Self {
        Self { file: place::file(), tell, interrupted }
    }

    /// The file that says where each service is.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Installs what is missing and starts what does not run; everything for an empty list.
    ///
    /// # Errors
    /// Each service that did not become healthy, with the end of its log. Then all that this call
    /// started is stopped; what ran before goes on.
    pub fn up(&self, asked: &[Service]) -> Result<Started, BenchError> {
        let _held = self.lock()?;
        let engine = self.engine()?;
        let wanted = Service::with_needs(asked);
        let answering = self.healthy();
        let mut healthy = answering.clone();
        // What needs another is of no use when that one gets a new address.
        healthy.retain(|service| Service::with_needs(&[*service]).is_subset(&answering));
        let missing: Vec<Service> = wanted.difference(&healthy).copied().collect();
        for service in wanted.intersection(&healthy) {
            (self.tell)(&format!("{:<13} is running", service.name()));
        }
        let names: Vec<&str> = missing.iter().map(|service| service.name()).collect();
        engine.end(&names)?;
        let ground = Ground::new(&engine, &missing)?;
        let ground = &ground;
        let one = |service: &Service| -> (&str, Prepare<'_>) {
            let service = *service;
            (service.name(), Box::new(move || prepare(service, ground)))
        };
        engine.start_all(missing.iter().map(one).collect())?;
        Ok(Started(missing))
    }

    /// Stops services with all their children; everything for an empty list.
    ///
    /// # Errors
    /// When something does not end.
    pub fn down(&self, asked: &[Service]) -> Result<(), BenchError> {
        let _held = self.lock()?;
        let engine = self.engine()?;
        let mut names: BTreeSet<String> = {
            let record = engine.record();
            let entries = record.entries.keys().cloned();
            entries.chain(record.processes.iter().map(|process| process.service.clone())).collect()
        };
        names.retain(|name| asked.is_empty() || asked.iter().any(|service| service.name() == name));
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if names.is_empty() {
            (self.tell)("nothing runs that could be stopped");
        }
        engine.end(&names)?;
        for name in names {
            (self.tell)(&format!("{name:<13} stopped"));
        }
        if engine.record().processes.is_empty() && self.file.exists() {
            std::fs::remove_file(&self.file)
                .map_err(BenchError::io(format!("removing {}", self.file.display())))?;
        }
        Ok(())
    }

    /// Stops what one call of [`Bench::up`] started, and nothing that ran before.
    ///
    /// # Errors
    /// As [`Bench::down`].
    pub fn take_down(&self, started: &Started) -> Result<(), BenchError> {
        if started.0.is_empty() { Ok(()) } else { self.down(&started.0) }
    }

    /// Tells the health of every service.
    ///
    /// # Errors
    /// When one that was started does not answer, or nothing was started.
    pub fn status(&self) -> Result<(), BenchError> {
        if !self.file.exists() {
            let text = "the service bench is not running; `cargo xtask services up` starts it";
            return Err(BenchError::Failed(text.to_owned()));
        }
        let services = Services::read(&self.file)?;
        let record = Record::read(&self.file)?;
        let mut ill = vec![];
        for service in Service::ALL {
            let name = service.name();
            let started = !record.of(name).is_empty();
            let said = match services.health(service) {
                Some(Ok(address)) => format!("healthy  {address}"),
                Some(Err(reason)) => format!("ill      {reason}"),
                None if started => "ill      it never answered".to_owned(),
                None => "not started".to_owned(),
            };
            if said.starts_with("ill") {
                ill.push(name);
            }
            (self.tell)(&format!("{name:<13} {said}"));
        }
        if ill.is_empty() {
            return Ok(());
        }
        let again = ill.join(" ");
        let text = format!("`cargo xtask services up {again}` starts what is ill anew");
        Err(BenchError::Failed(text))
    }

    /// The services that run and answer.
    fn healthy(&self) -> BTreeSet<Service> {
        let (Ok(services), Ok(record)) = (Services::read(&self.file), Record::read(&self.file))
        else {
            return BTreeSet::new();
        };
        let runs = |service: &Service| {
            record.of(service.name()).iter().all(process::Running::is_alive)
                && matches!(services.health(*service), Some(Ok(_)))
        };
        Service::ALL.into_iter().filter(runs).collect()
    }

    fn engine(&self) -> Result<Engine<'_>, BenchError> {
        let record = Mutex::new(Record::read(&self.file)?);
        let (file, tell, interrupted) = (&*self.file, self.tell, self.interrupted);
        Ok(Engine { file, record, tell, interrupted, failed: AtomicBool::new(false) })
    }

    /// One at a time: two calls at once would start everything twice.
    fn lock(&self) -> Result<File, BenchError> {
        place::make(&logs(&self.file))?;
        let path = self.file.with_extension("lock");
        let held = File::create(&path).map_err(BenchError::io(path.display().to_string()))?;
        if held.try_lock().is_err() {
            (self.tell)("another call is at work on the bench; waiting for it");
            held.lock().map_err(BenchError::io(format!("locking {}", path.display())))?;
        }
        Ok(held)
    }
}

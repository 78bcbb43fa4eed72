//! The file of the bench, as the bench itself reads and writes it.

use std::collections::BTreeMap;
use std::fs::{OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::BenchError;
use crate::process::Running;

/// The schema that this release writes and reads.
pub(crate) const SCHEMA: &str = "mloop.services/1";

/// All of it: what runs, and one entry for each service that became healthy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) schema: String,
    /// Python interpreters by the name of their environment.
    pub(crate) python: BTreeMap<String, PathBuf>,
    /// Written as soon as they are started, so that `down` finds them whatever happens next.
    pub(crate) processes: Vec<Running>,
    #[serde(flatten)]
    pub(crate) entries: Map<String, Value>,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            python: BTreeMap::new(),
            processes: vec![],
            entries: Map::new(),
        }
    }
}

impl Record {
    /// The record of a file; an empty one where there is none.
    pub(crate) fn read(file: &Path) -> Result<Self, BenchError> {
        let text = match std::fs::read(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(BenchError::io(format!("reading {}", file.display()))(error)),
        };
        let malformed = |problem| BenchError::Malformed { file: file.to_path_buf(), problem };
        let record: Self =
            serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))?;
        if record.schema == SCHEMA {
            return Ok(record);
        }
        Err(malformed(format!("its schema is {}, not {SCHEMA}", record.schema)))
    }

    /// Replaces the file. It holds passwords, so nobody else may read it.
    pub(crate) fn write(&self, file: &Path) -> Result<(), BenchError> {
        let part = file.with_extension("json.part");
        let write = || {
            let mut open = OpenOptions::new();
            let mut output =
                open.write(true).create(true).truncate(true).mode(0o600).open(&part)?;
            output.set_permissions(Permissions::from_mode(0o600))?;
            output.write_all(&serde_json::to_vec_pretty(self)?)?;
            std::fs::rename(&part, file)
        };
        write().map_err(BenchError::io(format!("writing {}", file.display())))
    }

    /// The processes of a service.
    pub(crate) fn of(&self, service: &str) -> Vec<Running> {
        self.processes.iter().filter(|process| process.service == service).cloned().collect()
    }

    /// Forgets a service.
    pub(crate) fn forget(&mut self, service: &str) {
        self.processes.retain(|process| process.service != service);
        self.entries.remove(service);
    }
}

//! A configuration file, read once: its values, and the line of each.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{MessageFormatter, Options, Spanned, UserMessageFormatter};

use crate::envelope::Envelope;
use crate::node::{Node, Places};
use crate::problem::{ConfigError, Problems};
use crate::secret;

/// No configuration comes near it; a data set given by mistake does.
const MAX_BYTES: u64 = 1 << 20;

/// A YAML file as values that remember their lines.
#[derive(Debug)]
pub struct Document {
    path: PathBuf,
    folder: PathBuf,
    value: Value,
    places: Places,
}

impl Document {
    /// Reads a file. Duplicate keys are refused, aliases are bounded, only `true` and `false` are
    /// booleans.
    ///
    /// # Errors
    /// [`ConfigError`] for a file that is missing, too large, not UTF-8, no YAML, or no map.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = read_text(path)?;
        Self::parse(path, &text)
    }

    /// Takes text for the content of a file at `path`.
    ///
    /// # Errors
    /// See [`Document::read`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        if text.trim().is_empty() {
            return Err(ConfigError::one(path, None, "the file is empty"));
        }
        let root: Spanned<Node> = serde_saphyr::from_str_with_options(text, options())
            .map_err(|error| yaml_error(path, &error))?;
        let mut places = Places::new();
        let line = root.referenced.line();
        let value = root.value.into_value("", &mut places);
        if !value.is_object() {
            let message = "expected a map of keys, such as `version: 1`";
            return Err(ConfigError::one(path, Some(line), message));
        }
        Ok(Self { path: path.to_owned(), folder: folder_of(path), value, places })
    }

    /// The file, as it was named.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder that relative paths in the file start from: the file's own, absolute and without
    /// links.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A path from the file, relative ones taken from the file's folder.
    #[must_use]
    pub fn resolve(&self, path: &Path) -> PathBuf {
        mloop_core::paths::from_folder(&self.folder, path)
    }

    /// All values, for digests and records.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The line (from 1) of a path, or of the nearest part of it that stands in the file.
    #[must_use]
    pub fn line(&self, path: &str) -> Option<u64> {
        self.place(path).map(|(line, _)| line)
    }

    /// Line and column (both from 1) of a path, or of the nearest part of it that stands in the
    /// file.
    #[must_use]
    pub fn place(&self, path: &str) -> Option<(u64, u64)> {
        let mut path = path;
        loop {
            if let Some(place) = self.places.get(path) {
                return Some(*place);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }

    /// An empty collection of problems of this file.
    #[must_use]
    pub fn problems(&self) -> Problems<'_> {
        Problems::new(self)
    }

    /// Decodes and validates the envelope. What can be decoded is returned beside the problems, so
    /// that the caller can go on and add those of the components.
    #[must_use]
    pub fn decode<T: Envelope>(&self) -> (Option<T>, Problems<'_>) {
        let mut problems = self.problems();
        secret::check(&self.value, &self.folder, &mut problems);
        let decoded = problems.decode::<T>("", &self.value);
        if let Some(envelope) = &decoded {
            envelope.validate(&mut problems);
        }
        (decoded, problems)
    }
}

/// The folder in which a file was named. A file that is a link, as Kubernetes mounts them, stays where
/// it was named.
fn folder_of(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).ok();
    let folder = absolute.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
    folder.canonicalize().unwrap_or_else(|_| folder.to_owned())
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    let io = |error: std::io::Error| {
        let message = match error.kind() {
            ErrorKind::NotFound => "there is no such file; give its path with --config".to_owned(),
            ErrorKind::IsADirectory => "this is a folder; name the file in it".to_owned(),
            _ => format!("the file cannot be read: {error}"),
        };
        ConfigError::one(path, None, message)
    };
    let mut bytes = Vec::new();
    File::open(path).map_err(io)?.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > MAX_BYTES {
        let message = format!("larger than {MAX_BYTES} bytes: this is no configuration file");
        return Err(ConfigError::one(path, None, message));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
        ConfigError::one(path, Some(line), "not UTF-8; save the file as UTF-8")
    })
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: 20_000, max_events: 60_000, max_depth: 64, max_documents: 1 },
        strict_booleans: true,
        with_snippet: false,
    }
}

fn yaml_error(path: &Path, error: &serde_saphyr::Error) -> ConfigError {
    let mut inner = error;
    while let serde_saphyr::Error::AliasError { error, .. }
    | serde_saphyr::Error::WithSnippet { error, .. } = inner
    {
        inner = error;
    }
    let message = match inner {
        serde_saphyr::Error::Budget { breach: BudgetBreach::Documents { .. }, .. } => {
            "a second YAML document begins here (`---`); one file holds one".to_owned()
        }
        serde_saphyr::Error::Budget { .. } => {
            "too large or too deep: what an alias stands for counts each time".to_owned()
        }
        other => UserMessageFormatter.format_message(other).replace(char::is_control, " "),
    };
    ConfigError::one(path, error.location().map(|place| place.line()), message)
}

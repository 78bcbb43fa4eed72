//! What is wrong with a configuration file, where, and what would be right.

use std::fmt;
use std::path::{Path, PathBuf};

use mloop_core::decode::{UNKNOWN_FIELD, decode};
use mloop_core::registry::{BuildError, KindRegistry};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::document::Document;
use crate::envelope::Component;
use crate::node::join;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line, from 1; `None` when the file as a whole is meant.
    pub line: Option<u64>,
    /// Path of the key, such as `monitors[1].settings.max_psi`; empty for the whole file.
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// Everything that is wrong with one file, in the order of its lines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// At least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}", self.file.display())?;
            if let Some(line) = problem.line {
                write!(f, ":{line}")?;
            }
            if !problem.path.is_empty() {
                write!(f, ": {}", problem.path)?;
            }
            write!(f, ": {}", problem.message)?;
        }
        Ok(())
    }
}

impl ConfigError {
    pub(crate) fn one(file: &Path, line: Option<u64>, message: impl Into<String>) -> Self {
        let problem = Problem { line, path: String::new(), message: message.into() };
        Self { file: file.to_owned(), problems: vec![problem] }
    }
}

/// Collects the problems of one file, so that a program tells all of them at once.
pub struct Problems<'a> {
    document: &'a Document,
    found: Vec<Problem>,
}

impl<'a> Problems<'a> {
    pub(crate) fn new(document: &'a Document) -> Self {
        Self { document, found: Vec::new() }
    }

    /// Adds a problem at a path of the file, such as `ledger.kind`.
    pub fn add(&mut self, path: &str, message: impl Into<String>) {
        self.found.push(Problem {
            line: self.document.line(path),
            path: path.to_owned(),
            message: message.into(),
        });
    }

    /// Takes what was built for the component at `path` (`ledger`, `monitors[1]`), or its problem.
    pub fn component<T>(&mut self, path: &str, built: Result<T, BuildError>) -> Option<T> {
        let error = match built {
            Ok(built) => return Some(built),
            Err(error) => error,
        };
        match &error {
            BuildError::UnknownKind { kind, known, .. } => {
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                self.add(&join(path, "kind"), format!("{error}{}", suggestion(kind, &known)));
            }
            BuildError::NotCompiledIn { .. } => self.add(&join(path, "kind"), error.to_string()),
            BuildError::Settings { path: inner, message } => {
                let settings = join(path, "settings");
                let at = if inner.is_empty() { settings } else { join(&settings, inner) };
                self.add(&at, plain_message(message));
            }
        }
        None
    }

    /// Decodes the section at `path`, such as `gate`, whose struct lives beside its code; a section
    /// that was left out is an empty one.
    pub fn section<T: DeserializeOwned>(&mut self, path: &str, value: &Value) -> Option<T> {
        let empty = Value::Object(serde_json::Map::new());
        let value = if value.is_null() { &empty } else { value };
        self.decode(path, value)
    }

    /// Decodes a value: reports every unknown key, and the first problem of another kind.
    pub(crate) fn decode<T: DeserializeOwned>(&mut self, path: &str, value: &Value) -> Option<T> {
        let mut value = value.clone();
        loop {
            let misfit = match decode(&value) {
                Ok(decoded) => return Some(decoded),
                Err(misfit) => misfit,
            };
            let at =
                if misfit.path.is_empty() { path.to_owned() } else { join(path, &misfit.path) };
            self.add(&at, plain_message(&misfit.message));
            if !misfit.remove_unknown(&mut value) {
                return None;
            }
        }
    }

    /// Builds the component at `path`, such as `ledger`, or adds its problem.
    pub fn build<P: 'static, D: 'static>(
        &mut self,
        path: &str,
        component: &Component,
        kinds: &KindRegistry<P, D>,
        deps: &D,
    ) -> Option<P> {
        let Component { kind, settings, .. } = component;
        self.component(path, kinds.build(kind, component.name(), settings, deps))
    }

    /// Builds the components of the list at `path`, such as `monitors`; those that cannot be built
    /// are left out and their problems added.
    pub fn build_all<P: 'static, D: 'static>(
        &mut self,
        path: &str,
        components: &[Component],
        kinds: &KindRegistry<P, D>,
        deps: &D,
    ) -> Vec<P> {
        let mut built = Vec::with_capacity(components.len());
        for (index, component) in components.iter().enumerate() {
            built.extend(self.build(&format!("{path}[{index}]"), component, kinds, deps));
        }
        built
    }

    /// Whether nothing was found so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Ends the collection, and hands out what was built.
    ///
    /// # Errors
    /// [`ConfigError`] with all problems, when there is one, or when nothing was built.
    pub fn finish_with<T>(self, built: Option<T>) -> Result<T, ConfigError> {
        let file = self.document.path();
        let nothing = || ConfigError::one(file, None, "nothing could be built from this file");
        self.finish().and_then(|()| built.ok_or_else(nothing))
    }

    /// Ends the collection.
    ///
    /// # Errors
    /// [`ConfigError`] with all problems, when there is one.
    pub fn finish(mut self) -> Result<(), ConfigError> {
        if self.found.is_empty() {
            return Ok(());
        }
        self.found.sort_by_key(|problem| problem.line);
        self.found.dedup();
        Err(ConfigError { file: self.document.path().to_owned(), problems: self.found })
    }
}

/// Says serde's "unknown field" and "unknown variant" in words that help.
pub(crate) fn plain_message(message: &str) -> String {
    for (start, what) in [(UNKNOWN_FIELD, "unknown key"), ("unknown variant `", "unknown value")] {
        let Some((wrong, rest)) = message.strip_prefix(start).and_then(|m| m.split_once('`'))
        else {
            continue;
        };
        let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
        let value = if what == "unknown value" { format!(" `{wrong}`") } else { String::new() };
        return match known.is_empty() {
            true => format!("{what}{value}; nothing is known here"),
            false => {
                format!("{what}{value}{} (known: {})", suggestion(wrong, &known), known.join(", "))
            }
        };
    }
    if let Some(message) = out_of_range(message) {
        return message;
    }
    let message = match message.rsplit_once(", expected ").and_then(|(wrong, expected)| {
        in_words(expected).map(|words| format!("{wrong}, expected {words}"))
    }) {
        Some(message) => message,
        None => message.to_owned(),
    };
    message.replace("missing field", "missing key").replace("invalid type: ", "wrong type: ")
}

/// The message about a whole number that is too small or too large for its type, with the range.
fn out_of_range(message: &str) -> Option<String> {
    let (value, expected) =
        message.strip_prefix("invalid value: integer `")?.split_once("`, expected ")?;
    range(expected).map(|range| format!("{value} is out of range: {range}"))
}

/// What serde names by its Rust type, in words.
fn in_words(expected: &str) -> Option<String> {
    match expected {
        "f32" | "f64" => Some("a number".to_owned()),
        "a sequence" => Some("a list".to_owned()),
        _ if expected.starts_with("struct ") => Some("a map".to_owned()),
        _ => range(expected).map(|range| format!("a whole number, {range}")),
    }
}

/// The range of an unsigned integer type, in words.
fn range(expected: &str) -> Option<String> {
    let (low, name) = match expected.strip_prefix("a nonzero ") {
        Some(name) => (1, name),
        None => (0, expected),
    };
    let high = match name {
        "u8" => u32::from(u8::MAX),
        "u16" => u32::from(u16::MAX),
        "u32" => u32::MAX,
        "u64" | "usize" => return Some(format!("{low} or more")),
        _ => return None,
    };
    Some(format!("from {low} to {high}"))
}

/// `; did you mean max_psi?`, when something is near enough to be meant.
fn suggestion(wrong: &str, known: &[&str]) -> String {
    /// Below this, two words have little in common (1 is equality).
    const NEAR: f64 = 0.6;
    let distance = |candidate: &&str| strsim::normalized_damerau_levenshtein(wrong, candidate);
    known
        .iter()
        .copied()
        .max_by(|a, b| distance(a).total_cmp(&distance(b)))
        .filter(|best| distance(best) >= NEAR)
        .map(|best| format!("; did you mean {best}?"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serde_is_translated() {
        let cases = [
            (
                "unknown field `max_psii`, expected one of `max_psi`, `columns`",
                "unknown key; did you mean max_psi? (known: max_psi, columns)",
            ),
            ("unknown field `zzz`, expected `side`", "unknown key (known: side)"),
            ("unknown field `x`, there are no fields", "unknown key; nothing is known here"),
            (
                "unknown variant `allways`, expected `alert` or `always`",
                "unknown value `allways`; did you mean always? (known: alert, always)",
            ),
            ("missing field `kind`", "missing key `kind`"),
            (
                "invalid type: string \"x\", expected u32",
                "wrong type: string \"x\", expected a whole number, from 0 to 4294967295",
            ),
            ("invalid type: map, expected f64", "wrong type: map, expected a number"),
            ("invalid type: map, expected a sequence", "wrong type: map, expected a list"),
            ("invalid type: null, expected struct Gate", "wrong type: null, expected a map"),
            ("invalid value: integer `-1`, expected u16", "-1 is out of range: from 0 to 65535"),
            ("invalid value: integer `-1`, expected usize", "-1 is out of range: 0 or more"),
            (
                "invalid value: integer `0`, expected a nonzero u8",
                "0 is out of range: from 1 to 255",
            ),
            ("must be above 0", "must be above 0"),
        ];
        for (from, to) in cases {
            assert_eq!(plain_message(from), to);
        }
    }
}

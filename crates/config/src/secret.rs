//! Secrets: by reference in the file, never shown.
//!
//! A setting `password` is written `password_env: NAME` (an environment variable) or
//! `password_file: PATH` (as Docker, Kubernetes and systemd hand them over). A literal is refused
//! when the file is loaded, and so is a reference to something that is not there.

use std::path::Path;
use std::sync::Arc;

use mloop_core::secret::{Secret, SecretError, Secrets};
use serde_json::Value;

use crate::environment;
use crate::node::join;
use crate::problem::Problems;

/// Keys, or ends of keys after an underscore, whose value is a secret.
const SECRET_KEYS: [&str; 8] = [
    "password",
    "passphrase",
    "token",
    "secret",
    "api_key",
    "access_key",
    "private_key",
    "webhook_url",
];

/// The environment and the files of this machine.
#[derive(Debug, Clone, Copy, Default)]
struct Machine;

/// Where references of a configuration lead: the environment and the files of this machine.
#[must_use]
pub fn secrets() -> Arc<dyn Secrets> {
    Arc::new(Machine)
}

impl Secrets for Machine {
    fn in_env(&self, name: &str) -> Result<Secret, SecretError> {
        environment::variable(name)
            .map(Secret::new)
            .ok_or_else(|| SecretError::NotInEnvironment(name.to_owned()))
    }

    fn in_file(&self, path: &Path) -> Result<Secret, SecretError> {
        let fail =
            |problem: String| SecretError::File { path: path.display().to_string(), problem };
        let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
        match text.trim_end_matches(['\r', '\n']) {
            "" => Err(fail("it is empty".to_owned())),
            secret => Ok(Secret::new(secret)),
        }
    }
}

/// Reports secrets that stand in a file, and references that lead nowhere.
pub(crate) fn check(value: &Value, folder: &Path, problems: &mut Problems<'_>) {
    check_below(value, "", folder, problems);
}

fn check_below(value: &Value, path: &str, folder: &Path, problems: &mut Problems<'_>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = join(path, key);
                match problem_of(key, value, folder) {
                    Some(problem) => problems.add(&path, problem),
                    None => check_below(value, &path, folder, problems),
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                check_below(item, &format!("{path}[{index}]"), folder, problems);
            }
        }
        _ => {}
    }
}

fn problem_of(key: &str, value: &Value, folder: &Path) -> Option<String> {
    if is_secret(key) && (value.is_string() || value.is_number()) {
        return Some(format!(
            "a secret may not stand in a file; write `{key}_env: NAME` or `{key}_file: PATH`"
        ));
    }
    let text = value.as_str()?;
    let found = if key.strip_suffix("_env").is_some_and(is_secret) {
        Machine.in_env(text)
    } else if key.strip_suffix("_file").is_some_and(is_secret) {
        Machine.in_file(&mloop_core::paths::from_folder(folder, Path::new(text)))
    } else {
        return None;
    };
    found.err().map(|error| error.to_string())
}

fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    SECRET_KEYS.iter().any(|secret| {
        key.strip_suffix(secret).is_some_and(|rest| rest.is_empty() || rest.ends_with('_'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_hold_secrets_are_known() {
        for key in ["password", "smtp_password", "API_KEY", "slack_webhook_url", "token"] {
            assert!(is_secret(key), "{key}");
        }
        for key in ["passwords", "tokens_per_second", "token_env", "stoken", "secretary"] {
            assert!(!is_secret(key), "{key}");
        }
    }

    #[test]
    fn files_lose_their_line_end_and_must_hold_something() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("s");
        std::fs::write(&path, "p w\r\n").expect("written");
        assert_eq!(Machine.in_file(&path), Ok(Secret::new("p w")));
        std::fs::write(&path, "\n").expect("written");
        assert!(matches!(Machine.in_file(&path), Err(SecretError::File { .. })));
    }
}

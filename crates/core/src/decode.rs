//! Values into structs, with the place of whatever does not fit.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// How serde's message about a key that it does not know begins.
pub const UNKNOWN_FIELD: &str = "unknown field `";

/// What does not fit, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// Path of the key, such as `columns[2].tolerance`; empty for the whole.
    pub path: String,
    /// serde's words.
    pub message: String,
    pointer: String,
}

/// Decodes a value.
///
/// # Errors
/// The first [`Misfit`].
pub fn decode<T: DeserializeOwned>(value: &Value) -> Result<T, Misfit> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let (mut path, mut pointer) = (error.path().to_string(), pointer(error.path()));
        if path == "." {
            path.clear();
        }
        let message = error.into_inner().to_string();
        if let Some(key) = value.pointer(&pointer).and_then(|at| hidden_key(at, &message)) {
            path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            pointer.push_str(&token(&key));
        }
        Misfit { path, message, pointer }
    })
}

impl Misfit {
    /// Takes an unknown key out of the value that it was found in, so that the next misfit can be found;
    /// whether it was one.
    pub fn remove_unknown(&self, value: &mut Value) -> bool {
        let Some((parent, key)) = self.pointer.rsplit_once('/') else { return false };
        let key = key.replace("~1", "/").replace("~0", "~");
        let parent = value.pointer_mut(parent).and_then(Value::as_object_mut);
        self.message.starts_with(UNKNOWN_FIELD)
            && parent.is_some_and(|parent| parent.remove(&key).is_some())
    }
}

/// The JSON pointer (RFC 6901) of a path.
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let segments = path.iter().map(|segment| match segment {
        Segment::Map { key } | Segment::Enum { variant: key } => token(key),
        Segment::Seq { index } => token(&index.to_string()),
        Segment::Unknown => String::new(),
    });
    segments.collect()
}

/// A key as a part of a JSON pointer.
fn token(key: &str) -> String {
    format!("/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// The key of a map that a message is about, where the decoder named the map alone: serde reads the
/// variants of an enum whose tag stands among their keys in two steps, and the second knows no path.
fn hidden_key(map: &Value, message: &str) -> Option<String> {
    let map = map.as_object()?;
    let quoted = |start: &str| message.strip_prefix(start)?.split('`').next();
    if let Some(key) = quoted(UNKNOWN_FIELD) {
        return map.contains_key(key).then(|| key.to_owned());
    }
    let variant = quoted("unknown variant `");
    let wrong = match variant {
        Some(_) => "",
        None => message.strip_prefix("invalid ")?.split_once(": ")?.1.split_once(", expected ")?.0,
    };
    let is_meant = |value: &Value| match value {
        Value::Bool(is) => wrong == format!("boolean `{is}`"),
        Value::Number(number) => {
            ["integer", "floating point"].iter().any(|kind| wrong == format!("{kind} `{number}`"))
        }
        Value::String(text) => variant == Some(text) || wrong == format!("string {text:?}"),
        Value::Array(_) => wrong == "sequence",
        // A map that is wrong may be this one itself.
        Value::Object(_) | Value::Null => false,
    };
    let mut meant = map.iter().filter(|(_, value)| is_meant(value)).map(|(key, _)| key);
    let key = meant.next()?;
    meant.next().is_none().then(|| key.clone())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    /// As trainers have them.
    #[derive(Debug, Deserialize)]
    #[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
    enum Optimizer {
        Sgd {
            #[serde(rename = "rate")]
            _rate: f64,
            #[serde(rename = "steps")]
            _steps: u32,
        },
    }

    #[derive(Debug, Deserialize)]
    struct Training {
        #[serde(rename = "optimizers")]
        _optimizers: Vec<Optimizer>,
    }

    #[test]
    fn what_does_not_fit_within_a_tagged_map_is_told_at_its_key() {
        let good = json!({"kind": "sgd", "rate": 1, "steps": 1});
        for (change, found) in [
            (json!({}), vec![]),
            (
                json!({"rat": 1, "a/~b": 1}),
                vec![("a/~b", "unknown field"), ("rat", "unknown field")],
            ),
            (json!({"rate": "fa\"st"}), vec![("rate", "invalid type: string")]),
            (json!({"steps": -1}), vec![("steps", "invalid value: integer `-1`")]),
            (json!({"steps": [1]}), vec![("steps", "invalid type: sequence")]),
            // Either might be meant; or none, since it is not there.
            (json!({"rate": true, "steps": true}), vec![("", "invalid type: boolean `true`")]),
            (json!({"kind": "adam"}), vec![("kind", "unknown variant `adam`")]),
        ] {
            let mut optimizer = good.clone();
            optimizer
                .as_object_mut()
                .expect("a map")
                .extend(change.as_object().expect("a map").clone());
            let mut value = json!({ "optimizers": [optimizer] });
            let mut told = vec![];
            while let Err(misfit) = decode::<Training>(&value) {
                told.push((misfit.path.clone(), misfit.message.clone()));
                if !misfit.remove_unknown(&mut value) {
                    break;
                }
            }
            assert_eq!(told.len(), found.len(), "{change}: {told:?}");
            for ((path, message), (key, start)) in told.iter().zip(found) {
                let expected = format!("optimizers[0].{key}");
                assert_eq!(path, expected.trim_end_matches('.'), "{change}");
                assert!(message.starts_with(start), "{change}: {message}");
            }
        }
    }
}

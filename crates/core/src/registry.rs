//! `kind:` in a configuration → the component that is built for it.
//!
//! A component is one file: a settings struct that implements [`Spec`], registered by one line.
//! Other teams register their own kinds from their own crates in the same way.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::decode;

/// Settings of one kind of component, and how to build it.
///
/// `Product` is what the contract asks for, such as `Box<dyn Monitor>`; `Deps` what all components
/// of the contract may need and no settings can hold.
pub trait Spec<Product, Deps = ()>: DeserializeOwned + JsonSchema + 'static {
    /// The value of `kind:`.
    const KIND: &'static str;

    /// Checks the settings and builds the component.
    ///
    /// # Errors
    /// [`BuildError::invalid`] with the key that is out of range.
    fn build(self, name: String, deps: &Deps) -> Result<Product, BuildError>;
}

/// Why a component could not be built from its settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Nobody registered this kind.
    #[error("unknown {what} kind `{kind}`; known: {}", known.join(", "))]
    UnknownKind {
        /// `monitor`, `reporter` …
        what: &'static str,
        /// As written.
        kind: String,
        /// All registered kinds.
        known: Vec<String>,
    },
    /// The kind exists, but this program was compiled without it.
    #[error("{what} kind `{kind}` is not compiled in: build with `--features {feature}`")]
    NotCompiledIn {
        /// `monitor`, `reporter` …
        what: &'static str,
        /// As written.
        kind: String,
        /// The feature that brings it.
        feature: &'static str,
    },
    /// A key is unknown, missing, of a wrong type or out of range.
    #[error("{message}")]
    Settings {
        /// Path within the settings, such as `columns[2].tolerance`; empty for the whole.
        path: String,
        /// What is wrong and what would be right.
        message: String,
    },
}

impl BuildError {
    /// A value that decodes but makes no sense.
    pub fn invalid(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Settings { path: path.into(), message: message.into() }
    }
}

type Build<Product, Deps> =
    Box<dyn Fn(String, &Value, &Deps) -> Result<Product, BuildError> + Send + Sync>;

struct Entry<Product, Deps> {
    build: Build<Product, Deps>,
    schema: fn(&mut SchemaGenerator) -> Schema,
}

/// All kinds of one contract.
pub struct KindRegistry<Product, Deps = ()> {
    what: &'static str,
    entries: BTreeMap<&'static str, Entry<Product, Deps>>,
    absent: BTreeMap<&'static str, &'static str>,
}

impl<Product: 'static, Deps: 'static> KindRegistry<Product, Deps> {
    /// An empty registry of things called `what` in messages.
    #[must_use]
    pub fn new(what: &'static str) -> Self {
        Self { what, entries: BTreeMap::new(), absent: BTreeMap::new() }
    }

    /// Adds a kind.
    ///
    /// # Panics
    /// When the kind is registered already: two components under one name is a bug of the program
    /// that shows at every start, not something to choose between silently.
    pub fn register<S: Spec<Product, Deps>>(&mut self) {
        let build: Build<Product, Deps> =
            Box::new(|name, settings, deps| decode::<S>(settings)?.build(name, deps));
        let schema = SchemaGenerator::subschema_for::<S>;
        let before = self.entries.insert(S::KIND, Entry { build, schema });
        assert!(before.is_none(), "{} kind `{}` is registered twice", self.what, S::KIND);
    }

    /// Names a kind that exists but is not compiled in, with the feature that brings it.
    pub fn register_absent(&mut self, kind: &'static str, feature: &'static str) {
        self.absent.insert(kind, feature);
    }

    /// The registered kinds, sorted.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.entries.keys().copied()
    }

    /// The JSON Schema of a kind's settings.
    #[must_use]
    pub fn schema(&self, kind: &str, generator: &mut SchemaGenerator) -> Option<Schema> {
        self.entries.get(kind).map(|entry| (entry.schema)(generator))
    }

    /// Builds the component of a kind. Missing settings (`null`) are an empty map.
    ///
    /// # Errors
    /// [`BuildError`], with the path of the key that is at fault.
    pub fn build(
        &self,
        kind: &str,
        name: &str,
        settings: &Value,
        deps: &Deps,
    ) -> Result<Product, BuildError> {
        if let Some(entry) = self.entries.get(kind) {
            return (entry.build)(name.to_owned(), settings, deps);
        }
        let (what, kind) = (self.what, kind.to_owned());
        if let Some(feature) = self.absent.get(kind.as_str()) {
            return Err(BuildError::NotCompiledIn { what, kind, feature });
        }
        Err(BuildError::UnknownKind {
            what,
            kind,
            known: self.kinds().map(str::to_owned).collect(),
        })
    }
}

fn decode<S: DeserializeOwned>(settings: &Value) -> Result<S, BuildError> {
    let empty = Value::Object(serde_json::Map::new());
    let settings = if settings.is_null() { &empty } else { settings };
    decode::decode(settings).map_err(|misfit| BuildError::invalid(misfit.path, misfit.message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Square {
        side: u32,
    }

    impl Spec<u32> for Square {
        const KIND: &'static str = "square";

        fn build(self, _name: String, _deps: &()) -> Result<u32, BuildError> {
            if self.side == 0 {
                return Err(BuildError::invalid("side", "must be above 0"));
            }
            Ok(self.side * self.side)
        }
    }

    fn registry() -> KindRegistry<u32> {
        let mut registry = KindRegistry::new("shape");
        registry.register::<Square>();
        registry.register_absent("circle", "round");
        registry
    }

    #[test]
    fn a_kind_is_built_from_its_settings() {
        let built = registry().build("square", "s", &serde_json::json!({"side": 3}), &());
        assert_eq!(built, Ok(9));
    }

    #[test]
    fn errors_name_the_place_and_the_way_out() {
        let registry = registry();
        let cases = [
            ("cube", serde_json::json!({}), "unknown shape kind `cube`; known: square"),
            ("circle", serde_json::json!({}), "build with `--features round`"),
            ("square", serde_json::json!({"sid": 3}), "unknown field `sid`"),
            ("square", serde_json::json!({"side": 0}), "must be above 0"),
            ("square", Value::Null, "missing field `side`"),
        ];
        for (kind, settings, expected) in cases {
            let error = registry.build(kind, "s", &settings, &()).expect_err(kind);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    #[should_panic(expected = "registered twice")]
    fn two_components_of_one_kind_are_a_bug() {
        registry().register::<Square>();
    }
}

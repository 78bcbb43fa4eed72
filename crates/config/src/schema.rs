//! JSON Schema of a configuration, settings of every kind included.

use mloop_core::registry::KindRegistry;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

/// The JSON Schema of an envelope, for `--print-schema` and for editors.
///
/// A [`Component`](crate::Component) alone allows any settings; [`kinds`](Self::kinds) says which
/// kinds there are and what each takes.
pub struct EnvelopeSchema {
    generator: SchemaGenerator,
    root: Value,
}

impl EnvelopeSchema {
    /// The schema of an envelope.
    #[must_use]
    pub fn of<T: JsonSchema>() -> Self {
        let mut generator = SchemaGenerator::default();
        let root = generator.root_schema_for::<T>().to_value();
        Self { generator, root }
    }

    /// Says what may stand at a key of the envelope (`ledger`, `monitors`, `traffic.source`): a
    /// component, or a list of them, of one of the registry's kinds. A key that is not there is
    /// left alone.
    #[must_use]
    pub fn kinds<P: 'static, D: 'static>(
        mut self,
        key: &str,
        registry: &KindRegistry<P, D>,
    ) -> Self {
        let mut choices = Vec::new();
        for kind in registry.kinds() {
            let settings = registry.schema(kind, &mut self.generator);
            choices.push(json!({
                "type": "object",
                "properties": {
                    "kind": {"const": kind},
                    "name": {"type": ["string", "null"]},
                    "settings": settings.map(schemars::Schema::to_value),
                },
                "required": ["kind"],
                "additionalProperties": false,
            }));
        }
        if let Some(place) = find(&mut self.root, key) {
            let is_list = place.get("type").is_some_and(|kind| kind == "array");
            let place = if is_list { &mut place["items"] } else { place };
            let description = place.get("description").cloned();
            *place = json!({"oneOf": choices});
            if let Some(description) = description {
                place["description"] = description;
            }
        }
        self
    }

    /// Says what the section at a key (`gate`) holds.
    #[must_use]
    pub fn section<T: JsonSchema>(mut self, key: &str) -> Self {
        let schema = self.generator.subschema_for::<T>().to_value();
        if let Some(place) = find(&mut self.root, key) {
            *place = schema;
        }
        self
    }

    /// The schema.
    #[must_use]
    pub fn finish(mut self) -> Value {
        for (name, definition) in self.generator.take_definitions(true) {
            // Those of the envelope are there already, with their kinds.
            if self.root["$defs"][&name].is_null() {
                self.root["$defs"][name] = definition;
            }
        }
        self.root
    }
}

/// The schema of a dotted key.
fn find<'a>(root: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    let mut pointer = String::new();
    for part in key.split('.') {
        // An optional section is `anyOf` its definition and null; what counts is the definition.
        let here = root.pointer(&pointer)?;
        let reference = here.get("$ref").or_else(|| here.pointer("/anyOf/0/$ref"));
        if let Some(definition) = reference.and_then(Value::as_str) {
            pointer = definition.trim_start_matches('#').to_owned();
        }
        pointer.push_str("/properties/");
        pointer.push_str(part);
    }
    root.pointer_mut(&pointer)
}

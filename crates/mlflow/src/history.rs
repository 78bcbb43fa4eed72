//! What a run shows of a training: parameters, metrics and data sets, as the version's files tell.

use std::collections::BTreeMap;

use mloop_core::evaluation::{EvaluationReport, SetComparison};
use serde_json::{Value, json};

/// The server takes at most 1000 entities in a batch, 100 of them parameters.
const METRICS_IN_BATCH: usize = 900;
const PARAMS_IN_BATCH: usize = 100;

/// Longest key and value that the server takes, in characters.
const MAX_KEY: usize = 250;
const MAX_VALUE: usize = 6000;

/// Most parameters and points that a run gets; more are no help to anybody, and each batch is a call.
const MAX_PARAMS: usize = 2000;
const MAX_METRICS: usize = 90_000;

/// Digits of a data set's digest that the server has room for.
const DIGEST_DIGITS: usize = 36;

#[derive(Debug, Clone, PartialEq)]
struct Metric {
    key: String,
    value: f64,
    step: i64,
}

/// What a run shows.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct History {
    params: BTreeMap<String, String>,
    metrics: Vec<Metric>,
    sets: Vec<SetComparison>,
}

impl History {
    /// Reads the training's configuration (any object), its metrics (`epochs`: rows of numbers, and
    /// numbers beside it), and the gate's report.
    pub(crate) fn of(
        config: Option<&Value>,
        metrics: Option<&Value>,
        evaluation: Option<EvaluationReport>,
    ) -> Self {
        let mut history = Self::default();
        if let Some(config) = config {
            history.flatten("", config);
        }
        if let Some(metrics) = metrics {
            history.epochs(metrics);
        }
        if let Some(report) = evaluation {
            history.evaluation(report);
        }
        history.limit();
        history
    }

    fn flatten(&mut self, path: &str, value: &Value) {
        let below =
            |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        match value {
            Value::Object(map) if !map.is_empty() => {
                map.iter().for_each(|(key, value)| self.flatten(&below(key), value));
            }
            Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
                for (index, item) in items.iter().enumerate() {
                    self.flatten(&below(&index.to_string()), item);
                }
            }
            Value::String(text) => self.param(path, text.clone()),
            other => self.param(path, other.to_string()),
        }
    }

    fn param(&mut self, key: &str, value: String) {
        let value = match value.char_indices().nth(MAX_VALUE) {
            None => value,
            Some(_) => value.chars().take(MAX_VALUE - 1).chain(['…']).collect(),
        };
        self.params.insert(name(key), value);
    }

    fn epochs(&mut self, metrics: &Value) {
        let Some(map) = metrics.as_object() else { return };
        for (key, value) in map.iter().filter(|(_, value)| value.is_number()) {
            self.metric(key, value, 0);
        }
        let rows = map.get("epochs").and_then(Value::as_array);
        let rows = rows.into_iter().flatten().filter_map(Value::as_object);
        for (row, before) in rows.zip(0_i64..) {
            let step = row.get("epoch").and_then(Value::as_i64).unwrap_or(before + 1);
            for (key, value) in row.iter().filter(|(key, _)| *key != "epoch") {
                self.metric(key, value, step);
            }
        }
    }

    fn metric(&mut self, key: &str, value: &Value, step: i64) {
        // JSON has no word for what is not a number: such a loss is written as null.
        let value = if value.is_null() { Some(f64::NAN) } else { value.as_f64() };
        self.metrics.extend(value.map(|value| Metric { key: name(key), value, step }));
    }

    fn evaluation(&mut self, report: EvaluationReport) {
        self.param("evaluation.verdict", report.verdict.as_str().to_owned());
        self.param("evaluation.confidence", report.confidence.to_string());
        if let Some(champion) = report.champion {
            self.param("evaluation.champion", champion.to_string());
        }
        for set in &report.sets {
            self.param(&format!("evaluation.{}.verdict", set.set), set.verdict.as_str().to_owned());
            let interval = set.interval.map(|[lower, upper]| (lower, upper)).unzip();
            for (key, value) in [
                ("images", Some(set.n as f64)),
                ("challenger_accuracy", Some(set.challenger_accuracy)),
                ("champion_accuracy", set.champion_accuracy),
                ("difference", set.difference),
                ("interval_lower", interval.0),
                ("interval_upper", interval.1),
            ] {
                let key = format!("evaluation/{}/{key}", name(&set.set));
                self.metrics.extend(value.map(|value| Metric { key, value, step: 0 }));
            }
        }
        self.sets = report.sets;
    }

    fn limit(&mut self) {
        let (params, metrics) = (self.params.len(), self.metrics.len());
        if params > MAX_PARAMS || metrics > MAX_METRICS {
            tracing::warn!(params, metrics, "the MLflow run will show only the first of these");
            self.params = std::mem::take(&mut self.params).into_iter().take(MAX_PARAMS).collect();
            self.metrics.truncate(MAX_METRICS);
        }
    }

    /// Bodies of `runs/log-batch`, without the run. Each metric gets the same moment, so that a batch
    /// that is sent again is the same batch.
    pub(crate) fn batches(&self, timestamp_ms: i64) -> Vec<Value> {
        let params: Vec<Value> =
            self.params.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
        let metrics: Vec<Value> = self
            .metrics
            .iter()
            .map(|metric| {
                json!({
                    "key": metric.key,
                    "value": number(metric.value),
                    "timestamp": timestamp_ms,
                    "step": metric.step,
                })
            })
            .collect();
        let (mut params, mut metrics) =
            (params.chunks(PARAMS_IN_BATCH), metrics.chunks(METRICS_IN_BATCH));
        std::iter::from_fn(|| match (params.next(), metrics.next()) {
            (None, None) => None,
            (params, metrics) => Some(json!({
                "params": params.unwrap_or_default(),
                "metrics": metrics.unwrap_or_default(),
            })),
        })
        .collect()
    }

    /// The data sets of the evaluation, as `runs/log-inputs` takes them.
    pub(crate) fn datasets(&self) -> Vec<Value> {
        let one = |set: &SetComparison| {
            json!({
                "tags": [{ "key": "mlflow.data.context", "value": "evaluation" }],
                "dataset": {
                    "name": set.set,
                    "digest": set.dataset.short(DIGEST_DIGITS),
                    "source_type": "mloop",
                    "source": json!({ "sha256": set.dataset }).to_string(),
                },
            })
        };
        self.sets.iter().map(one).collect()
    }
}

/// A number as the server takes it: those that are none go as text.
fn number(value: f64) -> Value {
    match value {
        value if value.is_nan() => json!("NaN"),
        f64::INFINITY => json!("Infinity"),
        f64::NEG_INFINITY => json!("-Infinity"),
        value => json!(value),
    }
}

/// A name that the server takes: no signs but these, and no path but a plain one.
fn name(text: &str) -> String {
    let sound = |c: char| if c.is_ascii_alphanumeric() || "_-. :".contains(c) { c } else { '_' };
    let name: String = text.chars().take(MAX_KEY).map(sound).collect();
    if name.chars().all(|c| c == '.') { "_".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use mloop_core::Sha256Digest;
    use mloop_core::evaluation::{GateRule, GateVerdict};

    use super::*;

    fn params(config: &Value) -> Vec<(String, String)> {
        History::of(Some(config), None, None).params.into_iter().collect()
    }

    #[test]
    fn configurations_are_flattened() {
        let config = json!({
            "trainer": "cv",
            "settings": {
                "classes": ["boot", "shirt"],
                "none": null,
                "train": [{"kind": "folder"}, {"kind": "idx"}],
                "rate": 0.001,
                "flag": true,
                "empty": {},
                "strange (key)/ä": 1,
            },
        });
        let expected = [
            ("settings.classes", r#"["boot","shirt"]"#),
            ("settings.empty", "{}"),
            ("settings.flag", "true"),
            ("settings.none", "null"),
            ("settings.rate", "0.001"),
            ("settings.strange _key___", "1"),
            ("settings.train.0.kind", "folder"),
            ("settings.train.1.kind", "idx"),
            ("trainer", "cv"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(params(&config), expected);
    }

    #[test]
    fn long_keys_and_values_are_cut() {
        let long = params(&json!({ "k".repeat(300): "ä".repeat(7000) })).remove(0);
        assert_eq!((long.0.len(), long.1.chars().count()), (MAX_KEY, MAX_VALUE));
        assert!(long.1.ends_with('…'));
        let fits = params(&json!({ "..": "ä".repeat(6000) })).remove(0);
        assert_eq!(fits, ("_".to_owned(), "ä".repeat(6000)));
    }

    #[test]
    fn epochs_become_steps() {
        let metrics = json!({
            "schema": "x",
            "kept_epoch": 2,
            "epochs": [
                {"epoch": 1, "loss": 0.5, "note": "text"},
                {"epoch": 2, "loss": null},
                {"loss": 0.25},
                "nonsense",
            ],
        });
        let batch = History::of(None, Some(&metrics), None).batches(7).remove(0);
        let point = |key: &str, value: Value, step: i64| json!({"key": key, "value": value, "timestamp": 7, "step": step});
        assert_eq!(
            batch["metrics"],
            json!([
                point("kept_epoch", json!(2.0), 0),
                point("loss", json!(0.5), 1),
                point("loss", json!("NaN"), 2),
                point("loss", json!(0.25), 3),
            ])
        );
        for other in [json!([]), json!("text"), json!({"epochs": "5"}), json!({})] {
            assert!(History::of(None, Some(&other), None).batches(7).is_empty(), "{other}");
        }
    }

    #[test]
    fn batches_keep_the_servers_limits() {
        let rows: Vec<Value> = (0..2000).map(|epoch| json!({"epoch": epoch, "a": 1})).collect();
        let config: serde_json::Map<String, Value> =
            (0..250).map(|number| (format!("k{number}"), json!(number))).collect();
        let metrics = json!({ "epochs": rows });
        let history = History::of(Some(&Value::Object(config)), Some(&metrics), None);
        let batches = history.batches(1);
        let sizes: Vec<(usize, usize)> = batches
            .iter()
            .map(|batch| ["params", "metrics"].map(|key| batch[key].as_array().map_or(0, Vec::len)))
            .map(|[params, metrics]| (params, metrics))
            .collect();
        assert_eq!(sizes, [(100, 900), (100, 900), (50, 200)]);
    }

    #[test]
    fn the_gates_report_is_shown() {
        let report = EvaluationReport {
            schema: String::new(),
            champion: None,
            confidence: 0.95,
            sets: vec![SetComparison {
                set: "frozen".to_owned(),
                dataset: Sha256Digest::of(b"set"),
                n: 10,
                challenger_accuracy: 0.9,
                champion_accuracy: None,
                difference: None,
                interval: Some([0.7, 0.98]),
                discordant: None,
                rule: GateRule::Floor,
                margin: 0.5,
                verdict: GateVerdict::Blessed,
                reason: String::new(),
            }],
            classes: vec![],
            confusion: vec![],
            verdict: GateVerdict::Blessed,
        };
        let history = History::of(None, None, Some(report));
        let keys: Vec<&str> = history.metrics.iter().map(|metric| metric.key.as_str()).collect();
        let expected = ["images", "challenger_accuracy", "interval_lower", "interval_upper"];
        assert_eq!(keys, expected.map(|key| format!("evaluation/frozen/{key}")));
        assert_eq!(history.params["evaluation.verdict"], "blessed");
        let dataset = &history.datasets()[0]["dataset"];
        assert_eq!(dataset["digest"].as_str().map(str::len), Some(36));
        assert!(dataset["source"].as_str().is_some_and(|text| text.starts_with(r#"{"sha256":"#)));
    }
}

//! What a reader of a bad configuration file is told.

use std::path::Path;

use mloop_config::{Document, EnvelopeSchema, MonitoringConfig, RetrainConfig, TrainingConfig};
use mloop_core::registry::{BuildError, KindRegistry, Spec};
use schemars::JsonSchema;
use serde::Deserialize;

const GOOD: &str = "\
version: 1
model: fashion
target: production
ledger: {kind: sqlite, settings: {path: var/ledger.db}}
registry: {kind: directory}
source: {kind: files}
work: var/work
monitors:
  - kind: drift
    settings: {max_psi: 0.2}
  - kind: latency
    name: slow
    settings:
      max_psi: 0.3
reporters:
  - kind: jsonl
";

fn problems_of(text: &str) -> String {
    let document = match Document::parse(Path::new("conf/m.yaml"), text) {
        Ok(document) => document,
        Err(error) => return error.to_string(),
    };
    let (_, problems) = document.decode::<MonitoringConfig>();
    problems.finish().map_or_else(|error| error.to_string(), |()| String::new())
}

#[test]
fn a_good_file_has_no_problems_and_its_defaults() {
    let document = Document::parse(Path::new("conf/m.yaml"), GOOD).expect("yaml");
    let (config, problems) = document.decode::<MonitoringConfig>();
    problems.finish().expect("no problems");
    let config = config.expect("decoded");
    assert_eq!(config.subject().to_string(), "fashion@production");
    assert_eq!(
        (config.settle_secs, config.stale_after_hours, config.max_blind_windows),
        (0, 48, 3)
    );
    assert_eq!([config.monitors[0].name(), config.monitors[1].name()], ["drift", "slow"]);
    let here = std::env::current_dir().expect("a folder");
    assert_eq!(document.resolve(&config.work), here.join("conf/var/work"));
    assert_eq!(document.resolve(Path::new("/abs")), Path::new("/abs"));
    assert_eq!(document.place("monitors[1].settings.max_psi"), Some((14, 7)));
    assert_eq!(document.line("monitors[1].settings.absent"), Some(13));
}

#[test]
fn each_mistake_is_told_with_file_line_path_and_way_out() {
    let cases = [
        ("work:", "wrk:", "conf/m.yaml:7: wrk: unknown key; did you mean work?"),
        ("version: 1", "version: 2", "conf/m.yaml:1: version: format 2 is not known"),
        ("version: 1", "version: one", "conf/m.yaml:1: version: wrong type: string \"one\""),
        (
            "model: fashion",
            "model: my_model",
            "conf/m.yaml:2: model: `my_model` is not a valid name",
        ),
        ("target: production\n", "", "conf/m.yaml: missing key `target`"),
        (
            "    name: slow",
            "    name: drift",
            "conf/m.yaml:11: monitors[1]: the name `drift` is taken by monitors[0]",
        ),
        (
            "    name: slow",
            "    nam: slow",
            "conf/m.yaml:12: monitors[1].nam: unknown key; did you mean name? (known: kind, name, settings)",
        ),
        (
            "reporters:\n  - kind: jsonl",
            "reporters: []",
            "conf/m.yaml:15: reporters: at least one is needed",
        ),
        (
            "work: var",
            "max_blind_windows: 0\nwork: var",
            "conf/m.yaml:7: max_blind_windows: must be from 1 to 10000",
        ),
        (
            "work: var",
            "settle_secs: -1\nwork: var",
            "conf/m.yaml:7: settle_secs: -1 is out of range: 0 or more",
        ),
        (
            "work: var",
            "stale_after_hours: yes\nwork: var",
            "conf/m.yaml:7: stale_after_hours: wrong type: string \"yes\", expected a whole number, from 0 to 4294967295",
        ),
        ("model: fashion", "model: [fashion", "conf/m.yaml:"),
        ("model: fashion", "model: *nobody", "conf/m.yaml:2: "),
        ("{max_psi: 0.2}", "{max_psi: .nan}", "conf/m.yaml:10: "),
    ];
    for (from, to, expected) in cases {
        assert!(GOOD.contains(from), "{from}");
        let told = problems_of(&GOOD.replacen(from, to, 1));
        assert!(told.contains(expected), "expected {expected}\n     got {told}");
    }
}

#[test]
fn duplicate_keys_are_named() {
    let told = problems_of(&GOOD.replacen("model: fashion", "model: fashion\nmodel: shoes", 1));
    assert!(
        told.contains("conf/m.yaml:3: ") && told.contains("duplicate") && told.contains("model"),
        "{told}"
    );
}

#[test]
fn all_problems_come_at_once_in_the_order_of_their_lines() {
    let text = GOOD
        .replacen("settings: {max_psi: 0.2}", "setings: {}", 1)
        .replacen("work:", "wrk:", 1)
        .replacen("name: slow", "name: drift", 1);
    let told = problems_of(&text);
    let places: Vec<&str> = told.lines().map(|line| line.split(' ').next().unwrap_or("")).collect();
    assert_eq!(places, ["conf/m.yaml:", "conf/m.yaml:7:", "conf/m.yaml:10:"], "{told}");
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Drift {
    max_psi: f64,
}

impl Spec<f64> for Drift {
    const KIND: &'static str = "drift";

    fn build(self, _name: String, _deps: &()) -> Result<f64, BuildError> {
        match self.max_psi {
            limit if limit > 0.0 => Ok(limit),
            limit => Err(BuildError::invalid("max_psi", format!("{limit} must be above 0"))),
        }
    }
}

#[test]
fn problems_of_components_join_those_of_the_envelope() {
    let text = GOOD
        .replacen("kind: latency", "kind: drift", 1)
        .replacen("      max_psi: 0.3", "      max_psii: 0.3", 1)
        .replacen("{max_psi: 0.2}", "{max_psi: -1}", 1)
        .replacen("reporters:", "  - kind: drif\nmax_blind_windows: 0\nreporters:", 1);
    let mut registry: KindRegistry<f64> = KindRegistry::new("monitor");
    registry.register::<Drift>();
    let document = Document::parse(Path::new("m.yaml"), &text).expect("yaml");
    let (config, mut problems) = document.decode::<MonitoringConfig>();
    let monitors = config.expect("decoded").monitors;
    assert_eq!(problems.build_all("monitors", &monitors, &registry, &()), [0.0; 0]);
    let told = problems.finish().expect_err("problems").to_string();
    assert_eq!(
        told,
        "m.yaml:10: monitors[0].settings.max_psi: -1 must be above 0\n\
         m.yaml:14: monitors[1].settings.max_psii: unknown key; did you mean max_psi? (known: max_psi)\n\
         m.yaml:15: monitors[2].kind: unknown monitor kind `drif`; known: drift; did you mean drift?\n\
         m.yaml:16: max_blind_windows: must be from 1 to 10000"
    );
}

#[test]
fn secrets_stand_elsewhere_and_must_be_there() {
    let cases = [
        (
            "{webhook_url: \"https://hooks\"}",
            "conf/m.yaml:10: monitors[0].settings.webhook_url: a secret may not stand in a file; write `webhook_url_env: NAME`",
        ),
        ("{smtp: {password: x}}", "monitors[0].settings.smtp.password: a secret may not stand"),
        (
            "{password_env: MLOOP_TEST_SURELY_NOT_SET}",
            "settings.password_env: the environment variable `MLOOP_TEST_SURELY_NOT_SET` is not set",
        ),
        ("{token_file: no/such/file}", "settings.token_file: the secret's file /"),
    ];
    for (settings, expected) in cases {
        let told = problems_of(&GOOD.replacen("{max_psi: 0.2}", settings, 1));
        assert!(told.contains(expected), "expected {expected}\n     got {told}");
        assert!(!told.contains("https://hooks"), "{told}");
    }
    assert_eq!(problems_of(&GOOD.replacen("{max_psi: 0.2}", "{password_env: PATH}", 1)), "");
}

#[test]
fn files_that_are_no_configuration_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let cases: [(&str, Vec<u8>, &str); 5] = [
        ("empty", b" \n".to_vec(), "empty: the file is empty"),
        ("latin", b"a: 1\nb: \xe9\n".to_vec(), "latin:2: not UTF-8"),
        ("list", b"# c\n- a\n".to_vec(), "list:2: expected a map"),
        ("large", vec![b' '; (1 << 20) + 1], "large: larger than 1048576 bytes"),
        ("two", b"a: 1\n---\nb: 1\n".to_vec(), "two:2: a second YAML document begins here"),
    ];
    for (name, bytes, expected) in cases {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        let told = Document::read(&path).expect_err(name).to_string();
        assert!(told.contains(expected), "{name}: {told}");
    }
    for (path, expected) in [("absent.yaml", "there is no such file"), (".", "this is a folder")] {
        let told = Document::read(&folder.path().join(path)).expect_err(path).to_string();
        assert!(told.contains(expected), "{told}");
    }
}

#[test]
fn a_bomb_of_aliases_is_refused_at_once() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let below = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    let started = std::time::Instant::now();
    let told = Document::parse(Path::new("bomb.yaml"), &text).expect_err("a bomb").to_string();
    assert!(told.starts_with("bomb.yaml:") && told.contains("too large or too deep"), "{told}");
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
}

#[test]
fn an_alias_keeps_the_place_of_its_anchor_or_use() {
    let text = "base: &base\n  side: 1\nother: *base\n";
    let document = Document::parse(Path::new("a.yaml"), text).expect("yaml");
    assert_eq!(document.value()["other"]["side"], 1);
    assert_eq!(document.line("other"), Some(3));
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Section {
    confidence: f64,
}

impl Default for Section {
    fn default() -> Self {
        Self { confidence: 0.95 }
    }
}

#[test]
fn sections_and_ranges_of_the_other_envelopes_hold() {
    let common = "version: 1\nmodel: m\ntarget: t\nregistry: {kind: directory}\n";
    let training = format!(
        "{common}trainer: {{kind: cnn}}\nwork: w\ngate:\n  confidenc: 1\n\
         traffic: {{source: {{kind: files}}, fresh_share: 1.5}}\n"
    );
    let document = Document::parse(Path::new("t.yaml"), &training).expect("yaml");
    let (config, mut problems) = document.decode::<TrainingConfig>();
    let section: Option<Section> =
        problems.section("gate", &config.expect("the envelope is fine").gate);
    assert!(section.is_some_and(|section| section.confidence > 0.9));
    assert_eq!(
        problems.finish().expect_err("bad").to_string(),
        "t.yaml:8: gate.confidenc: unknown key; did you mean confidence? (known: confidence)\n\
         t.yaml:9: traffic.fresh_share: 1.5 is out of range: from 0.01 to 0.9"
    );

    let retrain = format!(
        "{common}ledger: {{kind: sqlite}}\nsubmitter: {{kind: process}}\ntriggers: []\ncombination: al\n"
    );
    for (combination, expected) in [
        ("al", "r.yaml:8: combination: unknown value `al`; did you mean all? (known: any, all)"),
        ("all", "r.yaml:7: triggers: at least one is needed"),
    ] {
        let text = retrain.replace("combination: al\n", &format!("combination: {combination}\n"));
        let document = Document::parse(Path::new("r.yaml"), &text).expect("yaml");
        let (_, problems) = document.decode::<RetrainConfig>();
        assert_eq!(problems.finish().expect_err("bad").to_string(), expected);
    }
}

#[test]
fn the_schema_knows_keys_docs_and_kinds() {
    let mut monitors: KindRegistry<f64> = KindRegistry::new("monitor");
    monitors.register::<Drift>();
    let schema = EnvelopeSchema::of::<MonitoringConfig>()
        .kinds("monitors", &monitors)
        .kinds("ledger", &monitors)
        .finish();
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["$defs"]["FormatVersion"]["const"], 1);
    let list = &schema["properties"]["monitors"];
    assert_eq!(list["description"], "What is measured.");
    let drift = &list["items"]["oneOf"][0]["properties"];
    assert_eq!(drift["kind"]["const"], "drift");
    assert_eq!(schema["properties"]["ledger"]["oneOf"][0]["properties"], *drift);
    let definition = drift["settings"]["$ref"].as_str().expect("a reference");
    let definition = schema.pointer(&definition[1..]).expect("defined");
    assert_eq!(definition["properties"]["max_psi"]["type"], "number");

    let nested = EnvelopeSchema::of::<TrainingConfig>().kinds("traffic.source", &monitors).finish();
    let source = &nested["$defs"]["TrafficConfig"]["properties"]["source"];
    assert_eq!(source["oneOf"][0]["properties"]["kind"]["const"], "drift", "{source:#}");
}

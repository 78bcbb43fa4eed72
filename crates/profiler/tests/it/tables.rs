//! Tables of predictions: the same rows give the same profile however they are written.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use datafusion::arrow::array::{
    ArrayRef, Float64Array, Int64Array, ListArray, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::Float32Type;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::file::properties::WriterProperties;
use mloop_core::profile::{ColumnCounts, ProfileKey};
use mloop_core::schema::{ColumnKind, GroupSchema};
use mloop_core::{ModelName, Profile, ProfileSchema, Sha256Digest, Subject, TargetName, Window};
use mloop_platform::{
    PlatformDeps, PlatformError, ProfileRequest, Reference, ServedSpan, SourceReference,
    SourceRegistry, Sources,
};
use serde_json::{Value, json};

use crate::fixture::{evening, noon, window};

mod captured;

/// A loan that was asked for.
#[derive(Debug, Clone)]
struct Loan {
    id: String,
    time: DateTime<Utc>,
    income: Option<f64>,
    purpose: Option<&'static str>,
    term: i64,
    sex: &'static str,
    race: Option<&'static str>,
    score: f64,
    repaid: Option<bool>,
}

/// So many loans of the hour, all of them different.
fn loans(count: u32) -> Vec<Loan> {
    let loan = |n: u32| Loan {
        id: format!("loan-{n}"),
        time: noon() + TimeDelta::milliseconds(i64::from(n) * 100),
        income: (!n.is_multiple_of(9)).then(|| f64::from(n % 997) * 1.25),
        purpose: [Some("car"), Some("house"), None][n as usize % 3],
        term: i64::from(n % 5) * 12,
        sex: ["f", "m"][n as usize % 2],
        race: [Some("x"), Some("y"), None][n as usize / 2 % 3],
        score: f64::from(n % 100) / 100.0,
        repaid: (!n.is_multiple_of(4)).then_some(n % 100 > 45),
    };
    (0..count).map(loan).collect()
}

fn class(repaid: bool) -> &'static str {
    if repaid { "yes" } else { "no" }
}

fn parquet(path: &Path, loans: &[Loan], group_rows: usize) {
    let times = loans.iter().map(|loan| loan.time.timestamp_micros());
    let vector = |loan: &Loan| Some([Some(loan.score as f32), Some(loan.term as f32)]);
    let vectors = ListArray::from_iter_primitive::<Float32Type, _, _>(loans.iter().map(vector));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(loans.iter().map(|loan| Some(&loan.id)).collect::<StringArray>())),
        ("at", Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))),
        ("income", Arc::new(loans.iter().map(|loan| loan.income).collect::<Float64Array>())),
        ("purpose", Arc::new(loans.iter().map(|loan| loan.purpose).collect::<StringArray>())),
        ("term", Arc::new(loans.iter().map(|loan| Some(loan.term)).collect::<Int64Array>())),
        ("sex", Arc::new(loans.iter().map(|loan| Some(loan.sex)).collect::<StringArray>())),
        ("race", Arc::new(loans.iter().map(|loan| loan.race).collect::<StringArray>())),
        ("score", Arc::new(loans.iter().map(|loan| Some(loan.score)).collect::<Float64Array>())),
        (
            "repaid",
            Arc::new(loans.iter().map(|loan| loan.repaid.map(class)).collect::<StringArray>()),
        ),
        ("vector", Arc::new(vectors)),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let properties =
        WriterProperties::builder().set_max_row_group_row_count(Some(group_rows)).build();
    let mut writer =
        ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties))
            .unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn csv(path: &Path, loans: &[Loan]) {
    let mut text = "purpose,id,at,income,term,sex,race,score,repaid\n".to_owned();
    for loan in loans {
        let income = loan.income.map_or(String::new(), |income| income.to_string());
        let repaid = loan.repaid.map_or("", class);
        text += &format!(
            "{},\"{}\",{},{income},{},{},{},{},{repaid}\r\n",
            loan.purpose.unwrap_or_default(),
            loan.id,
            loan.time.to_rfc3339(),
            loan.term,
            loan.sex,
            loan.race.unwrap_or_default(),
            loan.score,
        );
    }
    fs::write(path, text).unwrap();
}

fn json_lines(path: &Path, loans: &[Loan]) {
    let line = |loan: &Loan| {
        let line = json!({
            "id": loan.id, "at": loan.time, "income": loan.income, "purpose": loan.purpose,
            "term": loan.term, "sex": loan.sex, "race": loan.race, "score": loan.score,
            "repaid": loan.repaid.map(class),
        });
        line.to_string() + "\n"
    };
    fs::write(path, loans.iter().map(line).collect::<String>()).unwrap();
}

/// A folder with tables.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("loans")).unwrap();
        Self(root)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join("loans").join(name)
    }

    fn build(&self, settings: &Value) -> Result<Sources, String> {
        let mut registry = SourceRegistry::new("source");
        mloop_profiler::register_builtin(&mut registry);
        let clock = Arc::new(mloop_core::FixedClock(evening()));
        let deps = PlatformDeps::new(self.0.path().to_owned(), clock);
        registry.build("tables", "s", settings, &deps).map_err(|error| error.to_string())
    }

    /// The source with some settings changed; null takes one away.
    fn source(&self, changes: Value) -> Sources {
        let mut settings = json!({
            "path": "loans",
            "positive": "yes",
            "columns": {
                "time": "at", "id": "id", "score": "score", "label": "repaid",
                "groups": ["sex", "race"], "exclude": ["vector"],
            },
        });
        merge(&mut settings, changes);
        self.build(&settings).unwrap()
    }

    async fn reference(&self, changes: Value) -> Result<Reference, PlatformError> {
        self.source(changes).profiles.reference(&asked()).await
    }

    async fn profile(&self, changes: Value, schema: &ProfileSchema) -> Profile {
        let request = request(schema);
        self.source(changes).profiles.profile(&request).await.unwrap().profile
    }
}

fn merge(into: &mut Value, changes: Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (key, change) in changes {
                if change.is_null() {
                    into.remove(&key);
                } else {
                    merge(into.entry(key).or_insert(Value::Null), change);
                }
            }
        }
        (into, change) => *into = change,
    }
}

fn subject() -> Subject {
    Subject {
        model: ModelName::new("loans").unwrap(),
        target: TargetName::new("production").unwrap(),
    }
}

fn asked() -> SourceReference {
    SourceReference {
        subject: subject(),
        window: None,
        filed: window(),
        inherit: None,
        as_of: evening(),
    }
}

fn request(schema: &ProfileSchema) -> ProfileRequest {
    ProfileRequest {
        key: ProfileKey { subject: subject(), version: schema.digest() },
        others: [].into(),
        spans: vec![],
        schema: schema.clone(),
        window: window(),
        as_of: evening(),
    }
}

#[tokio::test]
async fn what_is_counted_is_settled_on_the_reference() {
    let disk = Disk::new();
    parquet(&disk.path("a.parquet"), &loans(1000), 300);
    let Reference { schema, profile } =
        disk.reference(json!({"columns": {"exclude": []}})).await.unwrap();
    let kind = |name: &str| match &schema.column(name).unwrap().kind {
        ColumnKind::Numeric(numeric) => format!("numeric, {} bins", numeric.bins()),
        ColumnKind::Categorical(known) => known.categories.join(" "),
        ColumnKind::Vector(vector) => format!("vectors of {}", vector.dimension),
    };
    let found: Vec<_> = schema.columns.iter().map(|c| (c.name.as_str(), kind(&c.name))).collect();
    let expected = [
        ("income", "numeric, 120 bins"),
        ("prediction", "no yes"),
        ("purpose", "car house"),
        ("score", "numeric, 199 bins"),
        // Five values, each with a bin of its own, and what lies between them.
        ("term", "numeric, 9 bins"),
        ("vector", "vectors of 2"),
    ];
    assert_eq!(found, expected.map(|(name, kind)| (name, kind.to_owned())));
    let groups: Vec<String> = schema.groups.iter().map(GroupSchema::name).collect();
    assert_eq!(groups, ["race", "race & sex", "sex"]);
    assert_eq!(
        (profile.rows, profile.overall.labelled_rows(), profile.quarantined),
        (1000, 750, 0)
    );
    assert_eq!(profile.groups[1].values.len(), 4);
    let ColumnCounts::Vector(vectors) = &profile.columns["vector"] else { panic!() };
    assert_eq!((vectors.rows, vectors.unfit), (1000, 0));
}

#[tokio::test]
async fn the_same_rows_are_the_same_profile_however_they_are_written() {
    let disk = Disk::new();
    let sent = loans(2000);
    parquet(&disk.path("a.parquet"), &sent, 700);
    let reference = disk.reference(json!({})).await.unwrap();
    let expected = reference.profile.digest();
    for partitions in [1, 2, 7] {
        let found = disk.profile(json!({"partitions": partitions}), &reference.schema).await;
        assert_eq!(found.digest(), expected, "{partitions} partitions");
    }
    let backwards: Vec<Loan> = sent.iter().rev().cloned().collect();
    fs::remove_file(disk.path("a.parquet")).unwrap();
    for (number, part) in backwards.chunks(333).enumerate() {
        parquet(&disk.path(&format!("{number}.parquet")), part, 100);
        csv(&disk.path(&format!("{number}.csv")), part);
        json_lines(&disk.path(&format!("{number}.jsonl")), part);
    }
    for format in ["parquet", "csv", "json_lines"] {
        let settings = json!({"format": format, "partitions": 3});
        let found = disk.profile(settings.clone(), &reference.schema).await;
        assert_eq!(found.digest(), expected, "{format}");
        // Kinds and bins come out the same, too, but for the order of rows that a sample is taken in.
        let again = disk.reference(settings).await.unwrap();
        assert_eq!(again.schema, reference.schema, "{format}");
    }
}

#[tokio::test]
async fn only_rows_of_the_window_count_and_each_id_once() {
    let disk = Disk::new();
    let mut sent = loans(100);
    sent[0].time = noon() - TimeDelta::microseconds(1);
    sent[1].time = noon() + TimeDelta::hours(1);
    sent.push(Loan { time: noon() + TimeDelta::minutes(30), ..sent[7].clone() });
    parquet(&disk.path("a.parquet"), &sent, 10);
    let schema = disk.reference(json!({})).await.unwrap().schema;
    let found = disk.profile(json!({}), &schema).await;
    assert_eq!((found.rows, found.duplicates), (98, 1));
    let without_ids = json!({"columns": {"id": null, "exclude": ["vector", "id"]}});
    let found = disk.profile(without_ids, &schema).await;
    assert_eq!((found.rows, found.duplicates), (99, 0));
}

#[tokio::test]
async fn labels_arrive_in_a_table_of_their_own() {
    let disk = Disk::new();
    let sent = loans(200);
    parquet(&disk.path("a.parquet"), &sent, 50);
    let expected = disk.reference(json!({})).await.unwrap();
    fs::create_dir(disk.0.path().join("truth")).unwrap();
    let mut text = "loan,outcome\n".to_owned();
    for loan in sent.iter().rev() {
        text += &format!("{},{}\n", loan.id, loan.repaid.map_or("", class));
    }
    // Of two labels the first that arrived counts, and one of nobody hides no other.
    text += "loan-5,no\nloan-5,yes\nsomebody,yes\n";
    fs::write(disk.0.path().join("truth/l.csv"), text).unwrap();
    let settings = json!({
        "columns": {"label": null, "exclude": ["vector", "repaid"]},
        "labels": {"path": "truth", "format": "csv", "id": "loan", "label": "outcome"},
    });
    let found = disk.profile(settings, &expected.schema).await;
    assert_eq!(found.overall, expected.profile.overall);
    assert_eq!(found.digest(), expected.profile.digest());
}

#[tokio::test]
async fn what_cannot_be_read_is_counted_and_hides_nothing() {
    let disk = Disk::new();
    json_lines(&disk.path("a.jsonl"), &loans(300));
    let text = json!({"format": "json_lines"});
    let schema = disk.reference(text.clone()).await.unwrap().schema;
    let mut bad = fs::read_to_string(disk.path("a.jsonl")).unwrap();
    bad += "{\"half\n[1, 2]\n";
    bad +=
        &json!({"id": "z", "at": noon(), "income": "a lot", "score": 0.5, "sex": "f"}).to_string();
    bad += "\n";
    // Without a score there is no prediction; without a time it is in no window.
    bad += &(json!({"id": "y", "at": noon(), "income": 5}).to_string() + "\n");
    bad += &(json!({"id": "x", "at": "yesterday", "income": 5, "score": 0.5}).to_string() + "\n");
    fs::write(disk.path("a.jsonl"), bad).unwrap();
    let found = disk.profile(text, &schema).await;
    assert_eq!((found.rows, found.quarantined), (301, 3));
    let ColumnCounts::Numeric(income) = &found.columns["income"] else { panic!() };
    assert_eq!(
        (income.non_finite, income.rows()),
        (1, 301),
        "text in a column of numbers is no gap"
    );
}

#[tokio::test]
async fn rows_are_told_apart_by_a_column_or_by_the_times_of_switches() {
    let disk = Disk::new();
    let sent = loans(100);
    let (own, other) = (Sha256Digest::of(b"own"), Sha256Digest::of(b"other"));
    let mut text = "id,at,score,version\n".to_owned();
    for (n, loan) in sent.iter().enumerate() {
        let version = [own, own, other, Sha256Digest::of(b"nobody")][n % 4];
        text += &format!(
            "{},{},{},{version}\n",
            loan.id,
            loan.time.timestamp_millis() as f64 / 1e3,
            loan.score
        );
    }
    fs::write(disk.path("a.csv"), text).unwrap();
    let settings = json!({
        "format": "csv", "classes": ["no", "yes"],
        "columns": {"label": null, "groups": [], "exclude": ["version"]},
    });
    let schema = disk.reference(settings.clone()).await.unwrap().schema;
    let at = |n: usize| sent[n].time;
    let spans = vec![
        ServedSpan { from: at(0) - TimeDelta::hours(1), until: Some(at(30)), version: other },
        ServedSpan { from: at(40), until: None, version: own },
    ];
    let request = ProfileRequest {
        key: ProfileKey { subject: subject(), version: own },
        others: [other].into(),
        spans,
        ..request(&schema)
    };
    let count = async |settings: Value| {
        let found = disk.source(settings).profiles.profile(&request).await.unwrap().profile;
        (found.rows, found.other_version, found.mixed)
    };
    assert_eq!(count(settings.clone()).await, (60, 30, 10));
    let mut by_column = settings;
    merge(&mut by_column, json!({"columns": {"version": "version"}}));
    assert_eq!(count(by_column).await, (50, 25, 25));
}

#[tokio::test]
async fn numbers_that_are_predicted_have_errors() {
    let disk = Disk::new();
    let mut text = "at,distance,predicted,actual\n".to_owned();
    for n in 0..400 {
        let actual = if n % 4 == 0 { String::new() } else { (n * 3).to_string() };
        text += &format!("{},{n},{},{actual}\n", noon().to_rfc3339(), n * 3 + n % 2 * 2);
    }
    fs::write(disk.path("a.csv"), text).unwrap();
    let settings = json!({
        "format": "csv", "positive": null,
        "columns": {"id": null, "score": null, "groups": [], "exclude": [],
                    "prediction": "predicted", "label": "actual"},
    });
    let Reference { schema, profile } = disk.reference(settings).await.unwrap();
    let step = schema.predicted_numbers().expect("numbers").step;
    let errors = profile.overall.errors;
    assert_eq!((errors.rows, errors.unlabelled, profile.quarantined), (300, 100, 0));
    // Every other row is 2 too high; of the labelled ones 200 of 300.
    assert!((errors.absolute.times(step) - 400.0).abs() < 1e-6);
    assert!((errors.squares.times(step * step) - 800.0).abs() < 1e-6);
}

#[tokio::test]
async fn a_table_that_does_not_fit_says_why() {
    let disk = Disk::new();
    parquet(&disk.path("a.parquet"), &loans(300), 100);
    for (changes, expected) in [
        (json!({"columns": {"score": "scoer"}}), "no column `scoer`; it has"),
        (json!({"columns": {"features": ["age"]}}), "no column `age`"),
        (json!({"positive": "maybe"}), "`positive` needs two classes"),
        (json!({"format": "csv"}), "there is no .csv file"),
    ] {
        let error = disk.reference(changes.clone()).await.err().map(|error| error.to_string());
        let error = error.unwrap_or_default();
        assert!(error.contains(expected), "{changes}: {error}");
    }
    let later = SourceReference {
        window: Some(Window::new(evening(), evening() + TimeDelta::hours(1)).unwrap()),
        ..asked()
    };
    let error = disk.source(json!({})).profiles.reference(&later).await.expect_err("no rows");
    assert!(error.to_string().contains("no row of the table has a time in the window"), "{error}");
    fs::write(disk.path("b.parquet"), b"PAR1 and no more").unwrap();
    let error = disk.source(json!({})).profiles.reference(&asked()).await.expect_err("damaged");
    assert!(error.to_string().contains("b.parquet"), "{error}");
}

#[test]
fn settings_are_checked_by_key() {
    let disk = Disk::new();
    for (settings, expected) in [
        (json!({"path": "loans"}), "missing field `columns`"),
        (json!({"path": "no", "columns": {"time": "t"}}), "there is no folder"),
        (json!({"path": "loans", "columns": {"time": "t", "tiem": "t"}}), "unknown field `tiem`"),
        (json!({"path": "loans", "columns": {"time": "t", "score": "s"}}), "name that class"),
        (json!({"path": "loans", "positive": "a", "columns": {"time": "t"}}), "name that column"),
        (
            json!({"path": "loans", "positive": "a", "classes": ["b", "c"],
                   "columns": {"time": "t", "score": "s"}}),
            "must be one of two `classes`",
        ),
        (
            json!({"path": "loans", "columns": {"time": "t"},
                   "labels": {"path": "loans", "id": "i", "label": "l"}}),
            "name that column",
        ),
        (
            json!({"path": "loans", "columns": {"time": "t", "features": ["prediction"]}}),
            "rename it",
        ),
    ] {
        let error = disk.build(&settings).err().expect(expected);
        assert!(error.contains(expected), "{error}");
    }
}

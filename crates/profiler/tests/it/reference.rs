//! References are counted as windows are, on bins that they freeze or inherit.

use std::collections::BTreeMap;

use mloop_core::Profile;
use mloop_core::schema::{ColumnKind, GroupSchema};
use mloop_platform::{PlatformError, ProfileBuilder as _, ProfileRow, ReferenceRequest};
use mloop_profiler::ReferenceBuilder;

use crate::fixture::{CLASSES, Disk, Shot, key, lines, noon, request, schema, shots, window};

fn row(shot: &Shot, label: Option<&str>) -> ProfileRow {
    ProfileRow {
        features: [("brightness".to_owned(), shot.brightness)].into(),
        prediction: CLASSES[shot.class].to_owned(),
        confidence: shot.confidence,
        probabilities: shot.probabilities(),
        label: label.map(str::to_owned),
        attributes: shot.attributes(),
        embedding: shot.embedding(),
    }
}

fn of(rows: Vec<ProfileRow>) -> ReferenceRequest {
    ReferenceRequest {
        key: key(),
        window: window(),
        inherit: None,
        classes: CLASSES.map(str::to_owned).into(),
        latency_objective_micros: Some(5_000),
        rows,
    }
}

#[tokio::test]
async fn a_reference_equals_the_profile_of_the_same_rows_captured() {
    let sent = shots(500);
    let label = |n: usize| (!n.is_multiple_of(3)).then(|| CLASSES[n % 2]);
    let rows = sent.iter().enumerate().map(|(n, shot)| row(shot, label(n))).collect();
    let reference = ReferenceBuilder::new().reference(&of(rows)).await.unwrap();

    let disk = Disk::new();
    disk.capture("a.jsonl", lines(&sent));
    let labels: Vec<_> = (0..500).filter_map(|n| Some((sent[n].id.as_str(), label(n)?))).collect();
    disk.labels(noon(), "l.jsonl", &labels);
    let mut request = request();
    request.schema = reference.schema.clone();
    let captured = disk.source().profiles.profile(&request).await.unwrap().profile;

    assert_eq!((captured.rows, captured.overall.labelled_rows()), (500, 333));
    // A data set has no latencies; everything else is equal, count for count.
    assert_eq!((captured.latency.count(), reference.profile.latency.count()), (500, 0));
    let expected = Profile { latency: captured.latency.clone(), ..reference.profile };
    assert_eq!(captured.digest(), expected.digest());
}

#[tokio::test]
async fn a_new_schema_has_a_column_for_each_feature_and_the_answer() {
    let rows: Vec<_> = shots(200).iter().map(|shot| row(shot, None)).collect();
    let reference = ReferenceBuilder::new().reference(&of(rows)).await.unwrap();
    let names: Vec<_> = reference.schema.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["brightness", "confidence", "embedding", "prediction"]);
    let ColumnKind::Numeric(brightness) = &reference.schema.columns[0].kind else { panic!() };
    // Thirteen values, 0.0 to 1.2, each with a bin of its own.
    assert_eq!((brightness.edges.len(), brightness.edges[24]), (26, 1.2));
    assert_eq!(reference.schema.groups, [GroupSchema::of("site", &["north", "south", "west"])]);
    assert_eq!(reference.schema.latency_objective_micros, Some(5_000));
    assert_eq!(reference.profile.schema, reference.schema.digest());
}

#[tokio::test]
async fn rare_groups_of_an_attribute_with_many_count_as_other() {
    let rows: Vec<_> = (0..120)
        .map(|n| {
            let mut row = row(&shots(1)[0], None);
            row.attributes = BTreeMap::from([("camera".to_owned(), format!("c{:02}", n % 60))]);
            row
        })
        .collect();
    let profile = ReferenceBuilder::new().reference(&of(rows)).await.unwrap().profile;
    let cameras = &profile.groups[0];
    let others = cameras.other.as_ref().map(|others| others.confusion.rows());
    assert_eq!((cameras.values.len(), others), (50, Some(20)));
}

#[tokio::test]
async fn an_inherited_schema_is_kept_as_it_is() {
    let mut request = of(shots(50).iter().map(|shot| row(shot, None)).collect());
    request.inherit = Some(schema());
    let reference = ReferenceBuilder::new().reference(&request).await.unwrap();
    assert_eq!((reference.schema, reference.profile.rows), (schema(), 50));
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_the_way_out() {
    let good = of(shots(5).iter().map(|shot| row(shot, None)).collect());
    let mut inherited = good.clone();
    inherited.inherit = Some(schema());
    let changed = |from: &ReferenceRequest, change: fn(&mut ReferenceRequest)| {
        let mut request = from.clone();
        change(&mut request);
        request
    };
    let cases = [
        (changed(&good, |r| r.rows.clear()), "no rows"),
        (changed(&good, |r| r.rows[2].prediction = "hat".into()), "the prediction `hat` of row 3"),
        (changed(&good, |r| r.rows[4].label = Some("hat".into())), "the label `hat` of row 5"),
        (changed(&good, |r| r.rows[0].features.extend([("confidence".into(), 1.0)])), "rename"),
        (changed(&inherited, |r| r.classes.swap(0, 1)), "boot, bag, shirt; set `rebin: true`"),
        (changed(&inherited, |r| r.classes.push("hat".into())), "the model bag, boot, shirt, hat"),
        (
            changed(&inherited, |r| r.rows.iter_mut().for_each(|row| row.features.clear())),
            "brightness (missing); set `rebin: true`",
        ),
        (
            changed(&inherited, |r| r.rows[0].features.extend([("blur".into(), 1.0)])),
            "blur (new); set `rebin: true`",
        ),
    ];
    for (request, expected) in cases {
        let error = ReferenceBuilder::new().reference(&request).await.unwrap_err();
        assert!(matches!(error, PlatformError::Invalid { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

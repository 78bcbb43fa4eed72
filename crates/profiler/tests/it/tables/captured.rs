//! SageMaker's captured traffic and ground truth.

use super::*;

#[tokio::test]
async fn captured_requests_and_ground_truth_are_the_same_rows_again() {
    let disk = Disk::new();
    let sent = loans(300);
    parquet(&disk.path("a.parquet"), &sent, 50);
    let expected = disk.reference(json!({})).await.unwrap();
    fs::create_dir(disk.0.path().join("truth")).unwrap();
    let (mut captured, mut truth) = (String::new(), String::new());
    for (n, loan) in sent.iter().enumerate() {
        let fields = json!({
            "income": loan.income, "purpose": loan.purpose, "term": loan.term, "sex": loan.sex, "race": loan.race,
        });
        let text = |name: &str| match &fields[name] {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        let (encoding, input) = match n % 2 {
            0 => ("JSON", fields.to_string()),
            _ => ("CSV", ["income", "purpose", "term", "sex", "race"].map(text).join(",")),
        };
        let line = json!({
            "captureData": {
                "endpointInput": {"mode": "INPUT", "encoding": encoding, "data": input},
                "endpointOutput": {"mode": "OUTPUT", "encoding": "CSV", "data": loan.score.to_string()},
            },
            "eventMetadata": {"eventId": format!("e{n}"), "inferenceId": loan.id, "inferenceTime": loan.time},
            "eventVersion": "0",
        });
        captured += &(line.to_string() + "\n");
        if let Some(repaid) = loan.repaid {
            let line = json!({
                "groundTruthData": {"data": class(repaid), "encoding": "CSV"},
                "eventMetadata": {"eventId": loan.id},
                "eventVersion": "0",
            });
            truth += &(line.to_string() + "\n");
        }
    }
    // A line that was cut off is counted, and hides no other.
    captured += "{\"captureData\": {";
    fs::write(disk.path("c.jsonl"), captured).unwrap();
    fs::write(disk.0.path().join("truth/t.jsonl"), truth).unwrap();
    let settings = json!({
        "format": "captured",
        "captured": {"input": ["income", "purpose", "term", "sex", "race"], "output": ["score"]},
        "columns": {"time": "inference_time", "id": "inference_id", "label": null},
        "labels": {"path": "truth", "format": "ground_truth", "id": "event_id", "label": "label"},
    });
    let mut found = disk.profile(settings, &expected.schema).await;
    assert_eq!(std::mem::take(&mut found.quarantined), 1);
    assert_eq!(found.digest(), expected.profile.digest());
}

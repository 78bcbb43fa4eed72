//! SageMaker's ground-truth lines as columns of text.

use mloop_core::capture::GroundTruth;

use super::fields::Fields;
use crate::scan::Unreadable;

/// The request that a label is of, and the label.
pub(crate) const COLUMNS: [&str; 2] = ["event_id", "label"];

/// The row of a ground-truth line.
pub(super) fn row(line: &str) -> Result<Fields, Unreadable> {
    let record = GroundTruth::parse(line)?;
    let class = record.class().filter(|class| !class.is_empty());
    let class = class.ok_or_else(|| {
        Unreadable::new("the label is neither bare (CSV) nor {\"label\": …} (JSON)")
    })?;
    let values = [record.event_metadata.event_id, class];
    Ok(COLUMNS.map(str::to_owned).into_iter().zip(values).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn line(encoding: &str, data: &str) -> String {
        let line: Value = json!({
            "groundTruthData": {"data": data, "encoding": encoding},
            "eventMetadata": {"eventId": "loan-7"},
            "eventVersion": "0",
        });
        line.to_string()
    }

    #[test]
    fn a_label_is_found_under_its_request_and_what_is_none_is_unreadable() {
        for (encoding, data, expected) in [
            ("CSV", "paid", Some("paid")),
            ("JSON", r#"{"label": "paid"}"#, Some("paid")),
            ("CSV", "", None),
            ("JSON", r#"{"other": "paid"}"#, None),
        ] {
            let found = row(&line(encoding, data)).ok();
            let expected = expected.map(|label| {
                COLUMNS
                    .map(str::to_owned)
                    .into_iter()
                    .zip(["loan-7", label].map(str::to_owned))
                    .collect()
            });
            assert_eq!(found, expected, "{encoding} {data}");
        }
        assert!(row("{").is_err());
    }
}

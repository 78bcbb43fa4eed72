//! Reference profiles, counted by the same plan as windows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::error::ArrowError;
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use mloop_core::schema::{CONFIDENCE_COLUMN, EMBEDDING_COLUMN, PREDICTION_COLUMN, SCORE_COLUMN};
use mloop_core::{Profile, ProfileSchema};
use mloop_platform::{PlatformError, ProfileBuilder, ProfileRow, Reference, ReferenceRequest};

use crate::bins;
use crate::count::Counter;
use crate::engine::{self, Engine};
use crate::labels::LabelBatch;
use crate::rows::{BATCH_ROWS, Layout, Origin, Row, RowBuilder};
use crate::settings::{MEMORY_MB, partitions};

/// Makes reference profiles in this process.
#[derive(Debug, Clone)]
pub struct ReferenceBuilder {
    engine: Engine,
}

impl ReferenceBuilder {
    /// With the defaults of the kind `capture_files`; starts nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self { engine: Engine { partitions: partitions(None), memory_mb: MEMORY_MB.get() } }
    }
}

impl Default for ReferenceBuilder {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl ProfileBuilder for ReferenceBuilder {
    async fn reference(&self, request: &ReferenceRequest) -> Result<Reference, PlatformError> {
        let subject = &request.key.subject;
        let doing = format!("making a reference profile of {subject}");
        let invalid = |problem| PlatformError::invalid(&doing, problem);
        check_rows(request).map_err(invalid)?;
        let schema = match &request.inherit {
            Some(schema) => {
                check_inherited(schema, request).map_err(invalid)?;
                schema.clone()
            }
            None => bins::schema(request),
        };
        schema.validate().map_err(|error| invalid(error.to_string()))?;
        let counted = self.count(&schema, request).await;
        let profile = counted.map_err(|error| engine::failure(&doing, error))?;
        Ok(Reference { schema, profile })
    }
}

impl ReferenceBuilder {
    async fn count(
        &self,
        schema: &ProfileSchema,
        request: &ReferenceRequest,
    ) -> Result<Profile, DataFusionError> {
        let counter = Counter::new(schema, request.key.clone(), request.window);
        let captured = Arc::new(captured_table(&Layout::of(schema), &request.rows)?);
        let labels = Arc::new(label_table(&request.rows)?);
        let session = self.engine.session()?;
        let labels = session.read_table(labels)?;
        let rows = engine::labelled(session.read_table(captured)?, Some(labels))?;
        engine::count(rows, &Arc::new(counter)).await
    }
}

/// The rows as the table that a scan of capture files would make of them.
fn captured_table(layout: &Layout, rows: &[ProfileRow]) -> Result<MemTable, DataFusionError> {
    let chunks = (0u64..).step_by(BATCH_ROWS).zip(rows.chunks(BATCH_ROWS));
    let batches: Result<Vec<_>, _> =
        chunks.map(|(first, rows)| captured(layout, first, rows)).collect();
    MemTable::try_new(layout.arrow(), vec![batches?])
}

/// Their labels as the table that a scan of label files would make of them.
fn label_table(rows: &[ProfileRow]) -> Result<MemTable, DataFusionError> {
    let labelled = (0u64..).zip(rows).filter_map(|(number, row)| {
        row.label.as_deref().map(|label| (number, number.to_string(), label))
    });
    let labels = LabelBatch::of(labelled)?;
    MemTable::try_new(labels.schema(), vec![vec![labels]])
}

fn captured(layout: &Layout, first: u64, rows: &[ProfileRow]) -> Result<RecordBatch, ArrowError> {
    let mut builder = RowBuilder::new(layout);
    for (number, row) in (first..).zip(rows) {
        builder.push(&Row {
            id: &number.to_string(),
            time: 0,
            position: number,
            origin: Origin::Own,
            prediction: &row.prediction,
            score: Some(row.confidence),
            probabilities: &row.probabilities,
            latency: None,
            size: 0,
            features: &row.features,
            attributes: &row.attributes,
            embedding: &row.embedding,
        });
    }
    builder.finish()
}

fn check_rows(request: &ReferenceRequest) -> Result<(), String> {
    if request.rows.is_empty() {
        return Err("there are no rows to make it of; give it a data set or a window of traffic that holds some".to_owned());
    }
    let known: BTreeSet<&str> = request.classes.iter().map(String::as_str).collect();
    for (number, row) in (1..).zip(&request.rows) {
        for (what, class) in [("prediction", Some(&row.prediction)), ("label", row.label.as_ref())]
        {
            if let Some(class) = class.filter(|class| !known.contains(class.as_str())) {
                return Err(format!(
                    "the {what} `{class}` of row {number} is none of the model's classes: {}",
                    request.classes.join(", ")
                ));
            }
        }
    }
    let features = bins::features(&request.rows);
    for name in [CONFIDENCE_COLUMN, EMBEDDING_COLUMN, PREDICTION_COLUMN, SCORE_COLUMN] {
        if features.contains(name) {
            return Err(format!(
                "a feature is called `{name}`, which every profile has a column of its own for; rename it"
            ));
        }
    }
    Ok(())
}

fn check_inherited(schema: &ProfileSchema, request: &ReferenceRequest) -> Result<(), String> {
    let way_out = "set `rebin: true` to freeze new bins";
    let model = &request.key.subject.model;
    if schema.model != *model {
        return Err(format!(
            "the inherited schema is of the model `{}`, not of `{model}`; {way_out}",
            schema.model
        ));
    }
    if schema.classes != request.classes {
        return Err(format!(
            "the inherited schema has the classes {}, the model {}; {way_out}",
            schema.classes.join(", "),
            request.classes.join(", ")
        ));
    }
    let layout = Layout::of(schema);
    let inherited: BTreeSet<&str> = layout.features.iter().map(String::as_str).collect();
    let found = bins::features(&request.rows);
    let differing: BTreeMap<_, _> = inherited
        .symmetric_difference(&found)
        .map(|name| (*name, if found.contains(name) { "new" } else { "missing" }))
        .collect();
    if !differing.is_empty() {
        let list: Vec<_> = differing.iter().map(|(name, how)| format!("{name} ({how})")).collect();
        return Err(format!(
            "the rows do not fit the columns of the inherited schema: {}; {way_out}",
            list.join(", ")
        ));
    }
    if schema.latency_objective_micros != request.latency_objective_micros {
        tracing::warn!(
            "the latency objective of the inherited schema stays as it is; {way_out} and the new objective"
        );
    }
    Ok(())
}

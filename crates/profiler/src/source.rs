//! Capture and label files, as profiles and as rows to learn from.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use datafusion::catalog::TableProvider;
use datafusion::error::DataFusionError;
use datafusion::prelude::DataFrame;
use mloop_core::capture::hour_folder;
use mloop_core::profile::{InputFile, StoredProfile};
use mloop_core::{ProfileSchema, Subject, Window};
use mloop_platform::{
    LabelledTraffic, PlatformError, ProfileRequest, ProfileSource, Reference, SourceReference,
    TrafficLimit, TrafficSource,
};

use crate::captured::CaptureDecoder;
use crate::count::Counter;
use crate::engine::{self, Engine};
use crate::files::{Hours, Root, SourceFile, Which, blocking};
use crate::labelled;
use crate::labels::LabelDecoder;
use crate::scan::{self, Quarantine, Reading};
use crate::settings::CaptureFilesSettings;

/// Captured traffic and labels of one endpoint, as files on a local disk or in S3.
pub struct CaptureFiles {
    root: Root,
    /// Folder of the endpoint's variant, below the root.
    traffic: String,
    labels: Option<Root>,
    max_files: usize,
    max_line_bytes: usize,
    engine: Engine,
}

/// The files of one look.
pub(crate) struct Listing {
    pub(crate) captured: Vec<SourceFile>,
    /// None when there is no labels folder in the settings.
    pub(crate) labels: Option<Vec<SourceFile>>,
}

impl CaptureFiles {
    /// Nothing is read, nobody connected to, and no engine started, before the first question.
    pub(crate) fn new(settings: &CaptureFilesSettings, root: Root, labels: Option<Root>) -> Self {
        Self {
            root,
            traffic: format!("{}/{}", settings.endpoint, settings.variant),
            labels,
            max_files: settings.max_files.get(),
            max_line_bytes: settings.max_line_bytes.get(),
            engine: settings.engine(),
        }
    }

    /// Lists the window's capture files, and the label files that arrived from its start up to
    /// `as_of`.
    async fn list(&self, window: &Window, as_of: DateTime<Utc>) -> Result<Listing, PlatformError> {
        let max = self.max_files;
        let captured =
            self.root.list("capture", Which::lines(&self.traffic, Hours::of(window)), max);
        let captured = captured.await?;
        let labels = match &self.labels {
            Some(root) => {
                let hours = Hours::between(window.start(), as_of);
                Some(root.list("label", Which::lines("", hours), max).await?)
            }
            None => None,
        };
        Ok(Listing { captured, labels })
    }

    fn reading(&self, as_of: DateTime<Utc>) -> Reading {
        let quarantine = Arc::new(Quarantine::default());
        Reading { max_line_bytes: self.max_line_bytes, as_of, quarantine }
    }

    /// The plan of the files' rows with their labels, copies told apart.
    fn rows(
        &self,
        files: &Listing,
        decoder: CaptureDecoder,
        reading: &Reading,
    ) -> Result<DataFrame, DataFusionError> {
        let partitions = self.engine.partitions;
        let captured =
            scan::table(&files.captured, &(Arc::new(decoder) as _), reading, partitions)?;
        let labels = files.labels.as_ref().map(|labels| {
            scan::table(labels, &(Arc::new(LabelDecoder::new()) as _), reading, partitions)
        });
        let labels = labels.transpose()?.map(|table| table as Arc<dyn TableProvider>);
        let session = self.engine.session()?;
        let labels = labels.map(|labels| session.read_table(labels)).transpose()?;
        engine::labelled(session.read_table(captured)?, labels)
    }
}

#[async_trait]
impl ProfileSource for CaptureFiles {
    async fn profile(&self, request: &ProfileRequest) -> Result<StoredProfile, PlatformError> {
        let ProfileRequest { key, schema, window, as_of, .. } = request;
        let doing = format!("counting the window {window} of {}", key.subject);
        check_schema(&doing, schema, &key.subject)?;
        let files = self.list(window, *as_of).await?;
        let reading = self.reading(*as_of);
        let counter = Arc::new(Counter::new(schema, key.clone(), *window));
        let decoder = CaptureDecoder::answers(request);
        let rows = self.rows(&files, decoder, &reading);
        let rows = rows.map_err(|error| engine::failure(&doing, error))?;
        let counted = engine::count(rows, &counter).await;
        let mut profile = counted.map_err(|error| engine::failure(&doing, error))?;
        reading.quarantine.summarise();
        profile.quarantined += reading.quarantine.count();
        Ok(StoredProfile { profile, as_of: *as_of, inputs: inputs(&files) })
    }

    async fn reference(&self, request: &SourceReference) -> Result<Reference, PlatformError> {
        let problem = "captured answers of mloop's own server have the reference that came with their version; \
                       references are made of `tables`";
        Err(PlatformError::invalid(format!("making a reference of {}", request.subject), problem))
    }

    async fn probe(&self, as_of: DateTime<Utc>) -> Result<(), PlatformError> {
        let last_hour = Window::new(as_of - TimeDelta::hours(1), as_of);
        let last_hour = last_hour
            .map_err(|error| PlatformError::invalid("looking at traffic", error.to_string()))?;
        self.list(&last_hour, as_of).await.map(drop)
    }
}

#[async_trait]
impl TrafficSource for CaptureFiles {
    async fn labelled(
        &self,
        window: &Window,
        as_of: DateTime<Utc>,
        limit: TrafficLimit,
    ) -> Result<LabelledTraffic, PlatformError> {
        let doing = format!("reading the labelled rows of the window {window}");
        let mut files = self.list(window, as_of).await?;
        if let Some(labels) = &mut files.labels {
            labels.retain(|file| arrived_by(file, as_of));
        }
        let reading = self.reading(as_of);
        let rows = self.rows(&files, CaptureDecoder::requests(*window), &reading);
        let rows = rows.map_err(|error| engine::failure(&doing, error))?;
        let newest = labelled::newest(rows, limit).await;
        let newest = newest.map_err(|error| engine::failure(&doing, error))?;
        reading.quarantine.summarise();
        let (unlabelled, over_limit) = (newest.unlabelled, newest.over_limit);
        let max = self.max_line_bytes;
        let rows = blocking("reading requests", move || newest.read(&files.captured, max)).await?;
        let quarantined = reading.quarantine.count();
        Ok(LabelledTraffic { rows, unlabelled, quarantined, over_limit })
    }
}

/// A schema that rows of this subject can be counted under.
pub(crate) fn check_schema(
    doing: &str,
    schema: &ProfileSchema,
    subject: &Subject,
) -> Result<(), PlatformError> {
    schema.validate().map_err(|error| PlatformError::invalid(doing, error.to_string()))?;
    if schema.model != subject.model {
        let problem = format!(
            "the reference is of the model `{}`, not of `{}`; take the one that came with the version",
            schema.model, subject.model
        );
        return Err(PlatformError::invalid(doing, problem));
    }
    Ok(())
}

/// Whether a listed label file is among what had arrived by a moment: that of an hour that had
/// ended is; in the moment's own hour, which files are still added to, the last write decides.
fn arrived_by(file: &SourceFile, as_of: DateTime<Utc>) -> bool {
    !file.name.starts_with(&hour_folder(as_of)) || file.modified <= as_of
}

/// Files of both kinds, sorted; label files are told apart by a leading `labels/`.
fn inputs(files: &Listing) -> Vec<InputFile> {
    let captured = files.captured.iter().map(SourceFile::input);
    let labels = files.labels.iter().flatten().map(SourceFile::input);
    let labels = labels.map(|file| InputFile { path: format!("labels/{}", file.path), ..file });
    let mut inputs: Vec<_> = captured.chain(labels).collect();
    inputs.sort_unstable();
    inputs
}

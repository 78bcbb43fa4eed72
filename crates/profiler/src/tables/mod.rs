//! Tables of predictions: windows of them, and references.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::prelude::DataFrame;
use mloop_core::profile::{InputFile, StoredProfile};
use mloop_core::{Profile, Window};
use mloop_platform::{
    LabelledTraffic, PlatformError, ProfileRequest, ProfileSource, Reference, SourceReference,
    TrafficLimit, TrafficSource,
};

use crate::count::Counter;
use crate::engine::{self, Engine};
use crate::files::{Hours, Root, SourceFile, Which, blocking};
use crate::rows::Layout;
use crate::scan::{Quarantine, Reading};
use crate::settings::partitions;
use crate::tables::parquet::Wanted;
use crate::tables::plan::{WhoAnswered, Wish, bounds};

mod captured;
mod fields;
mod freeze;
mod ground_truth;
mod parquet;
mod plan;
mod sample;
mod scan;
mod settings;
mod text;

pub use captured::CapturedColumns;
pub use settings::{Columns, Format, LabelTable, TablesSettings};

/// Rows of predictions, as tables in files.
pub struct Tables {
    settings: TablesSettings,
    root: Root,
    labels: Option<Root>,
    engine: Engine,
}

/// The files of one look, with the columns that they have.
struct Found {
    files: Vec<SourceFile>,
    columns: SchemaRef,
}

impl Tables {
    /// Nothing is read, and no engine started, before the first question.
    pub(crate) fn new(settings: TablesSettings, root: Root, labels: Option<Root>) -> Self {
        Self {
            root,
            labels,
            engine: Engine {
                partitions: partitions(settings.partitions),
                memory_mb: settings.memory_mb.get(),
            },
            settings,
        }
    }

    /// The files that may hold rows of a window, all of them without one.
    async fn files(
        &self,
        window: Option<Window>,
        reading: &Reading,
    ) -> Result<Option<Found>, PlatformError> {
        let hours = window.filter(|_| self.settings.hourly).map(|window| Hours::of(&window));
        found("table", &self.root, hours, self.settings.format, self, reading).await
    }

    /// The files of labels that arrived from a window's start up to a moment.
    async fn label_files(
        &self,
        window: &Window,
        as_of: DateTime<Utc>,
        reading: &Reading,
    ) -> Result<Option<Found>, PlatformError> {
        let (Some(root), Some(settings)) = (&self.labels, &self.settings.labels) else {
            return Ok(None);
        };
        let hours = settings.hourly.then(|| Hours::between(window.start(), as_of));
        found("label", root, hours, settings.format, self, reading).await
    }

    fn reading(&self, as_of: DateTime<Utc>) -> Reading {
        let max_line_bytes = self.settings.max_line_bytes.get();
        Reading { max_line_bytes, as_of, quarantine: Arc::new(Quarantine::default()) }
    }

    /// Counts rows under a schema.
    async fn count(
        &self,
        counter: Counter,
        rows: DataFrame,
        labels: Option<DataFrame>,
        reading: &Reading,
    ) -> Result<Profile, DataFusionError> {
        let rows = match (&self.settings.columns.id, labels) {
            (Some(_), labels) => engine::labelled(rows, labels)?,
            (None, _) => engine::all_first(rows)?,
        };
        let mut profile = engine::count(rows, &Arc::new(counter)).await?;
        reading.quarantine.summarise();
        profile.quarantined += reading.quarantine.count();
        Ok(profile)
    }

    /// The table of the files' columns that are needed.
    fn table(
        &self,
        found: &Found,
        needed: Vec<String>,
        span: Option<[i64; 2]>,
        reading: &Reading,
    ) -> Result<DataFrame, DataFusionError> {
        self.table_in(self.engine.partitions, found, needed, span, reading)
    }

    /// The same, read in so many parts.
    fn table_in(
        &self,
        parts: usize,
        found: &Found,
        needed: Vec<String>,
        span: Option<[i64; 2]>,
        reading: &Reading,
    ) -> Result<DataFrame, DataFusionError> {
        let wanted = Wanted {
            columns: needed.into(),
            span: span.map(|span| (self.settings.columns.time.clone(), span)),
        };
        let (format, named) = (self.settings.format, &self.settings.captured);
        let table =
            scan::table(format, named, &found.files, &found.columns, &wanted, reading, parts)?;
        self.engine.session()?.read_table(table)
    }

    async fn labels(
        &self,
        found: Option<&Found>,
        numbers: bool,
        reading: &Reading,
    ) -> Result<Option<DataFrame>, DataFusionError> {
        let (Some(settings), Some(found)) = (&self.settings.labels, found) else { return Ok(None) };
        let columns = [settings.id.clone(), settings.label.clone()].into();
        let wanted = Wanted { columns, span: None };
        let (format, parts) = (settings.format, self.engine.partitions);
        let named = &self.settings.captured;
        let table =
            scan::table(format, named, &found.files, &found.columns, &wanted, reading, parts)?;
        let table = self.engine.session()?.read_table(table)?;
        plan::labels(table, &found.columns, &settings.id, &settings.label, numbers).map(Some)
    }

    /// Names of the columns that are read for a layout.
    fn needed(&self, layout: &Layout) -> Vec<String> {
        let own = layout.features.iter().chain(&layout.attributes).chain(&layout.vectors);
        let mut needed: Vec<String> = self.settings.columns.single().chain(own).cloned().collect();
        needed.sort_unstable();
        needed.dedup();
        needed
    }

    async fn window(
        &self,
        request: &ProfileRequest,
        found: &Found,
        labels: Option<&Found>,
        reading: &Reading,
    ) -> Result<Profile, DataFusionError> {
        let ProfileRequest { key, schema, others, spans, window, .. } = request;
        let (layout, version) = (Layout::of(schema), &key.version);
        let origin = WhoAnswered::Asked { version, others, spans };
        let wish = Wish::new(&self.settings, &found.columns, &layout, schema, origin);
        let table = self.table(found, self.needed(&layout), Some(bounds(window)), reading)?;
        let rows = wish.rows(table, Some(window))?;
        let labels = self.labels(labels, wish.numbers, reading).await?;
        self.count(Counter::new(schema, key.clone(), *window), rows, labels, reading).await
    }
}

/// Files below a root with their columns; none when there is no file.
async fn found(
    what: &'static str,
    root: &Root,
    hours: Option<Hours>,
    format: Format,
    tables: &Tables,
    reading: &Reading,
) -> Result<Option<Found>, PlatformError> {
    let which = Which { folder: String::new(), hours, suffix: format.suffix() };
    let files = root.list(what, which, tables.settings.max_files.get()).await?;
    let Some(first) = files.first().cloned() else {
        tracing::warn!("there is no {} file for the window below {root}", format.suffix());
        return Ok(None);
    };
    let (reading, named) = (reading.clone(), tables.settings.captured.clone());
    let columns = blocking("reading the columns of a table", move || {
        scan::columns(format, &named, &first, &reading)
            .map_err(|error| engine::failure("reading the columns of a table", error))
    });
    Ok(Some(Found { files, columns: columns.await? }))
}

#[async_trait]
impl ProfileSource for Tables {
    async fn profile(&self, request: &ProfileRequest) -> Result<StoredProfile, PlatformError> {
        let ProfileRequest { key, schema, window, as_of, .. } = request;
        let doing = format!("counting the window {window} of {}", key.subject);
        crate::source::check_schema(&doing, schema, &key.subject)?;
        let reading = self.reading(*as_of);
        let found = self.files(Some(*window), &reading).await?;
        let labels = self.label_files(window, *as_of, &reading).await?;
        let profile = match &found {
            None => Profile::new(schema, key.clone(), *window),
            Some(found) => {
                let counted = self.window(request, found, labels.as_ref(), &reading).await;
                counted.map_err(|error| engine::failure(&doing, error))?
            }
        };
        let labels = labels.iter().flat_map(|found| &found.files).map(SourceFile::input);
        let labels = labels.map(|file| InputFile { path: format!("labels/{}", file.path), ..file });
        let mut inputs: Vec<InputFile> =
            found.iter().flat_map(|found| &found.files).map(SourceFile::input).collect();
        inputs.extend(labels);
        inputs.sort_unstable();
        Ok(StoredProfile { profile, as_of: *as_of, inputs })
    }

    async fn reference(&self, request: &SourceReference) -> Result<Reference, PlatformError> {
        let doing = format!("making a reference of {}", request.subject);
        let reading = self.reading(request.as_of);
        let Some(found) = self.files(request.window, &reading).await? else {
            let problem =
                format!("there is no {} file to make it of", self.settings.format.suffix());
            return Err(PlatformError::invalid(doing, problem));
        };
        let labels = match (&request.window, &self.labels) {
            (Some(window), _) => self.label_files(window, request.as_of, &reading).await?,
            (None, None) => None,
            (None, Some(root)) => {
                let format =
                    self.settings.labels.as_ref().map_or(Format::default(), |one| one.format);
                self::found("label", root, None, format, self, &reading).await?
            }
        };
        self.freeze(request, &found, labels.as_ref(), &reading)
            .await
            .map_err(|error| freeze::failure(&doing, error))
    }

    async fn probe(&self, as_of: DateTime<Utc>) -> Result<(), PlatformError> {
        self.files(None, &self.reading(as_of)).await.map(drop)
    }
}

/// Tables hold predictions and no requests.
#[async_trait]
impl TrafficSource for Tables {
    async fn labelled(
        &self,
        window: &Window,
        _as_of: DateTime<Utc>,
        _limit: TrafficLimit,
    ) -> Result<LabelledTraffic, PlatformError> {
        let problem = "a table holds predictions and no requests that can be learnt from; train on captured traffic";
        Err(PlatformError::invalid(format!("reading the labelled requests of {window}"), problem))
    }
}

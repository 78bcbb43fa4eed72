//! Captured traffic that is given and not read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use mloop_core::counts::{Category, Group};
use mloop_core::profile::{ColumnCounts, ProfileKey, StoredProfile};
use mloop_core::schema::{
    CONFIDENCE_COLUMN, CategoricalSchema, ColumnKind, ColumnSchema, GroupSchema, NumericSchema,
    PREDICTION_COLUMN, PROFILE_FORMAT,
};
use mloop_core::{Profile, ProfileSchema, Sha256Digest, Window};

use super::lock;
use crate::{
    LabelledRow, LabelledTraffic, PlatformError, ProfileBuilder, ProfileRequest, ProfileRow,
    ProfileSource, Reference, ReferenceRequest, SourceReference, Sources, TrafficLimit,
    TrafficSource,
};

/// Edges of every numeric column of a new schema: coarse, but good for confidences and for the
/// small numbers of tests.
const EDGES: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];

/// Answers from what it was given: predictions by window, and labelled rows. Counts them itself,
/// by the bins of whoever asks.
#[derive(Default)]
pub struct FixedSources {
    windows: Mutex<BTreeMap<Window, Vec<ProfileRow>>>,
    /// Rows, each with the moment its label arrived.
    labelled: Mutex<Vec<(DateTime<Utc>, LabelledRow)>>,
}

impl FixedSources {
    /// No traffic at all.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Gives the predictions of a window, in place of what it had.
    pub fn set_window(&self, window: Window, rows: Vec<ProfileRow>) {
        lock(&self.windows).insert(window, rows);
    }

    /// Adds rows whose labels were always there.
    pub fn add_labelled(&self, rows: impl IntoIterator<Item = LabelledRow>) {
        self.add_labelled_at(DateTime::<Utc>::MIN_UTC, rows);
    }

    /// Adds rows whose labels arrived at a moment.
    pub fn add_labelled_at(
        &self,
        arrived: DateTime<Utc>,
        rows: impl IntoIterator<Item = LabelledRow>,
    ) {
        let mut labelled = lock(&self.labelled);
        labelled.extend(rows.into_iter().map(|row| (arrived, row)));
        labelled.sort_by(|(_, a), (_, b)| (a.time, &a.id).cmp(&(b.time, &b.id)));
    }

    /// Both views of the traffic.
    #[must_use]
    pub fn sources(self: &Arc<Self>) -> Sources {
        Sources { profiles: self.clone(), traffic: self.clone() }
    }
}

#[async_trait]
impl ProfileSource for FixedSources {
    async fn profile(&self, request: &ProfileRequest) -> Result<StoredProfile, PlatformError> {
        let mut profile = Profile::new(&request.schema, request.key.clone(), request.window);
        for row in lock(&self.windows).get(&request.window).into_iter().flatten() {
            count(&request.schema, &mut profile, row);
        }
        Ok(StoredProfile { profile, as_of: request.as_of, inputs: vec![] })
    }

    async fn reference(&self, request: &SourceReference) -> Result<Reference, PlatformError> {
        let windows = lock(&self.windows).clone();
        let wanted = |window: &Window| request.window.is_none_or(|asked| asked == *window);
        let rows = windows.into_iter().filter(|(window, _)| wanted(window));
        let rows: Vec<ProfileRow> = rows.flat_map(|(_, rows)| rows).collect();
        let classes: BTreeSet<&String> = rows.iter().map(|row| &row.prediction).collect();
        let classes = classes.into_iter().cloned().collect();
        let version = Sha256Digest::of(b"a model of somebody else's");
        let made = ReferenceRequest {
            key: ProfileKey { subject: request.subject.clone(), version },
            window: request.filed,
            inherit: request.inherit.clone(),
            classes,
            latency_objective_micros: None,
            rows,
        };
        ProfileBuilder::reference(self, &made).await
    }

    async fn probe(&self, _as_of: DateTime<Utc>) -> Result<(), PlatformError> {
        Ok(())
    }
}

#[async_trait]
impl TrafficSource for FixedSources {
    async fn labelled(
        &self,
        window: &Window,
        as_of: DateTime<Utc>,
        limit: TrafficLimit,
    ) -> Result<LabelledTraffic, PlatformError> {
        let labelled = lock(&self.labelled);
        let inside = labelled.iter().filter(|(_, row)| window.contains(row.time));
        let (known, late): (Vec<_>, Vec<_>) = inside.partition(|(arrived, _)| *arrived <= as_of);
        let mut rows: Vec<_> = known.into_iter().map(|(_, row)| row.clone()).collect();
        let mut left = limit.bytes;
        let fits = |row: &&LabelledRow| {
            let rest = left.checked_sub(row.body.len() as u64);
            rest.is_some_and(|rest| {
                left = rest;
                true
            })
        };
        let kept = rows.iter().rev().take(limit.rows).take_while(fits).count();
        let over = rows.len() - kept;
        rows.drain(..over);
        let (over_limit, unlabelled) = (over as u64, late.len() as u64);
        Ok(LabelledTraffic { rows, over_limit, unlabelled, ..LabelledTraffic::default() })
    }
}

#[async_trait]
impl ProfileBuilder for FixedSources {
    async fn reference(&self, request: &ReferenceRequest) -> Result<Reference, PlatformError> {
        let doing = format!("making a reference of {}", request.key.subject);
        let unknown = |row: &&ProfileRow| !request.classes.contains(&row.prediction);
        if request.rows.is_empty() {
            return Err(PlatformError::invalid(doing, "there are no rows"));
        }
        if let Some(row) = request.rows.iter().find(unknown) {
            let problem = format!("`{}` is not one of the classes", row.prediction);
            return Err(PlatformError::invalid(doing, problem));
        }
        let schema = request.inherit.clone().unwrap_or_else(|| schema_of(request));
        if schema.classes != request.classes {
            return Err(PlatformError::invalid(doing, "the inherited schema has other classes"));
        }
        let mut profile = Profile::new(&schema, request.key.clone(), request.window);
        request.rows.iter().for_each(|row| count(&schema, &mut profile, row));
        Ok(Reference { schema, profile })
    }
}

fn schema_of(request: &ReferenceRequest) -> ProfileSchema {
    let numeric = || ColumnKind::Numeric(NumericSchema { edges: EDGES.to_vec(), step: 0.0625 });
    let categories = request.classes.clone();
    let mut columns = BTreeMap::from([
        (CONFIDENCE_COLUMN, numeric()),
        (PREDICTION_COLUMN, ColumnKind::Categorical(CategoricalSchema { categories })),
    ]);
    let mut groups = BTreeMap::<&str, Vec<String>>::new();
    for row in &request.rows {
        columns.extend(row.features.keys().map(|name| (name.as_str(), numeric())));
        for (attribute, value) in &row.attributes {
            let values = groups.entry(attribute).or_default();
            if let Err(place) = values.binary_search(value) {
                values.insert(place, value.clone());
            }
        }
    }
    ProfileSchema {
        format: PROFILE_FORMAT,
        model: request.key.subject.model.clone(),
        classes: request.classes.clone(),
        positive: None,
        columns: columns
            .into_iter()
            .map(|(name, kind)| ColumnSchema { name: name.to_owned(), kind })
            .collect(),
        groups: groups
            .into_iter()
            .map(|(attribute, values)| GroupSchema {
                attributes: vec![attribute.to_owned()],
                values: values.into_iter().map(|value| vec![value]).collect(),
            })
            .collect(),
        latency_objective_micros: request.latency_objective_micros,
    }
}

/// Counts one row into all counters but that of latency, which rows do not carry.
fn count(schema: &ProfileSchema, profile: &mut Profile, row: &ProfileRow) {
    profile.rows += 1;
    for column in &schema.columns {
        let is_prediction = column.name == PREDICTION_COLUMN;
        match (&column.kind, profile.columns.get_mut(&column.name)) {
            (ColumnKind::Numeric(numeric), Some(ColumnCounts::Numeric(counts))) => {
                let confidence = (column.name == CONFIDENCE_COLUMN).then_some(row.confidence);
                let value = confidence.or_else(|| row.features.get(&column.name).copied());
                counts.observe(numeric, value);
            }
            (ColumnKind::Categorical(known), Some(ColumnCounts::Categorical(counts))) => {
                let place = known.categories.iter().position(|name| *name == row.prediction);
                counts.observe(match place {
                    _ if !is_prediction => Category::Missing,
                    Some(place) => Category::Known(place),
                    None => Category::Unseen(&row.prediction),
                });
            }
            _ => {}
        }
    }
    let truth = row.label.as_deref().and_then(|label| schema.class_index(label));
    let Some(prediction) = schema.class_index(&row.prediction) else { return };
    let (layout, score) = (schema.outcomes(), Some(row.confidence));
    profile.overall.observe(layout, prediction, truth, score);
    for (group, counts) in schema.groups.iter().zip(&mut profile.groups) {
        let values: Option<Vec<String>> =
            group.attributes.iter().map(|name| row.attributes.get(name).cloned()).collect();
        let place = match values {
            None => Group::Missing,
            Some(values) => group.values.binary_search(&values).map_or(Group::Other, Group::Known),
        };
        counts.of(place, layout).observe(layout, prediction, truth, score);
    }
}

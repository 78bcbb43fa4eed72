//! Captured traffic, as profiles and as labelled rows; and the maker of reference profiles.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use mloop_core::profile::{ProfileKey, StoredProfile};
use mloop_core::{Profile, ProfileSchema, Sha256Digest, Subject, Window};

use crate::PlatformError;

/// Which window to count, for whom and on which bins.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfileRequest {
    /// The version whose answers count as rows.
    pub key: ProfileKey,
    /// Digests of other versions that are known to have served in the window: their answers are
    /// counted as such, those of all versions beside as mixed.
    pub others: BTreeSet<Sha256Digest>,
    /// When versions are known to have served: rows that do not name who answered them are told by it.
    /// Those of other times count as mixed; with no span at all, every row is this version's.
    pub spans: Vec<ServedSpan>,
    /// The frozen bins.
    pub schema: ProfileSchema,
    /// The window of request times.
    pub window: Window,
    /// The moment up to which input is looked for; labels that arrived by then are joined.
    pub as_of: DateTime<Utc>,
}

/// A time in which one version alone answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServedSpan {
    /// Its first moment.
    pub from: DateTime<Utc>,
    /// The first moment after it; none: it has no end yet.
    pub until: Option<DateTime<Utc>>,
    /// The version's digest.
    pub version: Sha256Digest,
}

/// A reference that a source is to make of its own rows, for a model that was not trained here.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceReference {
    /// Model and target.
    pub subject: Subject,
    /// Rows of these times; none: all rows.
    pub window: Option<Window>,
    /// The window that the reference is filed under.
    pub filed: Window,
    /// A schema to be kept; none makes a new one of the rows.
    pub inherit: Option<ProfileSchema>,
    /// The moment up to which input is looked for.
    pub as_of: DateTime<Utc>,
}

/// Counts windows of captured traffic.
///
/// # Contract
/// - Read-only and repeatable: equal files give profiles with an equal digest, in any order and
///   partitioning.
/// - A record that cannot be read is counted as quarantined and hides no other.
/// - An empty window is a profile with 0 rows, not an error. A source that does not exist at all
///   (a root folder or a bucket that is not there) is [`PlatformError::Invalid`].
/// - Rows are kept once: of records with one inference id the first counts.
#[cfg_attr(feature = "testing", mockall::automock)]
#[async_trait]
pub trait ProfileSource: Send + Sync {
    /// Counts one window.
    ///
    /// # Errors
    /// When the traffic could not be read.
    async fn profile(&self, request: &ProfileRequest) -> Result<StoredProfile, PlatformError>;

    /// Makes a reference of its rows.
    ///
    /// # Errors
    /// [`PlatformError::Invalid`] when the source makes none, or its rows are not fit for one; when the
    /// traffic could not be read.
    async fn reference(&self, request: &SourceReference) -> Result<Reference, PlatformError>;

    /// Looks whether the traffic could be read at a moment; changes nothing.
    ///
    /// # Errors
    /// When it could not.
    async fn probe(&self, as_of: DateTime<Utc>) -> Result<(), PlatformError>;
}

/// How much labelled traffic may be held in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrafficLimit {
    /// Rows.
    pub rows: usize,
    /// Bytes of their bodies together.
    pub bytes: u64,
}

/// Captured requests whose labels have arrived, to learn from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LabelledTraffic {
    /// The rows, sorted by time, then id: equal files give equal rows.
    pub rows: Vec<LabelledRow>,
    /// Requests of the window without a label so far.
    pub unlabelled: u64,
    /// Records that could not be read.
    pub quarantined: u64,
    /// Rows left out because there was more than the limit; the oldest go first.
    pub over_limit: u64,
}

/// One captured request with its label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledRow {
    /// The id that the label refers to.
    pub id: String,
    /// When it was answered.
    pub time: DateTime<Utc>,
    /// Content type of the body.
    pub content_type: String,
    /// The request's body.
    pub body: Vec<u8>,
    /// The true class.
    pub label: String,
    /// Group attributes that the request carried.
    pub attributes: BTreeMap<String, String>,
}

/// Reads labelled rows of captured traffic.
///
/// # Contract
/// - Read-only; never more than `limit` is held in memory. The rows are the newest ones: where one
///   no longer fits, none that is older is taken.
/// - Repeatable: a label that arrived after `as_of` does not count, so that one job learns from
///   the same rows whenever it is done.
#[cfg_attr(feature = "testing", mockall::automock)]
#[async_trait]
pub trait TrafficSource: Send + Sync {
    /// The rows of a window whose labels had arrived by `as_of`, the newest within `limit`.
    ///
    /// # Errors
    /// When the traffic could not be read.
    async fn labelled(
        &self,
        window: &Window,
        as_of: DateTime<Utc>,
        limit: TrafficLimit,
    ) -> Result<LabelledTraffic, PlatformError>;
}

/// What a kind of window source builds: both views of one traffic.
#[derive(Clone)]
pub struct Sources {
    /// Windows, counted.
    pub profiles: Arc<dyn ProfileSource>,
    /// Rows with labels.
    pub traffic: Arc<dyn TrafficSource>,
}

/// One prediction as a profile counts it.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfileRow {
    /// Numeric features by name.
    pub features: BTreeMap<String, f64>,
    /// Predicted class.
    pub prediction: String,
    /// Its probability.
    pub confidence: f64,
    /// Probabilities of all classes in the model's order; none where they are not known.
    pub probabilities: Vec<f64>,
    /// True class, where known.
    pub label: Option<String>,
    /// Group attributes.
    pub attributes: BTreeMap<String, String>,
    /// Activations of the layer before the last; none where they are not known.
    pub embedding: Vec<f32>,
}

/// What a reference is to be made of.
#[derive(Debug, Clone, PartialEq)]
pub struct ReferenceRequest {
    /// Subject, and the digest of the model's own files (a version's digest covers its reference,
    /// so it cannot stand in it).
    pub key: ProfileKey,
    /// The window that the reference is filed under.
    pub window: Window,
    /// The schema of the version before, to be inherited; none makes a new one from the rows.
    pub inherit: Option<ProfileSchema>,
    /// Classes in the model's order.
    pub classes: Vec<String>,
    /// Bound of the latency objective, µs.
    pub latency_objective_micros: Option<u64>,
    /// The rows.
    pub rows: Vec<ProfileRow>,
}

/// A reference profile with the schema that it was counted under.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// The frozen bins.
    pub schema: ProfileSchema,
    /// The counts.
    pub profile: Profile,
}

/// Makes reference profiles, by the code that counts windows.
///
/// # Contract
/// Equal requests give an equal schema and profile. An inherited schema is kept as it is, so that
/// profiles of successive versions compare.
#[cfg_attr(feature = "testing", mockall::automock)]
#[async_trait]
pub trait ProfileBuilder: Send + Sync {
    /// Makes a reference.
    ///
    /// # Errors
    /// [`PlatformError::Invalid`] for no rows, a class that is not in the list, or an inherited
    /// schema of other classes or columns.
    async fn reference(&self, request: &ReferenceRequest) -> Result<Reference, PlatformError>;
}

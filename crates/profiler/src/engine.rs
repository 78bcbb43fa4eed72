//! The plan: join labels, tell copies apart, count.

use std::sync::Arc;

use datafusion::common::{DataFusionError, JoinType};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{ExprFunctionExt, ident, lit};
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use datafusion::scalar::ScalarValue;
use futures::TryStreamExt;
use mloop_core::{BoxError, Profile};
use mloop_platform::PlatformError;
use tokio::task::JoinSet;

use crate::count::Counter;
use crate::files;
use crate::labels::{LABEL, LABEL_ID, LABEL_POSITION};
use crate::rows::{BATCH_ROWS, ID, POSITION, TIME};
use crate::scan::ReadError;

/// Number of a record among those with its id, from 1.
pub(crate) const COPY: &str = "copy";

/// What plans run with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Engine {
    /// Parts that a plan is worked in.
    pub(crate) partitions: usize,
    /// Memory of joins and sorts, MiB; sorts spill to disk beyond.
    pub(crate) memory_mb: usize,
}

impl Engine {
    /// Made for each plan: whoever counts nothing starts nothing.
    pub(crate) fn session(&self) -> Result<SessionContext, DataFusionError> {
        let memory = FairSpillPool::new(self.memory_mb.saturating_mul(1 << 20));
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(memory)).build_arc()?;
        let config = SessionConfig::new()
            .with_target_partitions(self.partitions)
            .with_batch_size(BATCH_ROWS);
        Ok(SessionContext::new_with_config_rt(config, runtime))
    }
}

/// Captured rows, each with the first label of its id, and numbered among those with its id by time
/// ([`COPY`], from 1): the first counts, the others are copies.
///
/// Labels are the side that is held in memory and read to its end first, so that their unreadable
/// lines are all counted, whatever was captured.
pub(crate) fn labelled(
    captured: DataFrame,
    labels: Option<DataFrame>,
) -> Result<DataFrame, DataFusionError> {
    let has_own = captured.schema().has_column_with_unqualified_name(LABEL);
    let rows = match labels {
        Some(labels) => {
            let captured = if has_own { captured.drop_columns(&[LABEL])? } else { captured };
            let labels = numbered(labels, LABEL_ID, &[LABEL_POSITION])?;
            let labels =
                labels.filter(ident(COPY).eq(lit(1u64)))?.select([LABEL_ID, LABEL].map(ident))?;
            labels.join(captured, JoinType::Right, &[LABEL_ID], &[ID], None)?
        }
        None if has_own => captured,
        None => captured.with_column(LABEL, lit(ScalarValue::Utf8(None)))?,
    };
    numbered(rows, ID, &[TIME, POSITION])
}

/// Rows without ids, each of which counts.
pub(crate) fn all_first(rows: DataFrame) -> Result<DataFrame, DataFusionError> {
    rows.with_column(COPY, lit(1u64))
}

/// Rows numbered among those with their id, in an order.
fn numbered(rows: DataFrame, id: &str, order: &[&str]) -> Result<DataFrame, DataFusionError> {
    let order = order.iter().map(|name| ident(*name).sort(true, false)).collect();
    let copy = row_number().partition_by(vec![ident(id)]).order_by(order).build()?;
    rows.window(vec![copy.alias(COPY)])
}

/// Counts rows into a profile: each partition into one of its own, which merge to the same bytes in
/// whatever order they are done.
pub(crate) async fn count(
    rows: DataFrame,
    counter: &Arc<Counter>,
) -> Result<Profile, DataFusionError> {
    let mut parts = JoinSet::new();
    for mut batches in rows.execute_stream_partitioned().await? {
        let counter = Arc::clone(counter);
        parts.spawn(async move {
            let mut profile = counter.empty();
            while let Some(batch) = batches.try_next().await? {
                counter.observe(&mut profile, &batch)?;
            }
            Ok::<_, DataFusionError>(profile)
        });
    }
    let mut total = counter.empty();
    while let Some(part) = parts.join_next().await {
        let part = part.map_err(|error| DataFusionError::External(error.into()))??;
        total.merge(&part).map_err(|error| DataFusionError::External(error.into()))?;
    }
    Ok(total)
}

/// What a caller can do about a plan that failed.
pub(crate) fn failure(doing: &str, error: DataFusionError) -> PlatformError {
    if matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)) {
        let problem = "the memory that it may use does not suffice; raise `memory_mb`, or take a shorter window";
        return PlatformError::invalid(doing, problem);
    }
    if let Some(ReadError { place, cause }) = read_error(&error) {
        return files::failure(doing.to_owned(), place, cause);
    }
    PlatformError::unavailable("DataFusion", doing, BoxError::from(error))
}

fn read_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a ReadError> {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.into_iter().find_map(|error| error.downcast_ref::<ReadError>())
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn failures_are_sorted_by_what_can_be_done_about_them() {
        let read = |kind: io::ErrorKind| {
            let error = ReadError { place: "a/b.jsonl".into(), cause: kind.into() };
            // As a repartitioned plan hands it on.
            let shared = DataFusionError::Shared(Arc::new(DataFusionError::External(error.into())));
            failure("counting", shared.context("somewhere"))
        };
        let denied = read(io::ErrorKind::PermissionDenied);
        assert!(matches!(denied, PlatformError::Denied { .. }), "{denied:?}");
        assert!(denied.to_string().contains("a/b.jsonl"), "{denied}");
        let gone = read(io::ErrorKind::NotFound);
        assert!(gone.is_transient() && gone.to_string().contains("a/b.jsonl"), "{gone:?}");
        let full = failure("counting", DataFusionError::ResourcesExhausted("join".into()));
        assert!(matches!(full, PlatformError::Invalid { .. }), "{full:?}");
        let bug = failure("counting", DataFusionError::Internal("odd".into()));
        assert!(bug.to_string().starts_with("counting: DataFusion"), "{bug}");
    }
}

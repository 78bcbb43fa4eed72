//! The counting as an aggregate function of DataFusion: batches in, one profile out.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::cast::as_binary_array;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Expr, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;
use mloop_core::Profile;

use crate::count::Counter;

/// Name of the function in plans.
const NAME: &str = "profile";

/// Counts rows into a profile, handed on as JSON: its counters are exact integers, so that partial
/// counts merge in any tree to the same bytes.
#[derive(Debug)]
struct CountProfile {
    counter: Arc<Counter>,
    signature: Signature,
}

/// The function applied to the columns that the counter asks for.
pub(crate) fn profile_of(counter: &Arc<Counter>) -> Expr {
    let (columns, types) = counter.arguments();
    let signature = Signature::exact(types, Volatility::Immutable);
    let function = CountProfile { counter: Arc::clone(counter), signature };
    AggregateUDF::new_from_impl(function).call(columns)
}

/// Reads the function's result, and its partial states.
pub(crate) fn decode(bytes: &[u8]) -> Result<Profile> {
    serde_json::from_slice(bytes).map_err(|error| DataFusionError::External(Box::new(error)))
}

fn encode(profile: &Profile) -> Result<ScalarValue> {
    let bytes = serde_json::to_vec(profile);
    let bytes = bytes.map_err(|error| DataFusionError::External(Box::new(error)))?;
    Ok(ScalarValue::Binary(Some(bytes)))
}

impl PartialEq for CountProfile {
    fn eq(&self, other: &Self) -> bool {
        self.counter == other.counter
    }
}

impl Eq for CountProfile {}

impl Hash for CountProfile {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.counter.empty().digest().hash(state);
    }
}

impl AggregateUDFImpl for CountProfile {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }

    fn accumulator(&self, _args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let counter = Arc::clone(&self.counter);
        Ok(Box::new(Counting { profile: counter.empty(), counter }))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[partial]", args.name), DataType::Binary, false))])
    }
}

/// The counts so far of one partition.
#[derive(Debug)]
struct Counting {
    counter: Arc<Counter>,
    profile: Profile,
}

impl Accumulator for Counting {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.counter.observe(&mut self.profile, values)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for state in as_binary_array(&states[0])?.iter().flatten() {
            let merged = self.profile.merge(&decode(state)?);
            merged.map_err(|error| DataFusionError::External(Box::new(error)))?;
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![encode(&self.profile)?])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        encode(&self.profile)
    }

    /// Nearly all of it are the confusion matrices, one a group, and the bins.
    fn size(&self) -> usize {
        let matrix = size_of::<u64>() * self.profile.overall.labelled.len().pow(2);
        let groups: usize = self.profile.groups.values().map(BTreeMap::len).sum();
        size_of_val(self) + (groups + 1) * matrix + self.profile.columns.len() * 1024
    }
}

//! An even sample of rows, the same whatever the size of batches.

use datafusion::arrow::array::{BooleanArray, RecordBatch, UInt64Array};
use datafusion::arrow::compute::{concat_batches, filter, filter_record_batch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::Result;

/// Rows at most; a few less when more come.
const ROWS: usize = 1 << 16;

/// Rows whose mixed numbers are the smallest.
pub(crate) struct Sample {
    schema: SchemaRef,
    batches: Vec<(UInt64Array, RecordBatch)>,
    rows: usize,
    /// Numbers below it are taken.
    below: u64,
    seen: u64,
}

impl Sample {
    pub(crate) fn new(schema: SchemaRef) -> Self {
        Self { schema, batches: vec![], rows: 0, below: u64::MAX, seen: 0 }
    }

    /// Adds the next rows.
    pub(crate) fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let numbers: UInt64Array =
            (self.seen..).take(batch.num_rows()).map(|row| Some(mixed(row))).collect();
        self.seen += batch.num_rows() as u64;
        self.take(&numbers, batch)?;
        while self.rows > 2 * ROWS {
            self.below /= 2;
            self.rows = 0;
            for (numbers, batch) in std::mem::take(&mut self.batches) {
                self.take(&numbers, &batch)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, numbers: &UInt64Array, batch: &RecordBatch) -> Result<()> {
        let wanted: BooleanArray =
            numbers.values().iter().map(|number| Some(*number < self.below)).collect();
        let taken = filter_record_batch(batch, &wanted)?;
        if taken.num_rows() > 0 {
            let numbers = filter(numbers, &wanted)?;
            self.rows += taken.num_rows();
            let numbers = numbers.as_any().downcast_ref::<UInt64Array>().cloned();
            self.batches.extend(numbers.map(|numbers| (numbers, taken)));
        }
        Ok(())
    }

    /// All rows that came, and those of the sample.
    pub(crate) fn finish(self) -> Result<(u64, RecordBatch)> {
        let batches = self.batches.iter().map(|(_, batch)| batch);
        Ok((self.seen, concat_batches(&self.schema, batches)?))
    }
}

/// A row's number, mixed so that no order of rows shows (Steele, Lea & Flood 2014).
fn mixed(row: u64) -> u64 {
    let mut mixed = row.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::AsArray;
    use datafusion::arrow::datatypes::{DataType, Field, Schema, UInt64Type};

    use super::*;

    #[test]
    fn the_sample_is_even_bounded_and_the_same_for_any_batches() {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::UInt64, false)]));
        let sample = |rows: u64, size: u64| {
            let mut sample = Sample::new(Arc::clone(&schema));
            for start in (0..rows).step_by(size as usize) {
                let numbers = UInt64Array::from_iter_values(start..(start + size).min(rows));
                let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(numbers)]);
                sample.add(&batch.expect("a batch")).expect("added");
            }
            sample.finish().expect("a sample")
        };
        let (seen, few) = sample(1000, 7);
        assert_eq!((seen, few.num_rows()), (1000, 1000), "few rows are all taken");
        let (seen, many) = sample(1_000_000, 8192);
        let mean = |batch: &RecordBatch| {
            let values = batch.column(0).as_primitive::<UInt64Type>().values();
            values.iter().map(|value| *value as f64).sum::<f64>() / values.len() as f64
        };
        assert!(seen == 1_000_000 && (ROWS / 2..=2 * ROWS).contains(&many.num_rows()));
        assert!((mean(&many) - 500_000.0).abs() < 5_000.0, "{}", mean(&many));
        assert_eq!(sample(1_000_000, 1_000).1.num_rows(), many.num_rows());
    }
}

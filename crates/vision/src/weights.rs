//! Named f32 tensors and their safetensors encoding.
//!
//! Written here rather than through burn's store because the file is addressed by digest: equal
//! weights must give equal bytes, so names are sorted and no metadata is added. The format is an
//! 8-byte little-endian length, a JSON header of that length, and the raw values.
//! <https://github.com/huggingface/safetensors#format>

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Longest header that is read, the format's own limit for ours to be safe to parse.
const MAX_HEADER_BYTES: usize = 1 << 20;

/// Tensors by name.
pub(crate) type Weights = BTreeMap<String, NamedTensor>;

/// A dense f32 tensor in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NamedTensor {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

/// Bytes that are no safetensors file of f32 tensors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a safetensors file of F32 tensors: {0}")]
pub struct InvalidWeights(pub(crate) String);

#[derive(Serialize, Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

/// The tensors as a safetensors file.
pub(crate) fn encode(weights: &Weights) -> Vec<u8> {
    let mut header = BTreeMap::new();
    let mut end = 0;
    for (name, tensor) in weights {
        let start = end;
        end += tensor.values.len() * 4;
        let shape = tensor.shape.clone();
        header.insert(name, Entry { dtype: "F32".to_owned(), shape, data_offsets: [start, end] });
    }
    let mut json = serde_json::to_vec(&header).expect("names and numbers serialise to JSON");
    // The values begin at a multiple of eight, as the reference implementation pads.
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut bytes = Vec::with_capacity(8 + json.len() + end);
    bytes.extend((json.len() as u64).to_le_bytes());
    bytes.extend(json);
    for value in weights.values().flat_map(|tensor| &tensor.values) {
        bytes.extend(value.to_le_bytes());
    }
    bytes
}

/// Reads a safetensors file whose tensors are all F32.
///
/// # Errors
/// [`InvalidWeights`] for anything else, including values that belong to no tensor.
pub(crate) fn decode(bytes: &[u8]) -> Result<Weights, InvalidWeights> {
    let fail = |problem: String| InvalidWeights(problem);
    let (length, rest) =
        bytes.split_first_chunk::<8>().ok_or_else(|| fail("it is cut short".to_owned()))?;
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if length > MAX_HEADER_BYTES || length > rest.len() {
        return Err(fail(format!("its header claims {length} bytes")));
    }
    let (json, values) = rest.split_at(length);
    let mut header: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(json).map_err(|error| fail(format!("its header: {error}")))?;
    header.remove("__metadata__");
    let mut weights = Weights::new();
    let mut used = 0;
    for (name, entry) in header {
        let entry: Entry = serde_json::from_value(entry)
            .map_err(|error| fail(format!("its header, tensor `{name}`: {error}")))?;
        let tensor = tensor(&entry, values)
            .ok_or_else(|| fail(format!("tensor `{name}` does not fit type, shape and file")))?;
        used += tensor.values.len() * 4;
        weights.insert(name, tensor);
    }
    if used != values.len() {
        return Err(fail(format!("its tensors hold {used} of {} bytes", values.len())));
    }
    Ok(weights)
}

fn tensor(entry: &Entry, values: &[u8]) -> Option<NamedTensor> {
    let [start, end] = entry.data_offsets;
    let bytes = values.get(start..end)?;
    let count = entry.shape.iter().try_fold(4_usize, |count, side| count.checked_mul(*side))?;
    if entry.dtype != "F32" || count != bytes.len() {
        return None;
    }
    let (chunks, _) = bytes.as_chunks::<4>();
    let values = chunks.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect();
    Some(NamedTensor { shape: entry.shape.clone(), values })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights() -> Weights {
        let tensor = |shape: &[usize], values: &[f32]| NamedTensor {
            shape: shape.to_vec(),
            values: values.to_vec(),
        };
        Weights::from([
            ("b".to_owned(), tensor(&[2, 2], &[1.0, -2.5, 0.0, f32::MIN_POSITIVE])),
            ("a".to_owned(), tensor(&[3], &[7.0, 8.0, 9.0])),
        ])
    }

    #[test]
    fn weights_round_trip_bit_for_bit() {
        let bytes = encode(&weights());
        assert_eq!(decode(&bytes), Ok(weights()));
        assert_eq!(bytes, encode(&weights()));
        let length = usize::from(bytes[0]);
        assert!(
            bytes[8..8 + length]
                .starts_with(br#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]},"b":"#)
        );
    }

    #[test]
    fn damage_is_named() {
        let bytes = encode(&weights());
        let message = |bytes: &[u8]| decode(bytes).expect_err("refused").to_string();
        assert!(message(&bytes[..5]).contains("cut short"));
        assert!(message(&bytes[..20]).contains("claims"));
        assert!(message(&bytes[..bytes.len() - 4]).contains("tensor `b` does not fit"));
        let longer = [bytes.as_slice(), &[0; 4]].concat();
        assert!(message(&longer).contains("28 of 32 bytes"), "{}", message(&longer));
        let huge = [u64::MAX.to_le_bytes().as_slice(), b"{}"].concat();
        assert!(message(&huge).contains("claims"));
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(text.contains("F32"));
        let other = bytes.windows(3).position(|part| part == b"F32").expect("has a type");
        let mut half = bytes.clone();
        half[other] = b'G';
        assert!(message(&half).contains("tensor `a` does not fit"));
    }
}

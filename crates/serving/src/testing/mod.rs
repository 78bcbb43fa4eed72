//! Tiny model versions and a tiny client, for tests of whoever speaks to the server.

pub mod client;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use mloop_core::version::files;
use mloop_core::{Manifest, Sha256Digest};
use serde_json::json;

/// Side of the square grey images that a [`tiny_version`] takes, in pixels.
pub const TINY_SIDE: usize = 8;

/// The files of a version with the smallest network there is: 8 x 8 grey images, three classes
/// `ankle-boot`, `bag` and `coat`. Another seed gives other weights, and so another digest.
///
/// # Panics
/// Never: the names are plain and the values finite.
#[must_use]
pub fn tiny_version(seed: u32) -> BTreeMap<String, Vec<u8>> {
    let model = json!({
        "format": "mloop.vision/1",
        "architecture": {"kind": "cnn", "channels": [2], "hidden_units": 4, "dropout": 0.0},
        "input": {"channels": 1, "height": TINY_SIDE, "width": TINY_SIDE},
        "classes": ["ankle-boot", "bag", "coat"],
        "normalisation": {"mean": [0.3], "deviation": [0.4]},
    });
    let mut version = BTreeMap::from([
        (files::MODEL.to_owned(), model.to_string().into_bytes()),
        (files::WEIGHTS.to_owned(), weights(seed)),
    ]);
    let bytes = version.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
    let manifest = Manifest::of_bytes(bytes).expect("plain names");
    let json = serde_json::to_vec(&manifest).expect("names and numbers");
    version.insert(files::MANIFEST.to_owned(), json);
    version
}

/// Writes a [`tiny_version`] into a folder, made where needed; its digest.
///
/// # Errors
/// When the folder cannot be written.
///
/// # Panics
/// Never, see [`tiny_version`].
pub fn write_tiny_version(folder: &Path, seed: u32) -> io::Result<Sha256Digest> {
    let version = tiny_version(seed);
    std::fs::create_dir_all(folder)?;
    for (name, bytes) in &version {
        std::fs::write(folder.join(name), bytes)?;
    }
    let manifest = &version[files::MANIFEST];
    let manifest: Manifest = serde_json::from_slice(manifest).expect("written above");
    Ok(manifest.digest())
}

/// An image for a [`tiny_version`]: the JSON body, content type `application/json`.
#[must_use]
pub fn tiny_image(shade: u8) -> String {
    let row = |y: usize| -> Vec<u8> {
        (0..TINY_SIDE).map(|x| shade.wrapping_add((x * 7 + y * 13) as u8)).collect()
    };
    json!({"pixels": (0..TINY_SIDE).map(row).collect::<Vec<_>>()}).to_string()
}

/// Pseudo-random weights as a safetensors file: 8-byte little-endian length, JSON header, values.
fn weights(seed: u32) -> Vec<u8> {
    let flat = 2 * (TINY_SIDE / 2).pow(2);
    let tensors: [(&str, &[usize]); 6] = [
        ("conv.0.bias", &[2]),
        ("conv.0.weight", &[2, 1, 3, 3]),
        ("hidden.bias", &[4]),
        ("hidden.weight", &[flat, 4]),
        ("output.bias", &[3]),
        ("output.weight", &[4, 3]),
    ];
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, shape) in tensors {
        let start = end;
        end += 4 * shape.iter().product::<usize>();
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, end]});
        header.insert(name.to_owned(), entry);
    }
    let mut json = serde_json::Value::Object(header).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json);
    // A linear congruential generator: enough for weights that differ.
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    for _ in 0..end / 4 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let value = (state >> 8) as f32 / (1 << 24) as f32 - 0.5;
        bytes.extend(value.to_le_bytes());
    }
    bytes
}

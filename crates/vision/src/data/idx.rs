//! The IDX format of MNIST and its relatives, plain or gzipped.
//!
//! A file is a magic number whose last two bytes are the element type (8 = u8) and the number of
//! dimensions, the dimensions as big-endian u32, and the elements.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::collector::{Collector, Label};
use super::{DataError, Loaded, ReadOptions};
use crate::pixels::{InputSpec, Pixels};

/// Most bytes of one file after unpacking: a header that claims more is a mistake or an attack.
const MAX_BYTES: u64 = 4 << 30;

/// Reads an images file and its labels file.
pub(super) fn read(
    images: &Path,
    labels: &Path,
    options: &ReadOptions,
) -> Result<Loaded, DataError> {
    let ([count, height, width], pixels) = read_file::<3>(images)?;
    let ([label_count], label_bytes) = read_file::<1>(labels)?;
    if label_count != count {
        let problem = format!("{label_count} labels for {count} images of {}", images.display());
        return Err(DataError::format(labels, "IDX", problem));
    }
    let spec = InputSpec { channels: 1, height, width };
    if !spec.is_supported() {
        return Err(DataError::format(images, "IDX", format!("images of {spec}")));
    }
    if let Some(expected) = options.spec.filter(|expected| *expected != spec) {
        let problem = format!("images of {spec} where {expected} are needed");
        return Err(DataError::format(images, "IDX", problem));
    }
    let mut collector = Collector::new(images.display().to_string(), options);
    for (index, (image, label)) in pixels.chunks_exact(spec.len()).zip(label_bytes).enumerate() {
        let image = Pixels::new(spec, image.to_vec()).expect("a chunk has the length of an image");
        let label = Label::Index(u64::from(label));
        collector.accept(format!("{index:05}"), image, label, BTreeMap::new());
    }
    collector.finish()
}

fn read_file<const D: usize>(path: &Path) -> Result<([usize; D], Vec<u8>), DataError> {
    let fail = |problem: String| Err(DataError::format(path, "IDX", problem));
    let mut input = open(path)?;
    let mut word = || {
        let mut bytes = [0; 4];
        input.read_exact(&mut bytes).map_err(DataError::io(path))?;
        Ok::<_, DataError>(u32::from_be_bytes(bytes))
    };
    let magic = word()?;
    let expected = 0x0800 + D as u32;
    if magic != expected {
        return fail(format!(
            "it begins with {magic:#010x}; u8 data of {D} dimensions begin with {expected:#010x}"
        ));
    }
    let mut sides = [0; D];
    for side in &mut sides {
        *side = word()?;
    }
    let claimed = sides.iter().try_fold(1_u64, |len, side| len.checked_mul(u64::from(*side)));
    let Some(claimed) = claimed.filter(|claimed| *claimed <= MAX_BYTES) else {
        return fail(format!("its header claims {sides:?} elements"));
    };
    let mut bytes = Vec::new();
    input.take(claimed + 1).read_to_end(&mut bytes).map_err(DataError::io(path))?;
    if bytes.len() as u64 != claimed {
        let more = if bytes.len() as u64 > claimed { "more" } else { "fewer" };
        return fail(format!("it holds {more} elements than the {claimed} of its header"));
    }
    Ok((sides.map(|side| side as usize), bytes))
}

/// Opens a file, unpacking it when it begins as gzip does.
fn open(path: &Path) -> Result<Box<dyn Read>, DataError> {
    let mut magic = [0; 2];
    let mut file = File::open(path).map_err(DataError::io(path))?;
    let got = file.read(&mut magic).map_err(DataError::io(path))?;
    let file = BufReader::new(File::open(path).map_err(DataError::io(path))?);
    if got == 2 && magic == [0x1f, 0x8b] {
        return Ok(Box::new(flate2::read::MultiGzDecoder::new(file)));
    }
    Ok(Box::new(file))
}

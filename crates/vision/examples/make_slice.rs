//! Writes the committed slice of Fashion-MNIST: 8,000 training and 2,000 test images, as many of
//! each class, as Parquet.
//!
//! ```text
//! cargo run -p mloop-vision --example make_slice -- IDX_FOLDER OUT_FOLDER
//! ```
//!
//! `IDX_FOLDER` holds the four files of Debian's package `dataset-fashion-mnist`
//! (`train-images-idx3-ubyte.gz` and its siblings). The first images of each class are taken, in
//! the order of the source, and keep the number they have there in their id.

#![expect(clippy::print_stderr, reason = "a tool for developers, which has no other output")]

use std::path::Path;
use std::process::ExitCode;

use mloop_core::Sha256Digest;
use mloop_vision::data::{DataSource, Dataset, ReadOptions, Sample, write_parquet};

const CLASSES: [&str; 10] = [
    "t-shirt-top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle-boot",
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, to] = arguments.as_slice() else {
        eprintln!("usage: make_slice IDX_FOLDER OUT_FOLDER");
        return ExitCode::from(20);
    };
    for (idx_name, name, per_class) in [("train", "train", 800), ("t10k", "test", 200)] {
        let path = Path::new(to).join(name).with_extension("parquet");
        if let Err(error) = slice(Path::new(from), idx_name, name, per_class, &path) {
            eprintln!("{}", mloop_core::error_chain(error.as_ref()));
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn slice(
    from: &Path,
    idx_name: &str,
    name: &str,
    per_class: usize,
    path: &Path,
) -> Result<(), mloop_core::BoxError> {
    let source = DataSource::Idx {
        images: from.join(format!("{idx_name}-images-idx3-ubyte.gz")),
        labels: from.join(format!("{idx_name}-labels-idx1-ubyte.gz")),
    };
    let classes = CLASSES.map(str::to_owned).to_vec();
    let options = ReadOptions { classes: Some(classes), ..ReadOptions::default() };
    let slice = first_of_each_class(&source.load(&options)?.dataset, name, per_class);
    write_parquet(path, &slice)?;
    let bytes = std::fs::read(path)?;
    eprintln!(
        "{}: {} images, {} bytes, SHA-256 {}, content {}",
        path.display(),
        slice.len(),
        bytes.len(),
        Sha256Digest::of(&bytes),
        slice.digest()
    );
    Ok(())
}

fn first_of_each_class(all: &Dataset, name: &str, per_class: usize) -> Dataset {
    let mut slice = Dataset::new(all.spec(), all.classes().to_vec());
    let mut taken = vec![0; all.classes().len()];
    for (index, sample) in all.samples().iter().enumerate() {
        if taken[sample.label] == per_class {
            continue;
        }
        taken[sample.label] += 1;
        let id = format!("{name}-{index:05}");
        slice.push(Sample { id, ..sample.clone() }, &all.pixels(index));
    }
    slice
}

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use super::*;
use crate::pixels::{InputSpec, Pixels};

const SPEC: InputSpec = InputSpec { channels: 1, height: 2, width: 2 };
const CLASSES: [&str; 2] = ["boot", "coat"];

fn classes() -> Vec<String> {
    CLASSES.map(str::to_owned).to_vec()
}

fn options() -> ReadOptions {
    ReadOptions { classes: Some(classes()), ..ReadOptions::default() }
}

/// Six images, sorted by class as a folder gives them.
fn dataset() -> Dataset {
    let mut dataset = Dataset::new(SPEC, classes());
    for index in 0..6_u8 {
        let label = usize::from(index / 3);
        let image = Pixels::new(SPEC, vec![index, 10 + index, 100, 255]).expect("fits");
        let attributes = if index == 4 {
            BTreeMap::new()
        } else {
            BTreeMap::from([("site".to_owned(), format!("site-{}", index % 2))])
        };
        dataset.push(Sample { id: format!("image-{index}"), label, attributes }, &image);
    }
    dataset
}

fn write_idx(path: &Path, dims: &[u32], bytes: &[u8], gzip: bool) {
    let mut content = (0x0800 + u32::try_from(dims.len()).expect("few")).to_be_bytes().to_vec();
    content.extend(dims.iter().flat_map(|dim| dim.to_be_bytes()));
    content.extend(bytes);
    if gzip {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&content).expect("writes");
        content = encoder.finish().expect("writes");
    }
    std::fs::write(path, content).expect("writes");
}

fn idx(folder: &Path, gzip: bool) -> DataSource {
    let dataset = dataset();
    let [images, labels] = ["images", "labels"].map(|name| folder.join(name));
    let pixels: Vec<u8> = (0..dataset.len()).flat_map(|at| dataset.image(at).to_vec()).collect();
    write_idx(&images, &[6, 2, 2], &pixels, gzip);
    let bytes: Vec<u8> = dataset.samples().iter().map(|sample| sample.label as u8).collect();
    write_idx(&labels, &[6], &bytes, gzip);
    DataSource::Idx { images, labels }
}

fn image_folder(folder: &Path) -> DataSource {
    let dataset = dataset();
    for (index, sample) in dataset.samples().iter().enumerate() {
        let class = folder.join("classes").join(&dataset.classes()[sample.label]);
        std::fs::create_dir_all(&class).expect("creates");
        let png = dataset.pixels(index).to_png();
        std::fs::write(class.join(format!("{}.PNG", sample.id)), png).expect("writes");
    }
    DataSource::Folder { path: folder.join("classes") }
}

fn parquet(folder: &Path) -> DataSource {
    let path = folder.join("data.parquet");
    write_parquet(&path, &dataset()).expect("writes");
    DataSource::Parquet { path }
}

#[test]
fn the_same_images_are_the_same_set_in_every_format() {
    let folder = tempfile::tempdir().expect("a folder");
    let sources = [idx(folder.path(), false), parquet(folder.path()), image_folder(folder.path())];
    for source in &sources {
        let loaded = source.load(&options()).expect("loads");
        assert_eq!(loaded.dataset.digest(), dataset().digest(), "{source:?}");
        assert_eq!(loaded.quarantine, Quarantine { total: 6, bad: 0, named: Vec::new() });
    }
    let packed = idx(folder.path(), true).load(&options()).expect("loads");
    assert_eq!(packed.dataset.digest(), dataset().digest());
    assert_eq!(sources[1].load(&options()).expect("loads").dataset, dataset(), "ids, attributes");

    let twice = DataSource::load_all(&sources[1..], &ReadOptions::default()).expect("loads");
    assert_eq!((twice.dataset.len(), twice.quarantine.total), (12, 12));
    assert_eq!(twice.dataset.class_counts(), [6, 6]);
}

#[test]
fn the_digest_sees_pixels_labels_and_order() {
    let digest = dataset().digest();
    assert_eq!(dataset().subset(&[0, 1, 2, 3, 4, 5]).digest(), digest);
    assert_ne!(dataset().subset(&[1, 0, 2, 3, 4, 5]).digest(), digest);
    let mut relabelled = Dataset::new(SPEC, classes());
    for (index, sample) in dataset().samples().iter().enumerate() {
        let label = if index == 0 { 1 } else { sample.label };
        relabelled.push(Sample { label, ..sample.clone() }, &dataset().pixels(index));
    }
    assert_ne!(relabelled.digest(), digest);
}

#[test]
fn without_a_list_the_labels_that_occur_are_the_classes() {
    let folder = tempfile::tempdir().expect("a folder");
    let names = |source: DataSource| {
        let loaded = source.load(&ReadOptions::default()).expect("loads");
        loaded.dataset.classes().to_vec()
    };
    assert_eq!(names(parquet(folder.path())), ["boot", "coat"]);
    assert_eq!(names(image_folder(folder.path())), ["boot", "coat"]);
    assert_eq!(names(idx(folder.path(), false)), ["0", "1"]);
}

#[test]
fn bad_images_are_left_out_and_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = image_folder(folder.path());
    let boot = folder.path().join("classes/boot");
    std::fs::write(boot.join("cut.png"), &dataset().pixels(0).to_png()[..30]).expect("writes");
    std::fs::write(boot.join("notes.txt"), "hello").expect("writes");
    std::fs::write(boot.join(".hidden"), "hello").expect("writes");
    let large = InputSpec { channels: 1, height: 3, width: 2 };
    let large = Pixels::new(large, vec![0; 6]).expect("fits").to_png();
    std::fs::write(folder.path().join("classes/coat/large.png"), large).expect("writes");

    let lenient = ReadOptions { max_bad_share: 0.4, spec: Some(SPEC), ..options() };
    let loaded = source.load(&lenient).expect("loads");
    assert_eq!(loaded.dataset.digest(), dataset().digest());
    let named: Vec<(&str, &str)> = loaded
        .quarantine
        .named
        .iter()
        .map(|bad| (bad.place.as_str(), bad.reason.as_str()))
        .collect();
    assert_eq!((loaded.quarantine.total, loaded.quarantine.bad), (9, 3));
    assert_eq!(named[0].0, "boot/cut.png");
    assert!(named[0].1.contains("cannot be decoded"), "{named:?}");
    assert_eq!(named[1], ("boot/notes.txt", "not a .png, .jpg or .jpeg file"));
    assert_eq!(named[2], ("coat/large.png", "the image is 2 x 3, the model takes 2 x 2 grey"));

    let strict = ReadOptions { max_bad_share: 0.3, ..lenient };
    let error = source.load(&strict).expect_err("a third is bad").to_string();
    assert!(error.contains("3 of 9 records are bad"), "{error}");
    assert!(error.contains("boot/cut.png"), "{error}");
}

#[test]
fn labels_outside_the_classes_are_bad_records() {
    let folder = tempfile::tempdir().expect("a folder");
    let few = ReadOptions {
        classes: Some(vec!["boot".to_owned()]),
        max_bad_share: 0.5,
        ..ReadOptions::default()
    };
    let by_index = idx(folder.path(), false).load(&few).expect("loads");
    let by_name = parquet(folder.path()).load(&few).expect("loads");
    for (loaded, label) in [(by_index, "1"), (by_name, "`coat`")] {
        assert_eq!((loaded.dataset.len(), loaded.quarantine.bad), (3, 3));
        let reason = &loaded.quarantine.named[0].reason;
        assert_eq!(*reason, format!("label {label} is none of the classes boot"));
    }
}

#[test]
fn files_of_another_kind_are_refused_with_a_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let reason = |source: DataSource| {
        let error = source.load(&options()).expect_err("refused");
        mloop_core::error_chain(&error)
    };
    let idx_of =
        |images: &str, labels: &str| DataSource::Idx { images: at(images), labels: at(labels) };
    idx(folder.path(), false);
    write_idx(&at("short"), &[6, 2, 2], &[0; 23], false);
    write_idx(&at("long"), &[6, 2, 2], &[0; 25], true);
    write_idx(&at("huge"), &[u32::MAX, u32::MAX, 2], &[0; 8], false);
    write_idx(&at("five"), &[5], &[0; 5], false);
    let cases = [
        (idx_of("short", "labels"), "fewer elements than the 24 of its header"),
        (idx_of("long", "labels"), "more elements than the 24 of its header"),
        (idx_of("huge", "labels"), "its header claims"),
        (idx_of("labels", "labels"), "u8 data of 3 dimensions begin with 0x00000803"),
        (idx_of("images", "five"), "5 labels for 6 images"),
        (idx_of("absent", "labels"), "absent"),
        (DataSource::Parquet { path: at("images") }, "is no usable Parquet data"),
        (DataSource::Folder { path: at("nowhere") }, "nowhere"),
        (DataSource::Folder { path: folder.path().to_owned() }, "holds no images"),
    ];
    for (source, expected) in cases {
        let reason = reason(source);
        assert!(reason.contains(expected), "{reason}");
    }
}

#[test]
fn traffic_is_decoded_as_the_server_does() {
    let row =
        |id: &str, content_type: &str, body: &[u8], label: &str| mloop_platform::LabelledRow {
            id: id.to_owned(),
            time: chrono::DateTime::UNIX_EPOCH,
            content_type: content_type.to_owned(),
            body: body.to_vec(),
            label: label.to_owned(),
            attributes: BTreeMap::from([("site".to_owned(), "north".to_owned())]),
        };
    let json = br#"{"pixels": [[0, 10], [100, 255]]}"#;
    let rows = [
        row("a", "image/png", &dataset().pixels(3).to_png(), "coat"),
        row("b", "application/json", json, "boot"),
        row("c", "image/png", b"half an image", "boot"),
        row("d", "application/json", json, "hat"),
    ];
    let loaded = from_traffic(&rows, SPEC, &classes(), 0.5).expect("half is good");
    assert_eq!(loaded.dataset.image(0), dataset().image(3));
    assert_eq!(loaded.dataset.image(1), dataset().image(0));
    let samples = loaded.dataset.samples();
    assert_eq!((samples[0].label, samples[1].label), (1, 0));
    assert_eq!(samples[0].attributes["site"], "north");
    let named: Vec<&str> = loaded.quarantine.named.iter().map(|bad| bad.place.as_str()).collect();
    assert_eq!(named, ["c", "d"]);
    assert!(from_traffic(&rows, SPEC, &classes(), 0.4).is_err());
}

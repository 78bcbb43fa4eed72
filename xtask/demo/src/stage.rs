//! The stage of the story: data, configurations, a running server.

use std::path::Path;

use mloop_testkit::configs;
use mloop_testkit::images;
use mloop_testkit::traffic::SITES;
use mloop_vision::data::{Dataset, Sample, write_parquet};

use crate::story::Options;
use crate::tell::Teller;
use crate::world::{World, chain, pool};

/// A file in a demo's folder, by which the next demo knows that it may clear the folder.
const MARK: &str = "made-by-mloop-demo";

/// Removes what an earlier demo left, and nothing else.
pub(crate) fn clear(folder: &Path) -> Result<(), String> {
    let fail = |error: std::io::Error| format!("{}: {error}", folder.display());
    if folder.exists() && std::fs::read_dir(folder).map_err(fail)?.next().is_some() {
        if !folder.join(MARK).exists() {
            return Err(format!(
                "{} is not empty and not a demo's; name another --dir",
                folder.display()
            ));
        }
        std::fs::remove_dir_all(folder).map_err(fail)?;
    }
    std::fs::create_dir_all(folder).map_err(fail)?;
    std::fs::write(folder.join(MARK), "").map_err(fail)
}

/// Data, configurations and a running server.
pub(crate) fn prepare(options: &Options, teller: &mut Teller) -> Result<World, String> {
    teller.chapter("The stage");
    let slice = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/fashion-mnist");
    let training = images::parquet(&slice.join("train.parquet")).map_err(|error| chain(&error))?;
    let (training, traffic) = pool(training, options.full_data.as_deref())?;
    let test = images::parquet(&slice.join("test.parquet")).map_err(|error| chain(&error))?;
    let others = match &options.full_data {
        Some(_) => "images of the whole set that are in neither",
        None => "images of the slice that are in neither",
    };
    teller.say(format!(
        "data: a slice of Fashion-MNIST, {} images to train on and {} to test on; {} {others} play \
         the traffic",
        training.len(),
        test.len(),
        traffic.len()
    ));
    let data = options.folder.join("data");
    std::fs::create_dir_all(&data).map_err(|error| error.to_string())?;
    write_images(&data.join("train.parquet"), &training)?;
    write_images(&data.join("test.parquet"), &test)?;
    let world = World::new(&options.folder, traffic)?;
    // Windows of a few hundred rows, and references as small, cannot be as sure as the shipped budget asks.
    let is_small = options.quick || options.full_data.is_none();
    let false_alarms = if is_small { "100" } else { "1" };
    let changes = [
        (
            "monitoring_config.yaml",
            "false_alarms_per_month: 1 ",
            format!("false_alarms_per_month: {false_alarms} "),
        ),
        ("training_config.yaml", "../tests/data/fashion-mnist/", "../data/".to_owned()),
        ("training_config.yaml", "first_model: refuse", "first_model: allow".to_owned()),
        ("training_config.yaml", "epochs: 8", format!("epochs: {}", options.epochs())),
        ("training_config.yaml", "accuracy_floor: 0.8", "accuracy_floor: 0.7".to_owned()),
        (
            "retrain_config.yaml",
            "windows: {at_least: 2, of_windows: 3}",
            "windows: {at_least: 1, of_windows: 1}".to_owned(),
        ),
        ("deployment_config.yaml", " http://127.0.0.1:8080", format!(" {}", world.server.url())),
        (
            "deployment_config.yaml",
            " http://127.0.0.1:8081",
            format!(" {}", world.server.admin_url()),
        ),
    ];
    configs::write(&options.folder.join("configs"), &changes).map_err(|error| chain(&error))?;
    teller.say(format!("model_server listens at {}", world.server.url()));
    teller.say(format!("configurations: {}", options.folder.join("configs").display()));
    Ok(world)
}

fn write_images(path: &Path, images: &[images::Labelled]) -> Result<(), String> {
    let spec = images.first().ok_or("no images")?.pixels.spec();
    let mut classes: Vec<String> = images.iter().map(|image| image.class.clone()).collect();
    classes.sort();
    classes.dedup();
    let mut dataset = Dataset::new(spec, classes.clone());
    for (number, image) in images.iter().enumerate() {
        let label = classes.iter().position(|class| *class == image.class).unwrap_or_default();
        // In this story every picture comes from one of two sites, as the requests do.
        let site = SITES[number % SITES.len()].to_owned();
        let attributes = [("site".to_owned(), site)].into();
        let sample = Sample { id: image.id.clone(), label, attributes };
        dataset.push(sample, &image.pixels);
    }
    write_parquet(path, &dataset).map_err(|error| chain(&error))
}

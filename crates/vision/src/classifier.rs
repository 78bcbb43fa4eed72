//! A trained model version in memory: read from its folder, answering for images.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;
use mloop_core::Sha256Digest;
use mloop_core::version::files;
use serde::{Deserialize, Serialize};

use crate::dense::Dense;
use crate::features::features_of;
use crate::network::{Architecture, InvalidNetwork, Network, Normalisation, read};
use crate::pixels::{InputError, InputSpec, Pixels};
use crate::version::{LoadError, read_version, verified_manifest};
use crate::weights::{self, Weights};

/// `format` of the model files that this code writes and reads.
pub(crate) const MODEL_FORMAT: &str = "mloop.vision/1";

/// Images that go through the network together: bounds memory, and more gain no speed.
const CHUNK: usize = 64;

/// Content of [`files::MODEL`]: everything about a model but its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// `mloop.vision/1`.
    pub format: String,
    /// The network.
    pub architecture: Architecture,
    /// Images it takes.
    pub input: InputSpec,
    /// Names of the classes; index = number of the class.
    pub classes: Vec<String>,
    /// How pixels are scaled before they enter the network.
    pub normalisation: Normalisation,
}

impl ModelFile {
    /// The two files that a classifier needs, by name.
    pub(crate) fn files(&self, weights: &Weights) -> BTreeMap<String, Vec<u8>> {
        let json = serde_json::to_vec_pretty(self).expect("string keys and finite numbers");
        BTreeMap::from([
            (files::MODEL.to_owned(), json),
            (files::WEIGHTS.to_owned(), weights::encode(weights)),
        ])
    }
}

/// The answer for one image.
#[derive(Debug, Clone, PartialEq)]
pub struct Classification {
    /// Index of the most probable class; the lowest one of equals.
    pub class: usize,
    /// Its probability, 0 to 1.
    pub confidence: f64,
    /// A probability for each class; they sum to 1.
    pub probabilities: Vec<f64>,
    /// Activations of the hidden layer, each 0 or more.
    pub embedding: Vec<f32>,
    /// [`FEATURES`](crate::features::FEATURES) of the image.
    pub features: BTreeMap<String, f64>,
}

/// A model version, loaded. Cheap to share by reference between threads.
#[derive(Debug)]
pub struct Classifier {
    model: ModelFile,
    network: Network,
    hidden: Dense,
    output: Dense,
    device: Device,
    digest: Sha256Digest,
}

impl Classifier {
    /// Reads a version's folder. The digest is computed from the very bytes that are used.
    ///
    /// # Errors
    /// [`LoadError`] when the folder is incomplete or damaged: one changed byte of any file that
    /// `manifest.json` lists is enough.
    pub fn load(dir: &Path) -> Result<Self, LoadError> {
        Self::from_bytes(&read_version(dir)?)
    }

    /// Builds a classifier from the files of a version, by relative path.
    ///
    /// # Errors
    /// As [`Classifier::load`].
    pub fn from_bytes(files: &BTreeMap<String, Vec<u8>>) -> Result<Self, LoadError> {
        let manifest = verified_manifest(files)?;
        let bytes = |name| files.get(name).ok_or(LoadError::Missing(name));
        let model: ModelFile = serde_json::from_slice(bytes(files::MODEL)?)
            .map_err(|source| LoadError::Unreadable { file: files::MODEL, source })?;
        if model.format != MODEL_FORMAT {
            return Err(LoadError::UnknownFormat(model.format));
        }
        let weights = weights::decode(bytes(files::WEIGHTS)?).map_err(LoadError::Weights)?;
        Self::new(model, &weights, manifest.digest()).map_err(LoadError::Network)
    }

    pub(crate) fn new(
        model: ModelFile,
        weights: &Weights,
        digest: Sha256Digest,
    ) -> Result<Self, InvalidNetwork> {
        model.normalisation.validate(model.input.channels)?;
        let device = Device::flex();
        let classes = model.classes.len();
        let network = Network::new(&model.architecture, model.input, classes, weights, &device)?;
        let hidden = Dense::new(&weights["hidden.weight"], &weights["hidden.bias"]);
        let output = Dense::new(&weights["output.weight"], &weights["output.bias"]);
        Ok(Self { model, network, hidden, output, device, digest })
    }

    /// Digest of the version: of the manifest of all files that were read.
    #[must_use]
    pub fn digest(&self) -> Sha256Digest {
        self.digest
    }

    /// Names of the classes; index = number of the class.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.model.classes
    }

    /// Images it takes.
    #[must_use]
    pub fn input(&self) -> InputSpec {
        self.model.input
    }

    /// The description of the model.
    #[must_use]
    pub fn model(&self) -> &ModelFile {
        &self.model
    }

    /// Decodes the body of a request into an image of the right size; see
    /// [`Pixels::decode_body`] for what is read.
    ///
    /// # Errors
    /// [`InputError`], whose text may be shown to the caller.
    pub fn decode(&self, content_type: &str, body: &[u8]) -> Result<Pixels, InputError> {
        Pixels::decode_body(content_type, body, self.model.input)
    }

    /// Classifies images, in order. CPU work of a fraction of a millisecond an image: call it
    /// where blocking is allowed.
    ///
    /// # Panics
    /// When an image does not have the size of [`Classifier::input`], which
    /// [`Classifier::decode`] guarantees.
    #[must_use]
    pub fn classify(&self, images: &[Pixels]) -> Vec<Classification> {
        let spec = self.model.input;
        assert!(images.iter().all(|image| image.spec() == spec), "images of {spec} are needed");
        let images: Vec<&[u8]> = images.iter().map(Pixels::data).collect();
        self.classify_raw(&images)
    }

    /// As [`Classifier::classify`], for intensities of the right number.
    pub(crate) fn classify_raw(&self, images: &[&[u8]]) -> Vec<Classification> {
        images.chunks(CHUNK).flat_map(|chunk| self.classify_chunk(chunk)).collect()
    }

    fn classify_chunk(&self, images: &[&[u8]]) -> Vec<Classification> {
        let model = &self.model;
        let input = model.normalisation.tensor(images.iter().copied(), model.input, &self.device);
        let flat = read(self.network.convolve(input));
        let rows = flat.chunks(flat.len() / images.len());
        images.iter().zip(rows).map(|(image, row)| self.answer(image, row)).collect()
    }

    fn answer(&self, image: &[u8], flat: &[f32]) -> Classification {
        let mut embedding = self.hidden.forward(flat);
        embedding.iter_mut().for_each(|value| *value = value.max(0.0));
        let probabilities = softmax(&self.output.forward(&embedding));
        let class = arg_max(&probabilities);
        let confidence = probabilities[class];
        let features = features_of(self.model.input, image);
        Classification { class, confidence, probabilities, embedding, features }
    }
}

/// Probabilities from logits, in f64 so that they sum to 1 within rounding.
fn softmax(logits: &[f32]) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> =
        logits.iter().map(|logit| (f64::from(*logit) - f64::from(highest)).exp()).collect();
    let total: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / total).collect()
}

fn arg_max(values: &[f64]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = index;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use mloop_core::Manifest;

    use super::*;
    use crate::random::Random;

    type Files = BTreeMap<String, Vec<u8>>;

    const SPEC: InputSpec = InputSpec { channels: 1, height: 28, width: 28 };

    fn version(spec: InputSpec) -> Files {
        let architecture = Architecture::default();
        let weights = architecture.initial_weights(spec, 10, 3);
        let normalisation =
            Normalisation { mean: vec![0.3; spec.channels], deviation: vec![0.4; spec.channels] };
        let classes = (0..10).map(|class| format!("class-{class}")).collect();
        let format = MODEL_FORMAT.to_owned();
        ModelFile { format, architecture, input: spec, classes, normalisation }.files(&weights)
    }

    fn images(spec: InputSpec, count: usize) -> Vec<Pixels> {
        let mut random = Random::of(&[5]);
        let mut image = || {
            let data = (0..spec.len()).map(|_| random.below(256) as u8).collect();
            Pixels::new(spec, data).expect("fits")
        };
        (0..count).map(|_| image()).collect()
    }

    fn write(dir: &Path, files: &Files) {
        for (path, bytes) in files {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().expect("has a parent")).expect("creates");
            std::fs::write(path, bytes).expect("writes");
        }
    }

    #[test]
    fn an_answer_does_not_depend_on_its_batch() {
        for spec in [SPEC, InputSpec { channels: 3, height: 17, width: 23 }] {
            let classifier = Classifier::from_bytes(&version(spec)).expect("loads");
            let images = images(spec, 150);
            let alone: Vec<_> = images
                .iter()
                .flat_map(|image| classifier.classify(std::slice::from_ref(image)))
                .collect();
            for size in [2, 3, 5, 8, 17, 64, 65, 150] {
                let together = images.chunks(size).flat_map(|batch| classifier.classify(batch));
                let differ = together.zip(&alone).filter(|(one, other)| one != *other).count();
                assert_eq!(differ, 0, "of 150 answers, in batches of {size}");
            }
        }
    }

    #[test]
    fn threads_share_a_classifier_and_get_the_same_answers() {
        let classifier = Classifier::from_bytes(&version(SPEC)).expect("loads");
        let images = images(SPEC, 20);
        let alone = classifier.classify(&images);
        std::thread::scope(|scope| {
            let ask = || (0..5).all(|_| classifier.classify(&images) == alone);
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            for thread in threads {
                assert!(thread.join().expect("no panic"), "another answer");
            }
        });
    }

    #[test]
    fn probabilities_sum_to_one_and_confidence_is_the_highest() {
        let classifier = Classifier::from_bytes(&version(SPEC)).expect("loads");
        for answer in classifier.classify(&images(SPEC, 3)) {
            assert!((answer.probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            let highest = answer.probabilities.iter().copied().fold(0.0, f64::max);
            assert_eq!(answer.confidence.to_bits(), highest.to_bits());
            assert_eq!(answer.embedding.len(), 64);
            assert!(answer.embedding.iter().any(|value| *value > 0.0));
        }
    }

    #[test]
    fn a_folder_gives_the_digest_of_its_bytes() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut files = version(SPEC);
        files.insert("reference/profile.json".to_owned(), b"{}".to_vec());
        write(folder.path(), &files);
        let bytes = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
        let manifest = Manifest::of_bytes(bytes).expect("plain names");
        let classifier = Classifier::load(folder.path()).expect("loads");
        assert_eq!(classifier.digest(), manifest.digest());

        let json = serde_json::to_vec(&manifest).expect("serialises");
        write(folder.path(), &BTreeMap::from([(files::MANIFEST.to_owned(), json)]));
        let with_manifest = Classifier::load(folder.path()).expect("loads");
        assert_eq!(with_manifest.digest(), manifest.digest());
    }

    #[test]
    fn one_flipped_byte_is_found_and_named() {
        let mut files = version(SPEC);
        files.insert("metrics.json".to_owned(), b"{}".to_vec());
        let bytes = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
        let manifest = Manifest::of_bytes(bytes).expect("plain names");
        let json = serde_json::to_vec(&manifest).expect("serialises");
        files.insert(files::MANIFEST.to_owned(), json);
        assert!(Classifier::from_bytes(&files).is_ok());
        for path in [files::WEIGHTS, files::MODEL, "metrics.json"] {
            let mut damaged = files.clone();
            *damaged.get_mut(path).and_then(|bytes| bytes.last_mut()).expect("not empty") ^= 1;
            let error = Classifier::from_bytes(&damaged).expect_err("refused").to_string();
            assert!(error.contains(&format!("`{path}` differs from manifest.json")), "{error}");
        }
        let mut extra = files.clone();
        extra.insert("more".to_owned(), Vec::new());
        let error = Classifier::from_bytes(&extra).expect_err("refused").to_string();
        assert!(error.contains("`more` is not listed"), "{error}");
        files.remove("metrics.json");
        let error = Classifier::from_bytes(&files).expect_err("refused").to_string();
        assert!(error.contains("`metrics.json` is listed in manifest.json and missing"), "{error}");
    }

    #[test]
    fn incomplete_and_foreign_versions_are_refused_with_a_reason() {
        let reason = |change: &dyn Fn(&mut Files)| {
            let mut files = version(SPEC);
            change(&mut files);
            let error = Classifier::from_bytes(&files).expect_err("refused");
            mloop_core::error_chain(&error)
        };
        let no_weights = reason(&|files| drop(files.remove(files::WEIGHTS)));
        assert!(no_weights.contains("no `model.safetensors`"), "{no_weights}");
        let edit = |from: &'static str, to: &'static str| {
            move |files: &mut Files| {
                let model = files.get_mut(files::MODEL).expect("there");
                *model = String::from_utf8_lossy(model).replacen(from, to, 1).into_bytes();
            }
        };
        let old = reason(&edit("mloop.vision/1", "mloop.vision/9"));
        assert!(old.contains("format `mloop.vision/9`"), "{old}");
        let wider = reason(&edit("64", "65"));
        assert!(wider.contains("weight `hidden.weight` has shape [1568, 64]"), "{wider}");
        let huge = reason(&edit("28", "99999"));
        assert!(huge.contains("not supported"), "{huge}");
        let nan = reason(&|files| {
            let weights = files.get_mut(files::WEIGHTS).expect("there");
            let end = weights.len() - 4;
            weights[end..].copy_from_slice(&f32::NAN.to_le_bytes());
        });
        assert!(nan.contains("weight `output.weight` holds a value that is no number"), "{nan}");
        let gone = Classifier::load(Path::new("/no/such/folder")).expect_err("refused");
        assert!(gone.to_string().contains("/no/such/folder"));
    }
}

//! Labelled images of one size, in memory.

use std::collections::BTreeMap;

use mloop_core::Sha256Digest;

use super::DataError;
use crate::pixels::{InputSpec, Pixels};

/// What is known of one image besides its pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Names the image within its source.
    pub id: String,
    /// Index of its class.
    pub label: usize,
    /// Whatever else was recorded, such as the site of the camera.
    pub attributes: BTreeMap<String, String>,
}

/// Labelled images of one size.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    spec: InputSpec,
    classes: Vec<String>,
    samples: Vec<Sample>,
    pixels: Vec<u8>,
}

impl Dataset {
    /// A set without images.
    #[must_use]
    pub fn new(spec: InputSpec, classes: Vec<String>) -> Self {
        Self { spec, classes, samples: Vec::new(), pixels: Vec::new() }
    }

    /// Adds an image.
    ///
    /// # Panics
    /// When the image has another size or the label is no class; readers check both.
    pub fn push(&mut self, sample: Sample, image: &Pixels) {
        assert!(image.spec() == self.spec, "an image of another size");
        assert!(sample.label < self.classes.len(), "a label that is no class");
        self.samples.push(sample);
        self.pixels.extend_from_slice(image.data());
    }

    /// Adds all images of another set of the same size and classes.
    ///
    /// # Errors
    /// [`DataError::Mismatch`], naming `place`, when they differ.
    pub fn append(&mut self, other: Self, place: &str) -> Result<(), DataError> {
        let mismatch = |problem| Err(DataError::Mismatch { place: place.to_owned(), problem });
        if other.spec != self.spec {
            return mismatch(format!("images of {}, the others are {}", other.spec, self.spec));
        }
        if other.classes != self.classes {
            return mismatch(format!(
                "classes {}, the others have {}",
                other.classes.join(", "),
                self.classes.join(", ")
            ));
        }
        self.samples.extend(other.samples);
        self.pixels.extend(other.pixels);
        Ok(())
    }

    /// Number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there is no image.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Size and colour of every image.
    #[must_use]
    pub fn spec(&self) -> InputSpec {
        self.spec
    }

    /// Names of the classes; index = label.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// What is known of the images, in order.
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Intensities of the image at `index`, which must be below [`Dataset::len`].
    #[must_use]
    pub fn image(&self, index: usize) -> &[u8] {
        let len = self.spec.len();
        &self.pixels[index * len..][..len]
    }

    /// The image at `index`, which must be below [`Dataset::len`].
    #[must_use]
    pub fn pixels(&self, index: usize) -> Pixels {
        Pixels::new(self.spec, self.image(index).to_vec()).expect("every image fits the size")
    }

    /// Images of each class, by label.
    #[must_use]
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for sample in &self.samples {
            counts[sample.label] += 1;
        }
        counts
    }

    /// The images at these places, in the order of the places.
    #[must_use]
    pub fn subset(&self, places: &[usize]) -> Self {
        Self {
            spec: self.spec,
            classes: self.classes.clone(),
            samples: places.iter().map(|place| self.samples[*place].clone()).collect(),
            pixels: places.iter().flat_map(|place| self.image(*place)).copied().collect(),
        }
    }

    /// Digest of size, classes, labels and pixels in order. Ids and attributes do not enter, so
    /// that equal images have one digest from whatever format they are read.
    #[must_use]
    pub fn digest(&self) -> Sha256Digest {
        let labels: Vec<u8> =
            self.samples.iter().flat_map(|sample| (sample.label as u64).to_le_bytes()).collect();
        let parts = (
            "mloop.dataset/1",
            self.spec,
            &self.classes,
            Sha256Digest::of(&labels),
            Sha256Digest::of(&self.pixels),
        );
        Sha256Digest::of_json(&parts).expect("texts and numbers serialise to JSON")
    }
}

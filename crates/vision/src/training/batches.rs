//! Which images a step sees, and what is done to them: a pure function of seed, epoch and step.

use std::borrow::Cow;

use burn::tensor::{Device, Tensor, TensorData};

use super::config::{Augmentation, ClassWeights};
use super::fit::Fit;
use crate::pixels::InputSpec;
use crate::random::Random;

/// What the streams of random numbers are for.
const ORDER: u64 = 2;
const CHANGES: u64 = 3;
const DROPOUT: u64 = 4;

/// Parts of a batch that are worked on at the same time. Constant, whatever the number of cores:
/// sums depend in their last digit on how they are split, and weights must not depend on the
/// machine.
const SHARDS: usize = 2;

/// Images and targets of one part of a step.
pub(super) struct Shard {
    pub(super) images: Tensor<4>,
    /// Target probabilities times the weight of the image, over the sum of all weights:
    /// `[images, classes]`, so that the loss is minus the sum of its product with the
    /// log-probabilities.
    pub(super) targets: Tensor<2>,
    /// Factors of the hidden units, when there is dropout: `[images, hidden_units]`.
    pub(super) dropout: Option<Tensor<2>>,
}

/// Makes the batches of a run.
pub(super) struct Batches<'a> {
    fit: &'a Fit<'a>,
    device: &'a Device,
    /// What an image of each class counts.
    class_weights: Vec<f32>,
}

impl<'a> Batches<'a> {
    pub(super) fn new(fit: &'a Fit<'a>, device: &'a Device) -> Self {
        let counts = fit.train.class_counts();
        let share = fit.train.len() as f32 / counts.len() as f32;
        let weight = |count: usize| match fit.config.class_weights {
            ClassWeights::None => 1.0,
            ClassWeights::Balanced => share / count.max(1) as f32,
        };
        Self { fit, device, class_weights: counts.into_iter().map(weight).collect() }
    }

    pub(super) fn device(&self) -> &Device {
        self.device
    }

    /// Steps of one epoch.
    pub(super) fn per_epoch(&self) -> usize {
        self.fit.train.len().div_ceil(self.fit.config.batch_size)
    }

    /// Places of all images in the order of an epoch.
    pub(super) fn order(&self, epoch: usize) -> Vec<usize> {
        let mut places: Vec<usize> = (0..self.fit.train.len()).collect();
        Random::of(&[ORDER, self.fit.config.seed, epoch as u64]).shuffle(&mut places);
        places
    }

    /// The step `step` of an epoch, which sees the images at `places`.
    pub(super) fn shards(&self, places: &[usize], epoch: usize, step: usize) -> Vec<Shard> {
        let total = places.iter().map(|place| self.class_weights[self.label(*place)]).sum();
        let mut random = Random::of(&[DROPOUT, self.fit.config.seed, step as u64]);
        let shard = |places: &[usize]| Shard {
            images: self.images(places, epoch),
            targets: self.targets(places, total),
            dropout: self.dropout(places.len(), &mut random),
        };
        places.chunks(places.len().div_ceil(SHARDS)).map(shard).collect()
    }

    fn label(&self, place: usize) -> usize {
        self.fit.train.samples()[place].label
    }

    fn images(&self, places: &[usize], epoch: usize) -> Tensor<4> {
        let spec = self.fit.train.spec();
        let change = |place: &usize| {
            let parts = [CHANGES, self.fit.config.seed, epoch as u64, *place as u64];
            let image = self.fit.train.image(*place);
            augment(image, spec, self.fit.config.augmentation, Random::of(&parts))
        };
        let changed: Vec<Cow<'_, [u8]>> = places.iter().map(change).collect();
        self.fit.normalisation.tensor(changed.iter().map(Cow::as_ref), spec, self.device)
    }

    fn targets(&self, places: &[usize], total: f32) -> Tensor<2> {
        let classes = self.fit.train.classes().len();
        let smoothing = self.fit.config.label_smoothing;
        let mut values = vec![0.0; places.len() * classes];
        for (row, place) in values.chunks_exact_mut(classes).zip(places) {
            let weight = self.class_weights[self.label(*place)] / total;
            row.fill(weight * smoothing / classes as f32);
            row[self.label(*place)] += weight * (1.0 - smoothing);
        }
        Tensor::from_data(TensorData::new(values, [places.len(), classes]), self.device)
    }

    /// 0 for silenced units, 1 / (1 - share) for the others, so that the mean stays.
    fn dropout(&self, images: usize, random: &mut Random) -> Option<Tensor<2>> {
        let share = self.fit.architecture.dropout;
        if share == 0.0 {
            return None;
        }
        let shape = [images, self.fit.architecture.hidden_units];
        let mut factor = || if random.unit() < share { 0.0 } else { 1.0 / (1.0 - share) };
        let values: Vec<f32> = (0..shape[0] * shape[1]).map(|_| factor()).collect();
        Some(Tensor::from_data(TensorData::new(values, shape), self.device))
    }
}

fn augment(
    image: &[u8],
    spec: InputSpec,
    changes: Augmentation,
    mut random: Random,
) -> Cow<'_, [u8]> {
    let flip = changes.horizontal_flip && random.below(2) == 1;
    let reach = changes.max_shift_pixels;
    let mut shift = || random.below(2 * reach + 1) as isize - reach as isize;
    let (down, right) = (shift(), shift());
    if !flip && (down, right) == (0, 0) {
        return Cow::Borrowed(image);
    }
    let mut changed = vec![0; image.len()];
    for row in 0..spec.height {
        for column in 0..spec.width {
            let from_row = row.checked_add_signed(-down).filter(|row| *row < spec.height);
            let from = column.checked_add_signed(-right).filter(|column| *column < spec.width);
            let (Some(from_row), Some(from)) = (from_row, from) else { continue };
            let from = if flip { spec.width - 1 - from } else { from };
            let (to, from) = (row * spec.width + column, from_row * spec.width + from);
            let (to, from) = (to * spec.channels, from * spec.channels);
            changed[to..to + spec.channels].copy_from_slice(&image[from..from + spec.channels]);
        }
    }
    Cow::Owned(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: InputSpec = InputSpec { channels: 1, height: 2, width: 3 };

    #[test]
    fn augmentation_moves_and_mirrors_and_nothing_else() {
        let image = [1, 2, 3, 4, 5, 6];
        let none = Augmentation::default();
        for seed in 0..20 {
            assert_eq!(augment(&image, SPEC, none, Random::of(&[seed])), image.as_slice());
        }
        let flip = Augmentation { horizontal_flip: true, max_shift_pixels: 0 };
        let mut seen = [0, 0];
        for seed in 0..200 {
            let changed = augment(&image, SPEC, flip, Random::of(&[seed]));
            let mirrored = changed.as_ref() == [3, 2, 1, 6, 5, 4];
            assert!(mirrored || changed.as_ref() == image);
            seen[usize::from(mirrored)] += 1;
        }
        assert!(seen.iter().all(|count| *count > 60), "{seen:?}");
        let shift = Augmentation { horizontal_flip: false, max_shift_pixels: 1 };
        let all: std::collections::BTreeSet<Vec<u8>> = (0..200)
            .map(|seed| augment(&image, SPEC, shift, Random::of(&[seed])).into_owned())
            .collect();
        assert_eq!(all.len(), 9);
        assert!(all.contains(&vec![0, 0, 0, 0, 1, 2]), "one down, one right");
        assert!(all.contains(&vec![5, 6, 0, 0, 0, 0]), "one up, one left");
    }
}

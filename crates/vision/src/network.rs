//! The convolutional network: its description, its initial weights, and the way through it.

use burn::module::{Module, Param, ParamId};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Device, Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::Dataset;
use crate::pixels::InputSpec;
use crate::random::Random;
use crate::weights::{NamedTensor, Weights};

/// Most stages, channels and units that a configuration may ask for.
const MAX_STAGES: usize = 8;
const MAX_WIDTH: usize = 4096;

/// Most classes.
pub(crate) const MAX_CLASSES: usize = 4096;

/// Kinds of networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ArchitectureKind {
    /// Stages of 3x3 convolution, rectifier and 2x2 maximum pooling; one hidden layer; classes.
    Cnn,
}

/// The shape of a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// Kind of network.
    pub kind: ArchitectureKind,
    /// Output channels of each convolution stage, 1 to 8 stages; each stage halves the image.
    pub channels: Vec<usize>,
    /// Units of the hidden layer, whose activations are the embedding.
    pub hidden_units: usize,
    /// Share of hidden units silenced in each training step, 0 up to but not including 1.
    #[serde(default)]
    pub dropout: f32,
}

impl Default for Architecture {
    fn default() -> Self {
        Self { kind: ArchitectureKind::Cnn, channels: vec![16, 32], hidden_units: 64, dropout: 0.0 }
    }
}

/// A description that no network can be built from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the network cannot be built: {0}")]
pub struct InvalidNetwork(pub(crate) String);

impl Architecture {
    /// Checks the numbers against each other and against the images.
    ///
    /// # Errors
    /// [`InvalidNetwork`] with the first problem.
    pub fn validate(&self, input: InputSpec, classes: usize) -> Result<(), InvalidNetwork> {
        let fail = |problem: String| Err(InvalidNetwork(problem));
        let in_range = |width: usize| (1..=MAX_WIDTH).contains(&width);
        if !input.is_supported() {
            return fail(format!("images of {input} are not supported"));
        }
        if !(1..=MAX_STAGES).contains(&self.channels.len()) {
            return fail(format!("`channels` must name 1 to {MAX_STAGES} stages"));
        }
        if !self.channels.iter().chain([&self.hidden_units]).all(|width| in_range(*width)) {
            return fail(format!("`channels` and `hidden_units` must be 1 to {MAX_WIDTH}"));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return fail("`dropout` must be at least 0 and below 1".to_owned());
        }
        if !(2..=MAX_CLASSES).contains(&classes) {
            return fail(format!("{classes} classes, 2 to {MAX_CLASSES} are supported"));
        }
        let stages = self.channels.len();
        if input.height.min(input.width) >> stages == 0 {
            return fail(format!("images of {input} are too small to be halved {stages} times"));
        }
        Ok(())
    }

    /// Values that enter the hidden layer.
    fn flat_len(&self, input: InputSpec) -> usize {
        let stages = self.channels.len();
        let last = self.channels.last().copied().unwrap_or(input.channels);
        last * (input.height >> stages) * (input.width >> stages)
    }

    /// Names and shapes of all parameters, in a fixed order.
    fn parameters(&self, input: InputSpec, classes: usize) -> Vec<(String, Vec<usize>)> {
        let mut list = Vec::new();
        let mut from = input.channels;
        for (stage, to) in self.channels.iter().enumerate() {
            list.push((format!("conv.{stage}.weight"), vec![*to, from, 3, 3]));
            list.push((format!("conv.{stage}.bias"), vec![*to]));
            from = *to;
        }
        let flat = self.flat_len(input);
        list.push(("hidden.weight".to_owned(), vec![flat, self.hidden_units]));
        list.push(("hidden.bias".to_owned(), vec![self.hidden_units]));
        list.push(("output.weight".to_owned(), vec![self.hidden_units, classes]));
        list.push(("output.bias".to_owned(), vec![classes]));
        list
    }

    /// Weights to begin training with, a pure function of the seed: uniform within
    /// ±sqrt(6 / inputs) (He et al. 2015, <https://arxiv.org/abs/1502.01852>), biases zero.
    pub(crate) fn initial_weights(&self, input: InputSpec, classes: usize, seed: u64) -> Weights {
        const PURPOSE: u64 = 1;
        let mut random = Random::of(&[PURPOSE, seed]);
        let fill = |(name, shape): (String, Vec<usize>)| {
            let bound = match shape.as_slice() {
                [inputs, _] => he_bound(*inputs),
                [_, channels, height, width] => he_bound(channels * height * width),
                _ => 0.0,
            };
            let count = shape.iter().product();
            let values = (0..count).map(|_| (2.0 * random.unit() - 1.0) * bound).collect();
            (name, NamedTensor { shape, values })
        };
        self.parameters(input, classes).into_iter().map(fill).collect()
    }
}

fn he_bound(inputs: usize) -> f32 {
    (6.0 / inputs as f32).sqrt()
}

/// A network with weights, on a device.
#[derive(Module, Debug)]
pub(crate) struct Network {
    conv: Vec<Conv2d>,
    hidden: Linear,
    output: Linear,
}

impl Network {
    /// Builds the network; on an autodiff device its weights can be trained.
    ///
    /// # Errors
    /// [`InvalidNetwork`] when the weights are not those of this architecture.
    pub(crate) fn new(
        architecture: &Architecture,
        input: InputSpec,
        classes: usize,
        weights: &Weights,
        device: &Device,
    ) -> Result<Self, InvalidNetwork> {
        architecture.validate(input, classes)?;
        let wanted = architecture.parameters(input, classes);
        for (name, shape) in &wanted {
            match weights.get(name) {
                Some(tensor) if tensor.values.iter().any(|value| !value.is_finite()) => {
                    return Err(InvalidNetwork(format!(
                        "weight `{name}` holds a value that is no number"
                    )));
                }
                Some(tensor) if tensor.shape == *shape => {}
                Some(tensor) => {
                    let got = &tensor.shape;
                    return Err(InvalidNetwork(format!(
                        "weight `{name}` has shape {got:?} where {shape:?} is needed"
                    )));
                }
                None => return Err(InvalidNetwork(format!("weight `{name}` is missing"))),
            }
        }
        if weights.len() > wanted.len() {
            let mut extra = weights.keys().filter(|name| wanted.iter().all(|w| w.0 != **name));
            let extra = extra.next().map_or("", String::as_str);
            return Err(InvalidNetwork(format!("weight `{extra}` has no place in it")));
        }
        Ok(Self::assemble(architecture, input, classes, &Parameters { weights, device }))
    }

    fn assemble(
        architecture: &Architecture,
        input: InputSpec,
        classes: usize,
        parameters: &Parameters<'_>,
    ) -> Self {
        let device = parameters.device;
        let mut conv = Vec::new();
        let mut from = input.channels;
        for (stage, to) in architecture.channels.iter().enumerate() {
            let config = Conv2dConfig::new([from, *to], [3, 3])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1));
            let mut layer = config.init(device);
            layer.weight = parameters.get(&format!("conv.{stage}.weight"));
            layer.bias = Some(parameters.get(&format!("conv.{stage}.bias")));
            conv.push(layer);
            from = *to;
        }
        let linear = |name: &str, from, to| {
            let mut layer = LinearConfig::new(from, to).init(device);
            layer.weight = parameters.get(&format!("{name}.weight"));
            layer.bias = Some(parameters.get(&format!("{name}.bias")));
            layer
        };
        let hidden = linear("hidden", architecture.flat_len(input), architecture.hidden_units);
        let output = linear("output", architecture.hidden_units, classes);
        Self { conv, hidden, output }
    }

    /// What the convolutions make of `[images, channels, height, width]`: `[images, values]`.
    pub(crate) fn convolve(&self, images: Tensor<4>) -> Tensor<2> {
        let stage =
            |x, layer: &Conv2d| max_pool2d(relu(layer.forward(x)), MaxPoolOptions::new([2, 2]));
        self.conv.iter().fold(images, stage).flatten(1, 3)
    }

    /// Activations of the hidden layer, `[images, hidden_units]`.
    pub(crate) fn embed(&self, images: Tensor<4>) -> Tensor<2> {
        relu(self.hidden.forward(self.convolve(images)))
    }

    /// Unscaled log-probabilities, `[images, classes]`, for embeddings.
    pub(crate) fn logits(&self, embeddings: Tensor<2>) -> Tensor<2> {
        self.output.forward(embeddings)
    }

    /// The weights by name.
    pub(crate) fn weights(&self) -> Weights {
        let mut weights = Weights::new();
        for (stage, layer) in self.conv.iter().enumerate() {
            put(&mut weights, format!("conv.{stage}.weight"), &layer.weight);
            put_bias(&mut weights, format!("conv.{stage}.bias"), layer.bias.as_ref());
        }
        for (name, layer) in [("hidden", &self.hidden), ("output", &self.output)] {
            put(&mut weights, format!("{name}.weight"), &layer.weight);
            put_bias(&mut weights, format!("{name}.bias"), layer.bias.as_ref());
        }
        weights
    }
}

fn put<const D: usize>(weights: &mut Weights, name: String, parameter: &Param<Tensor<D>>) {
    let tensor = parameter.val();
    let shape = tensor.dims().to_vec();
    let values = read(tensor);
    weights.insert(name, NamedTensor { shape, values });
}

fn put_bias(weights: &mut Weights, name: String, bias: Option<&Param<Tensor<1>>>) {
    if let Some(bias) = bias {
        put(weights, name, bias);
    }
}

/// The values of a tensor on the CPU.
pub(crate) fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as::<f32>().expect("a float tensor in main memory is readable as f32")
}

/// Turns checked weights into parameters.
struct Parameters<'a> {
    weights: &'a Weights,
    device: &'a Device,
}

impl Parameters<'_> {
    /// The parameter's id is its place in the alphabet, not burn's random one: the optimizer's
    /// state is stored under it and must be found again after a restart.
    fn get<const D: usize>(&self, name: &str) -> Param<Tensor<D>> {
        let place = self.weights.keys().position(|key| key == name).expect("checked by the caller");
        let tensor = &self.weights[name];
        let data = TensorData::new(tensor.values.clone(), tensor.shape.clone());
        let value = Tensor::from_data(data, self.device);
        let value = if self.device.is_autodiff() { value.require_grad() } else { value };
        Param::initialized(ParamId::from(place as u64), value)
    }
}

/// Mean and standard deviation that pixels over 255 are normalised with, a value a channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalisation {
    /// Mean intensity of each channel, 0 to 1.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel, above 0.
    pub deviation: Vec<f32>,
}

impl Normalisation {
    /// Mean and deviation of all pixels of a set, which must not be empty.
    pub(crate) fn of(dataset: &Dataset) -> Self {
        let spec = dataset.spec();
        let mut sums = vec![(0_u64, 0_u64); spec.channels];
        for place in 0..dataset.len() {
            for pixel in dataset.image(place).chunks_exact(spec.channels) {
                for (sums, value) in sums.iter_mut().zip(pixel) {
                    sums.0 += u64::from(*value);
                    sums.1 += u64::from(*value).pow(2);
                }
            }
        }
        let count = (dataset.len() * spec.height * spec.width) as f64;
        let mean = |sums: &(u64, u64)| sums.0 as f64 / count / 255.0;
        let deviation = |sums: &(u64, u64)| {
            let variance = sums.1 as f64 / count / (255.0 * 255.0) - mean(sums).powi(2);
            // Images of one colour throughout still need a scale.
            if variance > 1e-6 { variance.sqrt() as f32 } else { 1.0 }
        };
        Self {
            mean: sums.iter().map(|sums| mean(sums) as f32).collect(),
            deviation: sums.iter().map(deviation).collect(),
        }
    }

    /// Checks that there is a usable pair for each channel.
    pub(crate) fn validate(&self, channels: usize) -> Result<(), InvalidNetwork> {
        let lengths_fit = self.mean.len() == channels && self.deviation.len() == channels;
        let finite = self.mean.iter().all(|mean| mean.is_finite());
        let positive = self.deviation.iter().all(|value| value.is_finite() && *value > 0.0);
        if lengths_fit && finite && positive {
            return Ok(());
        }
        Err(InvalidNetwork(format!(
            "`normalisation` needs {channels} means and deviations above 0"
        )))
    }

    /// `[images, channels, height, width]` from images of `spec`, one after the other.
    pub(crate) fn tensor<'a>(
        &self,
        images: impl ExactSizeIterator<Item = &'a [u8]>,
        spec: InputSpec,
        device: &Device,
    ) -> Tensor<4> {
        let shape = [images.len(), spec.channels, spec.height, spec.width];
        let mut values = Vec::with_capacity(images.len() * spec.len());
        let tables: Vec<[f32; 256]> =
            (0..spec.channels).map(|channel| self.table(channel)).collect();
        for image in images {
            for (channel, table) in tables.iter().enumerate() {
                let plane = image.iter().skip(channel).step_by(spec.channels);
                values.extend(plane.map(|pixel| table[usize::from(*pixel)]));
            }
        }
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    fn table(&self, channel: usize) -> [f32; 256] {
        let (mean, deviation) = (self.mean[channel], self.deviation[channel]);
        std::array::from_fn(|pixel| (pixel as f32 / 255.0 - mean) / deviation)
    }
}

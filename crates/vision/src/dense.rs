//! A fully connected layer whose answer for one row does not depend on the rows beside it.
//!
//! A general matrix product picks its kernel by the number of rows, so that the same image gives
//! another last digit alone than in a batch. Convolutions work image by image and do not have
//! this trait; the small dense layers are therefore computed here when serving.

use crate::weights::NamedTensor;

/// Weights `[inputs, outputs]` and one bias an output.
#[derive(Debug)]
pub(crate) struct Dense {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Dense {
    /// Takes tensors whose shapes have been checked.
    pub(crate) fn new(weight: &NamedTensor, bias: &NamedTensor) -> Self {
        Self { weight: weight.values.clone(), bias: bias.values.clone() }
    }

    /// `input` times the weights, plus the bias; summed in the order of the inputs.
    pub(crate) fn forward(&self, input: &[f32]) -> Vec<f32> {
        let mut sums = self.bias.clone();
        let active = input.iter().zip(self.weight.chunks_exact(self.bias.len()));
        for (value, weights) in active.filter(|(value, _)| **value != 0.0) {
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum += value * weight;
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_matrix_product_plus_bias() {
        let tensor = |shape: &[usize], values: &[f32]| NamedTensor {
            shape: shape.to_vec(),
            values: values.to_vec(),
        };
        let weight = tensor(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let layer = Dense::new(&weight, &tensor(&[2], &[10.0, 20.0]));
        // 10 + 1*1 + 0*3 - 1*5 and 20 + 1*2 + 0*4 - 1*6.
        let found: Vec<u32> =
            layer.forward(&[1.0, 0.0, -1.0]).into_iter().map(f32::to_bits).collect();
        assert_eq!(found, [6.0_f32, 16.0].map(f32::to_bits));
    }
}

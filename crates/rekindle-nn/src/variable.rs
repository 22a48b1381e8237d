use burn::tensor::TensorData;

/// How Keras's values lie in memory, and so how they are permuted for Burn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// A conv kernel: `[height, width, in, out]` in Keras, `[out, in, height, width]` in Burn.
    Conv,
    /// A depthwise kernel: `[height, width, channels, multiplier]` in Keras, `[channels * multiplier, 1, height, width]`
    /// in Burn.
    Depthwise,
    /// The same in both.
    Same,
    /// Any shape in Keras, a vector of as many values in Burn.
    Flat,
}

/// How Keras starts a variable.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Initializer {
    /// Glorot uniform, with these numbers of values in and out.
    Glorot([usize; 2]),
    /// The same value everywhere.
    Constant(f32),
}

/// One variable of a layer, as Keras knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct VariableSpec {
    /// Keras's name within the layer: `kernel`, `bias`, `gamma`, `beta`, `moving_mean`, `moving_variance`.
    pub name: &'static str,
    /// Keras's shape.
    pub shape: Vec<usize>,
    /// Keras's layout.
    pub layout: Layout,
    /// Whether gradients reach it while its layer is trainable.
    pub trainable: bool,
    /// How it starts.
    pub initializer: Initializer,
}

impl VariableSpec {
    /// A vector of one value everywhere, that trains or does not.
    pub(crate) fn vector(name: &'static str, size: usize, value: f32, trainable: bool) -> Self {
        let initializer = Initializer::Constant(value);
        Self { name, shape: vec![size], layout: Layout::Same, trainable, initializer }
    }

    /// How many values it has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shape.iter().fold(1, |count: usize, size| count.saturating_mul(*size))
    }

    /// The shape of the Burn parameter that holds it.
    #[must_use]
    pub fn burn_shape(&self) -> Vec<usize> {
        match (self.layout, &self.shape[..]) {
            (Layout::Conv, &[height, width, input, output]) => vec![output, input, height, width],
            (Layout::Depthwise, &[height, width, channels, multiplier]) => {
                vec![channels * multiplier, 1, height, width]
            }
            (Layout::Flat, _) => vec![self.count()],
            _ => self.shape.clone(),
        }
    }

    /// Values in Keras's layout, for the Burn parameter: `[height, width, in, out]` as `[out, in, height, width]`,
    /// and so on. There have to be as many as the shape says.
    #[must_use]
    pub fn to_burn(&self, values: Vec<f32>) -> TensorData {
        let shape = self.burn_shape();
        let Some(sizes) = self.permuted() else { return TensorData::new(values, shape) };
        let mut burn = vec![0.0; values.len()];
        permute(sizes, |keras, place| burn[place] = values[keras]);
        TensorData::new(burn, shape)
    }

    /// The inverse of [`to_burn`](Self::to_burn).
    #[must_use]
    pub fn from_burn(&self, values: Vec<f32>) -> Vec<f32> {
        let Some(sizes) = self.permuted() else { return values };
        let mut keras = vec![0.0; values.len()];
        permute(sizes, |place, burn| keras[place] = values[burn]);
        keras
    }

    /// Taps, inputs and outputs, where Burn's layout is not Keras's.
    fn permuted(&self) -> Option<[usize; 3]> {
        match (self.layout, &self.shape[..]) {
            (Layout::Conv, &[height, width, input, output]) => {
                Some([height * width, input, output])
            }
            (Layout::Depthwise, &[height, width, channels, multiplier]) => {
                Some([height * width, 1, channels * multiplier])
            }
            _ => None,
        }
    }
}

/// Calls `each` with the place of every value in `[taps, inputs, outputs]`, and in `[outputs, inputs, taps]`.
fn permute([taps, inputs, outputs]: [usize; 3], mut each: impl FnMut(usize, usize)) {
    // Some outputs at a time, so that the lines of the cache that are written stay in it.
    const OUTPUTS: usize = 16;
    for first in (0..outputs).step_by(OUTPUTS) {
        for tap in 0..taps {
            for input in 0..inputs {
                for output in first..(first + OUTPUTS).min(outputs) {
                    let keras = (tap * inputs + input) * outputs + output;
                    each(keras, (output * inputs + input) * taps + tap);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_permuted_there_and_back() {
        let values: Vec<f32> = (0..2 * 3 * 4 * 5).map(|value| value as f32).collect();
        let spec = |shape: Vec<usize>, layout| VariableSpec {
            name: "kernel",
            shape,
            layout,
            trainable: true,
            initializer: Initializer::Constant(0.0),
        };
        let conv = spec(vec![2, 3, 4, 5], Layout::Conv);
        let burn = conv.to_burn(values.clone());
        assert_eq!(burn.shape.to_vec(), [5, 4, 2, 3]);
        let burn = burn.into_vec::<f32>().expect("f32");
        // [height 1, width 2, in 3, out 4] is [out 4, in 3, height 1, width 2].
        assert_eq!(burn[((4 * 4 + 3) * 2 + 1) * 3 + 2], values[((3 + 2) * 4 + 3) * 5 + 4]);
        assert_eq!(conv.from_burn(burn), values);

        let depthwise = spec(vec![4, 5, 3, 2], Layout::Depthwise);
        let burn = depthwise.to_burn(values.clone());
        assert_eq!(burn.shape.to_vec(), [6, 1, 4, 5]);
        let burn = burn.into_vec::<f32>().expect("f32");
        // Channel 2's second filter is output 5.
        assert_eq!(burn[(5 * 4 + 2) * 5 + 3], values[((2 * 5 + 3) * 3 + 2) * 2 + 1]);
        assert_eq!(depthwise.from_burn(burn), values);
    }
}

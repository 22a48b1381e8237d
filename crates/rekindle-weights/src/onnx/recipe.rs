//! How a network's variables are made of a graph's constants.

use crate::checkpoint::ReadTensor;

/// What a graph does to each channel behind a convolution, the first step first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Affine(pub Vec<Step>);

/// Numbers are those of the checkpoint's tensors.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Multiply(usize),
    Divide(usize),
    Add(usize),
    Subtract(usize),
    /// Gamma, beta, mean, variance; and what is added to the variance.
    Normalize([usize; 4], f64),
}

impl Affine {
    /// Scale and shift of each of `channels`.
    pub fn channels(
        &self,
        reader: &mut dyn ReadTensor,
        channels: usize,
    ) -> Result<Vec<(f64, f64)>, String> {
        let mut result = vec![(1.0, 0.0); channels];
        let mut read = |tensor: usize| {
            let values = reader.read(tensor)?;
            match values.len() {
                1 => Ok(vec![f64::from(values[0]); channels]),
                found if found == channels => Ok(values.into_iter().map(f64::from).collect()),
                found => Err(format!("{found} constants for {channels} channels")),
            }
        };
        for step in &self.0 {
            match step {
                Step::Multiply(tensor) => {
                    for ((scale, shift), by) in result.iter_mut().zip(read(*tensor)?) {
                        (*scale, *shift) = (*scale * by, *shift * by);
                    }
                }
                Step::Divide(tensor) => {
                    for ((scale, shift), by) in result.iter_mut().zip(read(*tensor)?) {
                        (*scale, *shift) = (*scale / by, *shift / by);
                    }
                }
                Step::Add(tensor) => {
                    for ((_, shift), by) in result.iter_mut().zip(read(*tensor)?) {
                        *shift += by;
                    }
                }
                Step::Subtract(tensor) => {
                    for ((_, shift), by) in result.iter_mut().zip(read(*tensor)?) {
                        *shift -= by;
                    }
                }
                Step::Normalize([gamma, beta, mean, variance], epsilon) => {
                    let (gamma, beta) = (read(*gamma)?, read(*beta)?);
                    let (mean, variance) = (read(*mean)?, read(*variance)?);
                    for (channel, (scale, shift)) in result.iter_mut().enumerate() {
                        let by = gamma[channel] / (variance[channel] + epsilon).sqrt();
                        *scale *= by;
                        *shift = (*shift - mean[channel]) * by + beta[channel];
                    }
                }
            }
        }
        Ok(result)
    }
}

/// How one variable is made.
#[derive(Debug, Clone)]
pub(crate) enum Recipe {
    /// `[out, in, window]` as Keras's `[window, in, out]`, times the scale of each output channel. For a
    /// depthwise kernel, `[channels, 1, window]` as `[window, channels, 1]`.
    Kernel { weight: usize, extents: [usize; 3], depthwise: bool, scale: Affine },
    /// A shift of each channel.
    Shift { affine: Affine, channels: usize },
    /// The tensor itself.
    Same(usize),
    /// `[columns, rows]` as `[rows, columns]`.
    Transposed(usize, [usize; 2]),
    /// A column or a value, with zeros before it: a sigmoid as a softmax.
    BehindZeros(usize),
    /// One number everywhere.
    Constant(f32, usize),
}

impl Recipe {
    /// The tensor that it is mostly made of.
    pub fn source(&self) -> Option<usize> {
        match self {
            Self::Kernel { weight, .. } => Some(*weight),
            Self::Same(tensor) | Self::Transposed(tensor, _) | Self::BehindZeros(tensor) => {
                Some(*tensor)
            }
            Self::Shift { affine, .. } => affine.0.last().map(|step| match step {
                Step::Multiply(tensor)
                | Step::Divide(tensor)
                | Step::Add(tensor)
                | Step::Subtract(tensor)
                | Step::Normalize([_, tensor, ..], _) => *tensor,
            }),
            Self::Constant(..) => None,
        }
    }

    fn make(&self, reader: &mut dyn ReadTensor) -> Result<Vec<f32>, String> {
        Ok(match self {
            Self::Same(tensor) => reader.read(*tensor)?,
            Self::Constant(value, count) => vec![*value; *count],
            Self::BehindZeros(tensor) => {
                reader.read(*tensor)?.into_iter().flat_map(|value| [0.0, value]).collect()
            }
            Self::Transposed(tensor, [rows, columns]) => {
                let values = reader.read(*tensor)?;
                let place = |index: usize| values[index % columns * rows + index / columns];
                (0..rows * columns).map(place).collect()
            }
            Self::Shift { affine, channels } => affine
                .channels(reader, *channels)?
                .into_iter()
                .map(|(_, shift)| shift as f32)
                .collect(),
            Self::Kernel { weight, extents: [outputs, inputs, window], depthwise, scale } => {
                let values = reader.read(*weight)?;
                let scale = scale.channels(reader, *outputs)?;
                let mut kernel = vec![0.0; values.len()];
                for (index, value) in values.into_iter().enumerate() {
                    let (filter, tap) = (index / window, index % window);
                    let (out, input) = (filter / inputs, filter % inputs);
                    let place = if *depthwise {
                        tap * outputs + out
                    } else {
                        (tap * inputs + input) * outputs + out
                    };
                    kernel[place] = (f64::from(value) * scale[out].0) as f32;
                }
                kernel
            }
        })
    }
}

/// Makes variables when they are asked for.
pub(crate) struct Kitchen {
    pub reader: Box<dyn ReadTensor>,
    pub recipes: Vec<Recipe>,
}

impl ReadTensor for Kitchen {
    fn read(&mut self, index: usize) -> Result<Vec<f32>, String> {
        self.recipes[index].make(self.reader.as_mut())
    }
}

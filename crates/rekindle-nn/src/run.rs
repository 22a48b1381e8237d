//! Computing a network with Burn's tensors, on any backend, with or without autodiff.

use std::collections::{HashMap, HashSet};

use burn::module::ParamId;
use burn::tensor::ops::PadMode;
use burn::tensor::{DType, FloatDType, Tensor, TensorData, backend::Backend};

use crate::{Activation, DropoutMasks, Interpreter, LayerView, NetworkError, Samples, Shape};

/// A batch of values between two layers.
#[derive(Debug, Clone)]
pub enum Features<B: Backend> {
    /// `[batch, channels, height, width]`.
    Map(Tensor<B, 4>),
    /// `[batch, features]`.
    Flat(Tensor<B, 2>),
}

impl<B: Backend> Features<B> {
    /// The shape of one sample.
    #[must_use]
    pub fn shape(&self) -> Shape {
        match self {
            Self::Map(x) => {
                let [_, channels, height, width] = x.dims();
                Shape::map(height, width, channels)
            }
            Self::Flat(x) => Shape::Flat(x.dims()[1]),
        }
    }

    /// How many samples there are.
    #[must_use]
    pub fn batch(&self) -> usize {
        match self {
            Self::Map(x) => x.dims()[0],
            Self::Flat(x) => x.dims()[0],
        }
    }

    /// Where the values are.
    #[must_use]
    pub fn device(&self) -> B::Device {
        match self {
            Self::Map(x) => x.device(),
            Self::Flat(x) => x.device(),
        }
    }

    /// `[batch, features]`.
    ///
    /// # Errors
    /// When these are feature maps.
    pub fn flat(self) -> Result<Tensor<B, 2>, NetworkError> {
        match self {
            Self::Flat(x) => Ok(x),
            map @ Self::Map(_) => {
                Err(NetworkError::shape("output", "(None, features)", &[map.shape()]))
            }
        }
    }

    /// `[batch, channels, height, width]`; a vector as maps of one pixel.
    #[must_use]
    pub fn into_map(self) -> Tensor<B, 4> {
        match self {
            Self::Map(x) => x,
            Self::Flat(x) => {
                let [batch, features] = x.dims();
                x.reshape([batch, features, 1, 1])
            }
        }
    }

    /// The values, on the host: `[batch, channels, height, width]` or `[batch, features]`.
    #[must_use]
    pub fn into_data(self) -> TensorData {
        match self {
            Self::Map(x) => x.into_data(),
            Self::Flat(x) => x.into_data(),
        }
    }

    /// Samples of `shape` from the host.
    #[must_use]
    pub fn from_values(values: Vec<f32>, shape: Shape, device: &B::Device) -> Self {
        let batch = values.len() / shape.count().max(1);
        match shape {
            Shape::Map { height, width, channels } => {
                let data = TensorData::new(values, [batch, channels, height, width]);
                Self::Map(Tensor::from_data(data, device))
            }
            Shape::Flat(count) => {
                Self::Flat(Tensor::from_data(TensorData::new(values, [batch, count]), device))
            }
        }
    }

    /// What these functions make of maps and of vectors.
    #[must_use]
    pub fn map(
        self,
        on_map: impl FnOnce(Tensor<B, 4>) -> Tensor<B, 4>,
        on_flat: impl FnOnce(Tensor<B, 2>) -> Tensor<B, 2>,
    ) -> Self {
        match self {
            Self::Map(x) => Self::Map(on_map(x)),
            Self::Flat(x) => Self::Flat(on_flat(x)),
        }
    }

    /// What an activation makes of these.
    #[must_use]
    pub fn activate(self, activation: Activation) -> Self {
        self.map(|x| activation.forward(x), |x| activation.forward(x))
    }
}

/// Computes each layer at once, with Burn tensors on any backend.
#[derive(Debug)]
pub struct Eager {
    /// Draws the dropout masks, while training.
    dropout: Option<DropoutMasks>,
    /// Whether the last softmax or sigmoid is left off.
    logits: bool,
    /// The normalizations that take the batch's statistics.
    live: HashSet<String>,
    /// The moving statistics after them.
    followed: HashMap<ParamId, TensorData>,
}

impl Eager {
    /// Dropout does nothing; the last activation is applied.
    #[must_use]
    pub fn inference() -> Self {
        Self { dropout: None, logits: false, live: HashSet::new(), followed: HashMap::new() }
    }

    /// Inference without the last softmax or sigmoid, for a loss.
    #[must_use]
    pub fn logits() -> Self {
        Self { logits: true, ..Self::inference() }
    }

    /// Dropout is applied, with masks that depend on `seed` and `step` only and are the same on every
    /// backend; the output is logits.
    #[must_use]
    pub fn training(seed: u64, step: u64) -> Self {
        Self { dropout: Some(DropoutMasks::new(seed, step)), ..Self::logits() }
    }

    /// Only some samples of the step's batch, which drop what they drop in the whole of it.
    #[must_use]
    pub fn samples(self, samples: Option<Samples>) -> Self {
        Self { dropout: self.dropout.map(|masks| masks.of(samples)), ..self }
    }

    /// The normalizations with these Keras names take the batch's statistics, and the moving ones follow.
    #[must_use]
    pub fn live(self, layers: HashSet<String>) -> Self {
        Self { live: layers, ..self }
    }

    /// The moving statistics that followed since the last call, for [`assign`](crate::assign).
    pub fn take_followed(&mut self) -> HashMap<ParamId, TensorData> {
        std::mem::take(&mut self.followed)
    }
}

impl<B: Backend> Interpreter<B> for Eager {
    type Value = Features<B>;

    fn layer(
        &mut self,
        layer: LayerView<'_, B>,
        inputs: Vec<Features<B>>,
    ) -> Result<Features<B>, NetworkError> {
        // Burn panics on shapes that do not fit; this finds them first.
        let (found, expected) = (inputs.iter().map(Features::shape), layer.input_shapes());
        let found: Vec<Shape> = found.collect();
        if found != expected {
            let expected: Vec<String> = expected.iter().map(Shape::to_string).collect();
            let expected = format!(
                "{} (with_input makes the network for other images)",
                expected.join(" and ")
            );
            return Err(NetworkError::shape(layer.name, expected, &found));
        }
        Ok(layer.op.forward(&mut Run { eager: self, layer }, inputs))
    }
}

/// What an operation has at hand while it computes: its layer's parameters, and what kind of pass this is.
#[derive(Debug)]
pub struct Run<'a, B: Backend> {
    eager: &'a mut Eager,
    layer: LayerView<'a, B>,
}

impl<B: Backend> Run<'_, B> {
    /// A parameter, if the layer has it.
    #[must_use]
    pub fn find<const D: usize>(&self, variable: &str) -> Option<Tensor<B, D>> {
        self.layer.find(variable)
    }

    /// A parameter that the operation lists among its variables.
    #[must_use]
    pub fn parameter<const D: usize>(&self, variable: &str) -> Tensor<B, D> {
        let found = self.layer.find(variable);
        found.unwrap_or_else(|| unreachable!("an operation lists the variables that it takes"))
    }

    /// The layer's activation; none, where the network's last one is left off for a loss.
    #[must_use]
    pub fn activation(&self) -> Activation {
        let activation = self.layer.op.activation();
        let is_off = self.eager.logits && self.layer.is_output && activation.is_probability();
        if is_off { Activation::Linear } else { activation }
    }

    /// Whether the layer takes the batch's statistics.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.eager.live.contains(self.layer.name)
    }

    /// Moves a moving statistic towards the batch's.
    pub fn follow(&mut self, variable: &str, batch: &Tensor<B, 1>, momentum: f64) {
        let (Some(old), Some(id)) = (self.find::<1>(variable), self.layer.id(variable)) else {
            return;
        };
        let new = old.detach() * momentum + batch.clone().detach() * (1.0 - momentum);
        self.eager.followed.insert(id, new.into_data());
    }

    /// The mask of a dropout for `samples` of `count` values; nothing outside of training.
    pub fn dropout_mask(&mut self, rate: f64, samples: usize, count: usize) -> Option<Vec<f32>> {
        let masks = self.eager.dropout.as_mut().filter(|_| rate > 0.0)?;
        Some(masks.next(rate, samples, count))
    }

    /// Normal values of mean 0 and deviation 1 for `samples` of `count` values; nothing outside of training.
    pub fn normal_noise(&mut self, samples: usize, count: usize) -> Option<Vec<f32>> {
        Some(self.eager.dropout.as_mut()?.normal(samples, count))
    }
}

/// `x * scale + shift`, for each channel.
pub(crate) fn scaled<B: Backend>(
    x: Features<B>,
    scale: Tensor<B, 1>,
    shift: Tensor<B, 1>,
) -> Features<B> {
    let channels = scale.dims()[0];
    match x {
        Features::Map(x) => {
            let like = |y: Tensor<B, 1>| as_type(y.reshape([1, channels, 1, 1]), x.dtype());
            let (scale, shift) = (like(scale), like(shift));
            Features::Map(x * scale + shift)
        }
        Features::Flat(x) => {
            let like = |y: Tensor<B, 1>| as_type(y.unsqueeze(), x.dtype());
            let (scale, shift) = (like(scale), like(shift));
            Features::Flat(x * scale + shift)
        }
    }
}

/// In the type that a batch is computed with: parameters keep f32 where batches are halves.
pub fn as_type<B: Backend, const D: usize>(x: Tensor<B, D>, dtype: DType) -> Tensor<B, D> {
    if x.dtype() == dtype { x } else { x.cast(FloatDType::from(dtype)) }
}

/// Maps with `value` around them: `[[top, bottom], [left, right]]`.
pub fn pad<B: Backend>(x: Tensor<B, 4>, pads: [[usize; 2]; 2], value: f32) -> Tensor<B, 4> {
    match pads {
        [[0, 0], [0, 0]] => x,
        [[top, bottom], [left, right]] if x.dtype() == DType::F32 => {
            x.pad((left, right, top, bottom), PadMode::Constant(value))
        }
        // Burn's own mixes types: what it pads with is f32.
        pads => pads.into_iter().enumerate().fold(x, |x, (axis, [before, after])| {
            let dtype = x.dtype();
            let edge = |count: usize| {
                let mut shape = x.dims();
                shape[axis + 2] = count;
                Tensor::<B, 4>::full(shape, value, &x.device()).cast(dtype)
            };
            let parts = [
                (before > 0).then(|| edge(before)),
                Some(x.clone()),
                (after > 0).then(|| edge(after)),
            ];
            Tensor::cat(parts.into_iter().flatten().collect(), axis + 2)
        }),
    }
}

use std::collections::{HashMap, HashSet};

use burn::module::ParamId;
use burn::tensor::activation::relu;
use burn::tensor::module::{avg_pool2d, conv2d, max_pool2d};
use burn::tensor::ops::PadMode;
use burn::tensor::ops::PaddedConvOptions;
use burn::tensor::{DType, FloatDType, Tensor, TensorData, backend::Backend};

use crate::layers::{BatchNorm, Conv2d};
use crate::op::correct_pad;
use crate::{DropoutMasks, Interpreter, NetworkError, Op, Part, Pool, Shape};

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
                Shape::Map { height, width, channels }
            }
            Self::Flat(x) => Shape::Flat(x.dims()[1]),
        }
    }

    /// `[batch, features]`.
    ///
    /// # Errors
    /// When these are feature maps.
    pub fn flat(self) -> Result<Tensor<B, 2>, NetworkError> {
        match self {
            Self::Flat(x) => Ok(x),
            map => Err(NetworkError::shape("output", "(None, features)", &[map.shape()])),
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

    fn map(
        self,
        on_map: impl FnOnce(Tensor<B, 4>) -> Tensor<B, 4>,
        on_flat: impl FnOnce(Tensor<B, 2>) -> Tensor<B, 2>,
    ) -> Self {
        match self {
            Self::Map(x) => Self::Map(on_map(x)),
            Self::Flat(x) => Self::Flat(on_flat(x)),
        }
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
    pub fn part(self, part: Option<Part>) -> Self {
        Self { dropout: self.dropout.map(|masks| masks.of(part)), ..self }
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

    /// Normalizes by the batch's mean and biased variance.
    fn live_norm<B: Backend>(&mut self, norm: &BatchNorm<B>, x: Features<B>) -> Features<B> {
        let channels = norm.channels;
        // [channels, values]; a half has too few bits for sums and squares.
        let rows: Tensor<B, 2> = match &x {
            Features::Map(x) => x.clone().permute([1, 0, 2, 3]).flatten(1, 3),
            Features::Flat(x) => x.clone().transpose(),
        };
        let rows = as_type(rows, DType::F32);
        let mean = rows.clone().mean_dim(1);
        let variance = (rows - mean.clone()).square().mean_dim(1);
        let (mean, variance) = (mean.reshape([channels]), variance.reshape([channels]));
        for (moving, batch) in [(&norm.moving_mean, &mean), (&norm.moving_variance, &variance)] {
            let old = moving.val().detach() * norm.momentum;
            let new = old + batch.clone().detach() * (1.0 - norm.momentum);
            self.followed.insert(moving.id, new.into_data());
        }
        let scale = variance.add_scalar(norm.epsilon).sqrt().recip();
        let scale = match &norm.gamma {
            Some(gamma) => scale * gamma.val(),
            None => scale,
        };
        let shift = norm.beta.val() - mean * scale.clone();
        scaled(x, scale, shift)
    }

    fn dropout<B: Backend>(&mut self, rate: f64, x: Features<B>) -> Features<B> {
        let Some(masks) = self.dropout.as_mut().filter(|_| rate > 0.0) else { return x };
        match x {
            Features::Map(x) => {
                let shape = x.dims();
                let mask = masks.next(rate, shape[0], shape[1..].iter().product());
                let mask = Tensor::from_data(TensorData::new(mask, shape), &x.device());
                Features::Map(x.clone() * as_type(mask, x.dtype()))
            }
            Features::Flat(x) => {
                let shape = x.dims();
                let mask = masks.next(rate, shape[0], shape[1]);
                let mask = Tensor::from_data(TensorData::new(mask, shape), &x.device());
                Features::Flat(x.clone() * as_type(mask, x.dtype()))
            }
        }
    }
}

impl<B: Backend> Interpreter<B> for Eager {
    type Value = Features<B>;

    fn layer(
        &mut self,
        name: &str,
        op: Op<'_, B>,
        inputs: Vec<Features<B>>,
    ) -> Result<Features<B>, NetworkError> {
        // Burn panics on shapes that do not fit; this finds them first.
        let shapes: Vec<Shape> = inputs.iter().map(Features::shape).collect();
        op.output_shape(name, &shapes)?;
        let mut inputs = inputs.into_iter();
        let (Some(first), second) = (inputs.next(), inputs.next()) else {
            unreachable!("output_shape refuses layers without inputs")
        };
        Ok(match (op, first, second) {
            (Op::Add, Features::Map(a), Some(Features::Map(b))) => Features::Map(a + b),
            (Op::Add, Features::Flat(a), Some(Features::Flat(b))) => Features::Flat(a + b),
            (Op::Concat, first, second) => {
                let maps = [first].into_iter().chain(second).chain(inputs);
                let maps =
                    maps.filter_map(|x| if let Features::Map(x) = x { Some(x) } else { None });
                Features::Map(Tensor::cat(maps.collect(), 1))
            }
            (Op::BatchNorm(norm), x, _) if self.live.contains(name) => self.live_norm(norm, x),
            (Op::BatchNorm(norm), x, _) => {
                let (scale, shift) = norm.scale_and_shift();
                scaled(x, scale, shift)
            }
            (Op::Relu, x, _) => x.map(relu, relu),
            // Two passes; Flex runs `clamp(0, 6)` at half the speed.
            (Op::Relu6, x, _) => x.map(|x| relu(x).clamp_max(6.0), |x| relu(x).clamp_max(6.0)),
            (Op::Rescale { scale, offset }, x, _) => x.map(
                |x| x.mul_scalar(scale).add_scalar(offset),
                |x| x.mul_scalar(scale).add_scalar(offset),
            ),
            (Op::Dropout(rate), x, _) => self.dropout(rate, x),
            (Op::Flatten, Features::Map(x), _) => {
                Features::Flat(x.permute([0, 2, 3, 1]).flatten(1, 3))
            }
            (Op::Flatten, x, _) => x,
            (Op::Dense(dense), Features::Flat(x), _) => {
                let (weight, bias) = (dense.weight.val(), dense.bias.val().unsqueeze());
                let dtype = x.dtype();
                let y = x.matmul(as_type(weight, dtype)) + as_type(bias, dtype);
                let logits = self.logits && dense.classifier && dense.activation.is_probability();
                Features::Flat(if logits { y } else { dense.activation.forward(y) })
            }
            (Op::Conv2d(conv), Features::Map(x), _) => Features::Map(convolve(conv, x)),
            (Op::CorrectPad { kernel }, Features::Map(x), _) => {
                let [_, _, height, width] = x.dims();
                Features::Map(pad(
                    x,
                    [correct_pad(height, kernel), correct_pad(width, kernel)],
                    0.0,
                ))
            }
            (Op::MaxPool(pool), Features::Map(x), _) => {
                // Lowest, not -infinity: some backends compute with it.
                let lowest = if x.dtype() == DType::F16 { -65504.0 } else { f32::MIN };
                let x = pad(x.clone(), window(&pool, &x), lowest);
                Features::Map(max_pool2d(x, pool.kernel, pool.stride, [0, 0], [1, 1], false))
            }
            (Op::AvgPool(pool), Features::Map(x), _) => Features::Map(average(&pool, x)),
            (Op::GlobalAvgPool, Features::Map(x), _) => {
                Features::Flat(x.flatten::<3>(2, 3).mean_dim(2).squeeze_dim(2))
            }
            (Op::GlobalMaxPool, Features::Map(x), _) => {
                Features::Flat(x.flatten::<3>(2, 3).max_dim(2).squeeze_dim(2))
            }
            _ => unreachable!("output_shape refuses what no arm takes"),
        })
    }
}

/// `x * scale + shift`, for each channel.
fn scaled<B: Backend>(x: Features<B>, scale: Tensor<B, 1>, shift: Tensor<B, 1>) -> Features<B> {
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

fn convolve<B: Backend>(conv: &Conv2d<B>, x: Tensor<B, 4>) -> Tensor<B, 4> {
    let [_, _, height, width] = x.dims();
    let rows = conv.padding.amount(height, conv.kernel[0], conv.stride[0]);
    let columns = conv.padding.amount(width, conv.kernel[1], conv.stride[1]);
    let (before, after) = ([rows[0], columns[0]], [rows[1], columns[1]]);
    let groups = if conv.depthwise { conv.channels[0] } else { 1 };
    let options = PaddedConvOptions::asymmetric(conv.stride, before, after, [1, 1], groups);
    let bias = conv.bias.as_ref().map(|bias| as_type(bias.val(), x.dtype()));
    let weight = as_type(conv.weight.val(), x.dtype());
    conv2d(x, weight, bias, options)
}

/// Padding of a pool: `[[top, bottom], [left, right]]`.
fn window<B: Backend>(pool: &Pool, x: &Tensor<B, 4>) -> [[usize; 2]; 2] {
    let [_, _, height, width] = x.dims();
    let amount =
        |size, axis: usize| pool.padding.amount(size, pool.kernel[axis], pool.stride[axis]);
    [amount(height, 0), amount(width, 1)]
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

fn average<B: Backend>(pool: &Pool, x: Tensor<B, 4>) -> Tensor<B, 4> {
    let pads = window(pool, &x);
    let [rows, columns] = pads;
    if rows[0] == rows[1] && columns[0] == columns[1] {
        return avg_pool2d(x, pool.kernel, pool.stride, [rows[0], columns[0]], false, false);
    }
    // Burn pads evenly only: average over zeros, then undo their share.
    let [_, _, height, width] = x.dims();
    let ones = Tensor::<B, 4>::ones([1, 1, height, width], &x.device()).cast(x.dtype());
    let mean = |x| avg_pool2d(pad(x, pads, 0.0), pool.kernel, pool.stride, [0, 0], true, false);
    mean(x) / mean(ones)
}

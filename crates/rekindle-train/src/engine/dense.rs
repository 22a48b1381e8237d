use std::mem;

use burn::module::ParamId;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{DType, Tensor, TensorData};
use rekindle_infer::float_type;
use rekindle_infer::internal::{host, settle};
use rekindle_kernels::Limits;
use rekindle_kernels::gpu::{self, DenseStep, watch_devices};
use rekindle_kernels::train::Pass;
use rekindle_nn::{
    Activation, DropoutMasks, Interpreter, LayerView, Network, NetworkError, Op, Shape, assign,
};

use super::{Engine, Place, Scope, Step, Variable, in_order, number, values};
use crate::error::TrainError;

/// The most samples between two steps: with more of them a step waits for products, which are Burn's.
const MOST_SAMPLES: usize = 256;

/// A head of dense layers and dropout on a GPU, without a graph of tensors: what a step changes is read and written once, by this
/// crate's kernels. It computes in f32 whatever the frozen layers are computed with.
pub(super) struct Dense<B: AutodiffBackend> {
    model: Network<B>,
    scope: Scope,
    device: B::Device,
    layers: Vec<Layer<B::InnerBackend>>,
    /// Of the last forward pass in training, for each layer: what came in, and the mask that it was multiplied by.
    came_in: Vec<Masked<B::InnerBackend>>,
}

/// `[samples, features]` and a mask of that shape.
type Masked<I> = (Tensor<I, 2>, Option<Tensor<I, 2>>);

struct Layer<I: Backend> {
    name: String,
    /// Kernel and bias.
    ids: [ParamId; 2],
    /// `[inputs + 1, outputs]` each, the last row the bias's: the weights, and from the first step on what the optimizer remembers
    /// of them.
    state: Vec<Tensor<I, 2>>,
    /// Of its output.
    limits: Limits,
    /// Rates of the dropouts before it.
    dropouts: Vec<f64>,
    /// Inputs and gradients of its outputs since the last step.
    batches: Vec<[Tensor<I, 2>; 2]>,
    /// Times a weight of the kernel, it is added to its gradient.
    penalty: f32,
}

impl<I: Backend> Layer<I> {
    fn weights(&self) -> &Tensor<I, 2> {
        &self.state[0]
    }

    fn inputs(&self) -> usize {
        self.weights().dims()[0] - 1
    }

    fn outputs(&self) -> usize {
        self.weights().dims()[1]
    }

    fn kernel(&self) -> Tensor<I, 2> {
        self.weights().clone().narrow(0, 0, self.inputs())
    }

    /// The product of what is dropped before the layer: one mask, or none.
    fn mask(&self, masks: Option<&mut DropoutMasks>, samples: usize) -> Option<Vec<f32>> {
        let masks = masks?;
        let mut drawn = self.dropouts.iter().map(|&rate| masks.next(rate, samples, self.inputs()));
        let mut mask = drawn.next()?;
        for other in drawn {
            mask.iter_mut().zip(other).for_each(|(mask, other)| *mask *= other);
        }
        Some(mask)
    }

    /// All batches since the last step as one: the inputs, and the gradients of the outputs.
    fn batch(&mut self) -> Option<[Tensor<I, 2>; 2]> {
        let batches = mem::take(&mut self.batches);
        if batches.len() < 2 {
            return batches.into_iter().next();
        }
        let (x, gradients) = batches.into_iter().map(|[x, gradient]| (x, gradient)).unzip();
        Some([x, gradients].map(|parts: Vec<_>| Tensor::cat(parts, 0)))
    }

    /// The sum of the squares of the gradients, of all batches.
    fn squares(&mut self) -> Option<Tensor<I, 1>> {
        let [x, gradient] = self.batch()?;
        let kernel = x.clone().transpose().matmul(gradient.clone());
        let kernel = match self.penalty {
            0.0 => kernel,
            penalty => kernel + self.kernel() * penalty,
        };
        let bias = gradient.clone().sum_dim(0);
        self.batches = vec![[x, gradient]];
        Some(kernel.square().sum() + bias.square().sum())
    }

    /// Kernel and bias of values of `[inputs + 1, outputs]`.
    fn split(&self, values: &Tensor<I, 2>) -> (Vec<f32>, Vec<f32>) {
        let mut kernel = host(values.clone());
        let bias = kernel.split_off(self.inputs() * self.outputs());
        (kernel, bias)
    }

    /// The values of which these are the kernel's and the bias's.
    fn joined(
        &self,
        mut kernel: Vec<f32>,
        bias: Vec<f32>,
        device: &I::Device,
    ) -> Option<Tensor<I, 2>> {
        let shape = self.weights().dims();
        let fits = kernel.len() == self.inputs() * self.outputs() && bias.len() == self.outputs();
        kernel.extend(bias);
        fits.then(|| Tensor::from_data(TensorData::new(kernel, shape), device))
    }
}

impl<B: AutodiffBackend> Dense<B> {
    /// Nothing where the backend has no kernels for it, or there is more than a chain of dense layers that all train.
    pub fn new(
        model: &Network<B>,
        scope: &Scope,
        place: &Place<B::Device>,
        samples: usize,
    ) -> Result<Option<Self>, TrainError> {
        let ([device], Some(cut), Shape::Flat(_)) =
            (place.devices.as_slice(), &scope.cut, scope.input)
        else {
            return Ok(None);
        };
        if samples > MOST_SAMPLES || !gpu::has_kernels::<B::InnerBackend>() {
            return Ok(None);
        }
        watch_devices();
        float_type::<B::InnerBackend>(place.precision, device)?;
        let mut chain = Some(Vec::new());
        let mut find = Find { chain: &mut chain, scope, dropouts: Vec::new() };
        model.walk_after(cut, &mut find, ())?;
        // The loss is one of what the last layer's product is.
        let ends_in_logits = |layers: &Vec<Layer<_>>| {
            layers.last().is_some_and(|layer| layer.limits == Limits::NONE)
        };
        let Some(layers) = chain.filter(ends_in_logits) else { return Ok(None) };
        let (model, scope, device) = (model.clone(), scope.clone(), device.clone());
        Ok(Some(Self { model, scope, device, layers, came_in: Vec::new() }))
    }

    fn tensor(&self, values: Vec<f32>, features: usize) -> Tensor<B::InnerBackend, 2> {
        let samples = values.len() / features.max(1);
        Tensor::from_data(TensorData::new(values, [samples, features]), &self.device)
    }

    /// The logits, and what came into each layer.
    fn run(
        &self,
        mut features: Vec<f32>,
        pass: Pass,
    ) -> (Tensor<B::InnerBackend, 2>, Vec<Masked<B::InnerBackend>>) {
        let mut masks = match pass {
            Pass::Inference => None,
            Pass::Training { seed, step, part } => Some(DropoutMasks::new(seed, step).of(part)),
        };
        let first = &self.layers[0];
        let samples = features.len() / first.inputs();
        if let Some(mask) = first.mask(masks.as_mut(), samples) {
            features.iter_mut().zip(mask).for_each(|(x, mask)| *x *= mask);
        }
        let mut came_in = Vec::new();
        // The first mask has been applied, and no gradient goes past it.
        let (mut x, mut own) = (self.tensor(features, first.inputs()), None);
        for (layer, next) in
            self.layers.iter().zip(self.layers.iter().skip(1).map(Some).chain([None]))
        {
            let mask = next.and_then(|next| next.mask(masks.as_mut(), samples));
            let mask = mask.map(|mask| self.tensor(mask, layer.outputs()));
            let y = gpu::dense(&x, layer.weights(), mask.as_ref(), layer.limits);
            let y = y.unwrap_or_else(|| unreachable!("the backend has the kernels"));
            came_in.push((mem::replace(&mut x, y), mem::replace(&mut own, mask)));
        }
        (x, came_in)
    }
}

impl<B: AutodiffBackend> Engine<B> for Dense<B> {
    fn rehearse(&mut self, samples: usize) -> Result<(), TrainError> {
        let features = vec![0.0; samples * self.scope.input.count()];
        let pass = Pass::Training { seed: 0, step: 0, part: None };
        let result = self.forward(features, pass).and_then(|logits| {
            self.backward(&vec![1e-3; logits.len()])?;
            self.settle()
        });
        self.came_in.clear();
        self.layers.iter_mut().for_each(|layer| layer.batches.clear());
        if result.is_err() {
            // What was too large is not to be in the way of what comes next.
            B::memory_cleanup(&self.device);
        }
        result
    }

    fn forward(&mut self, features: Vec<f32>, pass: Pass) -> Result<Vec<f32>, TrainError> {
        let (logits, came_in) = self.run(features, pass);
        if pass != Pass::Inference {
            self.came_in = came_in;
        }
        values(logits)
    }

    fn backward(&mut self, gradient: &[f32]) -> Result<(), TrainError> {
        let classes = self.layers.last().map_or(0, Layer::outputs);
        let mut gradient = self.tensor(gradient.to_vec(), classes);
        let came_in = mem::take(&mut self.came_in);
        for (number, (x, mask)) in came_in.into_iter().enumerate().rev() {
            let before = number.checked_sub(1).map(|before| self.layers[before].limits);
            let layer = &mut self.layers[number];
            let next = before.map(|limits| {
                gpu::dense_input_gradient(&gradient, layer.weights(), &x, mask.as_ref(), limits)
                    .unwrap_or_else(|| unreachable!("the backend has the kernels"))
            });
            let own = match next {
                Some(next) => mem::replace(&mut gradient, next),
                None => gradient.clone(),
            };
            layer.batches.push([x, own]);
        }
        Ok(())
    }

    fn penalize(&mut self, scale: f32) -> f64 {
        let penalties = self.layers.iter_mut().filter_map(|layer| {
            let &factor = self.scope.l2.get(&layer.name)?;
            layer.penalty += (2.0 * factor) as f32 * scale;
            Some(layer.kernel().square().sum() * factor)
        });
        number(penalties.reduce(|sum, own| sum + own))
    }

    fn gradient_norm(&mut self) -> f64 {
        let squares = self.layers.iter_mut().filter_map(Layer::squares);
        number(squares.reduce(|sum, own| sum + own)).sqrt()
    }

    fn step(&mut self, step: &Step) {
        let Step { rule, time, rate, scale } = *step;
        for layer in &mut self.layers {
            let penalty = mem::take(&mut layer.penalty);
            let Some([x, gradient]) = layer.batch() else { continue };
            let factor = self.scope.factors.get(&layer.name).copied().unwrap_or(1.0);
            let step = DenseStep { rule, time, rate: rate * factor, scale, penalty };
            // Nobody else has it, so that it is changed in place.
            let mut state = mem::take(&mut layer.state);
            let shape = state[0].dims();
            state.resize_with(1 + rule.slots(), || Tensor::zeros(shape, &self.device));
            let state = gpu::dense_step(&x, &gradient, state, step);
            layer.state = state.unwrap_or_else(|| unreachable!("the backend has the kernels"));
        }
    }

    fn settle(&self) -> Result<(), TrainError> {
        Ok(settle::<B>(&self.device)?)
    }

    fn state(&self) -> Vec<Variable> {
        let of = |layer: &Layer<B::InnerBackend>| {
            let (kernel, bias) = layer.split(layer.weights());
            let (kernels, biases) = layer.state[1..].iter().map(|slot| layer.split(slot)).unzip();
            let name = |name: &str| format!("{}/{name}", layer.name);
            let shape = vec![layer.inputs(), layer.outputs()];
            [
                Variable { name: name("kernel"), shape, values: kernel, slots: kernels },
                Variable {
                    name: name("bias"),
                    shape: vec![bias.len()],
                    values: bias,
                    slots: biases,
                },
            ]
        };
        self.layers.iter().flat_map(of).collect()
    }

    fn restore(&mut self, state: Vec<Variable>) -> Result<(), TrainError> {
        let name = |layer: &Layer<B::InnerBackend>| {
            ["kernel", "bias"].map(|name| format!("{}/{name}", layer.name))
        };
        let mut state = in_order(state, self.layers.iter().flat_map(name))?.into_iter();
        for layer in &mut self.layers {
            let (Some(kernel), Some(bias)) = (state.next(), state.next()) else {
                unreachable!("each layer has two")
            };
            let shape = || TrainError::Resume(format!("`{}` has another shape", layer.name));
            let joined = |kernel, bias| layer.joined(kernel, bias, &self.device).ok_or_else(shape);
            let weights = (kernel.values, bias.values);
            let all = [weights].into_iter().chain(kernel.slots.into_iter().zip(bias.slots));
            layer.state =
                all.map(|(kernel, bias)| joined(kernel, bias)).collect::<Result<_, _>>()?;
        }
        Ok(())
    }

    fn model(&self) -> Network<B> {
        let of = |layer: &Layer<B::InnerBackend>| {
            let (kernel, bias) = layer.split(layer.weights());
            let [inputs, outputs] = [layer.inputs(), layer.outputs()];
            let [of_kernel, of_bias] = layer.ids;
            [
                (of_kernel, TensorData::new(kernel, [inputs, outputs])),
                (of_bias, TensorData::new(bias, [outputs])),
            ]
        };
        assign(self.model.clone(), self.layers.iter().flat_map(of).collect())
    }
}

/// Finds a chain of dense layers that all train; nothing where it is none.
struct Find<'a, I: Backend> {
    chain: &'a mut Option<Vec<Layer<I>>>,
    scope: &'a Scope,
    /// Rates since the last dense layer.
    dropouts: Vec<f64>,
}

impl<B: AutodiffBackend> Interpreter<B> for Find<'_, B::InnerBackend> {
    type Value = ();

    fn layer(&mut self, layer: LayerView<'_, B>, _: Vec<()>) -> Result<(), NetworkError> {
        let Some(chain) = self.chain else { return Ok(()) };
        match layer.op {
            Op::Dense(dense) if self.scope.trains.contains(layer.name) => {
                // The classifier's is left off.
                let is_off = layer.is_output && dense.activation.is_probability();
                let activation = if is_off { Activation::Linear } else { dense.activation };
                let kernel = layer.find::<2>("kernel").map(Tensor::inner);
                let bias = layer.find::<1>("bias").map(Tensor::inner);
                let ids = layer.id("kernel").zip(layer.id("bias"));
                let (Some([low, high]), Some(kernel), Some(bias), Some((of_kernel, of_bias))) =
                    (activation.limits(), kernel, bias, ids)
                else {
                    *self.chain = None;
                    return Ok(());
                };
                if kernel.dtype() != DType::F32 {
                    *self.chain = None;
                    return Ok(());
                }
                chain.push(Layer {
                    name: layer.name.to_owned(),
                    ids: [of_kernel, of_bias],
                    state: vec![Tensor::cat(vec![kernel, bias.unsqueeze()], 0)],
                    limits: Limits { low, high },
                    dropouts: mem::take(&mut self.dropouts),
                    batches: Vec::new(),
                    penalty: 0.0,
                });
            }
            Op::Dropout(dropout) if dropout.rate > 0.0 => self.dropouts.push(dropout.rate),
            Op::Dropout(_) | Op::Flatten(_) => {}
            _ => *self.chain = None,
        }
        Ok(())
    }
}

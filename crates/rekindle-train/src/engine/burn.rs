use std::collections::HashMap;

use burn::module::{AutodiffModule, Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{DType, Tensor, TensorData};
use rekindle_infer::float_type;
use rekindle_infer::internal::{host, settle, wait};
use rekindle_kernels::gpu::watch_devices;
use rekindle_kernels::serves;
use rekindle_kernels::train::{Pass, Rule};
use rekindle_kernels::{Accelerated, Precision};
use rekindle_nn::{
    Eager, Features, Network, Samples, as_type, assign, floats, read, require_gradients_of,
};

use super::replicas::{self, Replica, Slots};
use super::scaler::Scaler;
use super::{Engine, Place, Scope, Step, Variable, in_order, number, values};
use crate::error::TrainError;

/// Burn's autodiff, on any backend. Where there are several devices, each computes a part of the batch with a replica of the
/// model; they add up their gradients, and each takes the step.
pub(super) struct Burn<B: AutodiffBackend> {
    /// One for each device; the others are made of the first one when they are needed.
    replicas: Vec<Replica<B>>,
    scope: Scope,
    devices: Vec<B::Device>,
    dtype: DType,
    /// Of f16 only: bf16 has the range of f32.
    scaler: Option<Scaler>,
    /// The logits of the last forward pass, of each device that had a part.
    logits: Vec<Tensor<B, 2>>,
    /// The sums of all gradients since the last step, of each replica, once they are asked for.
    taken: Option<Vec<GradientsParams>>,
    /// Each parameter that changes: its layer and Keras's name.
    names: HashMap<ParamId, (String, &'static str)>,
}

impl<B: AutodiffBackend> Burn<B> {
    pub fn new(
        model: Network<B>,
        scope: Scope,
        place: &Place<B::Device>,
    ) -> Result<Self, TrainError> {
        let all = model.variables();
        let changing = all.into_iter().filter(|variable| {
            let trains = variable.spec.trainable && scope.trains.contains(&variable.layer);
            trains || (!variable.spec.trainable && scope.live.contains(&variable.layer))
        });
        let names: HashMap<ParamId, (String, &'static str)> =
            changing.map(|v| (v.id, (v.layer, v.spec.name))).collect();
        let devices = match place.devices.as_slice() {
            [] => vec![B::Device::default()],
            devices => devices.to_vec(),
        };
        if !devices.iter().all(serves::<B::InnerBackend>) {
            watch_devices();
        }
        for device in &devices {
            float_type::<B::InnerBackend>(place.precision, device)?;
        }
        let dtype = match place.precision {
            // `float_type` has refused int8.
            Precision::F32 | Precision::Int8 => DType::F32,
            Precision::Bf16 => DType::BF16,
            Precision::F16 => DType::F16,
        };
        Ok(Self {
            replicas: vec![Replica::new(require_gradients_of(model, &|layer| {
                scope.trains.contains(layer)
            }))],
            scope,
            devices,
            dtype,
            scaler: (dtype == DType::F16).then(Scaler::new),
            logits: Vec::new(),
            taken: None,
            names,
        })
    }

    /// The first one, which has the parameters.
    fn main(&self) -> &Replica<B> {
        &self.replicas[0]
    }

    fn taken(&mut self) -> &mut Vec<GradientsParams> {
        let Self { taken, replicas, devices, .. } = self;
        taken.get_or_insert_with(|| {
            let gradients = replicas.iter_mut().map(|replica| replica.gradients.grads());
            let mut gradients: Vec<GradientsParams> = gradients.collect();
            replicas::sum(&replicas[0].model, &mut gradients, devices);
            gradients
        })
    }

    /// What gradients are multiplied by.
    fn loss_scale(&self) -> f32 {
        self.scaler.map_or(1.0, |scaler| scaler.scale())
    }

    /// The sum of the squares of all gradients, on the device.
    fn squares(&mut self) -> Option<Tensor<B::InnerBackend, 1>> {
        let model = self.main().model.clone();
        let mut norm = Norm::<B> { squares: None, gradients: &self.taken()[0] };
        model.visit(&mut norm);
        norm.squares
    }

    /// The length of all gradients, as they are.
    fn norm(&mut self) -> f64 {
        // One number comes from the device, not one for each parameter.
        number(self.squares()).sqrt()
    }

    /// The logits of a step's samples, on the devices, and the moving statistics behind them.
    fn train_forward(
        &mut self,
        features: &[f32],
        [seed, step]: [u64; 2],
        part: Option<Samples>,
    ) -> Result<HashMap<ParamId, TensorData>, TrainError> {
        let each = self.scope.input.count();
        let samples = features.len() / each.max(1);
        let part = part.unwrap_or(Samples { first: 0, of: samples });
        let own = samples.div_ceil(self.devices.len()).max(1);
        for device in &self.devices[self.replicas.len()..] {
            self.replicas.push(self.replicas[0].copy_to(device));
        }
        self.logits.clear();
        let models = self.replicas.iter().map(|replica| &replica.model).zip(&self.devices);
        let mut followed: Vec<HashMap<ParamId, TensorData>> = Vec::new();
        for ((model, device), (number, values)) in
            models.zip(features.chunks(own * each.max(1)).enumerate())
        {
            let part = Samples { first: part.first + number * own, ..part };
            let mut eager = Eager::training(seed, step).samples(Some(part));
            eager = eager.live(self.scope.live.clone());
            let inputs = Features::from_values(values.to_vec(), self.scope.input, device);
            let inputs = halved(inputs, self.dtype);
            self.logits.push(run(model, &self.scope, &mut eager, inputs)?);
            followed.push(eager.take_followed());
        }
        Ok(mean(followed))
    }
}

impl<B: AutodiffBackend> Engine<B> for Burn<B> {
    fn rehearse(&mut self, samples: usize) -> Result<(), TrainError> {
        let zeros = vec![0.0; samples * self.scope.input.count()];
        let logits = self.train_forward(&zeros, [0, 0], None);
        // Nothing is kept, whatever came of it.
        let result = logits.and_then(|_| {
            let count: usize = self.logits.iter().map(|logits| logits.dims()[0]).sum();
            let classes = self.logits.first().map_or(0, |logits| logits.dims()[1]);
            self.backward(&vec![1e-3; count * classes])?;
            Ok(self.squares().map_or(Ok(()), wait)?)
        });
        self.logits.clear();
        self.taken = None;
        for replica in &mut self.replicas {
            replica.gradients = GradientsAccumulator::new();
        }
        if result.is_err() {
            // What was too large is not to be in the way of what comes next.
            self.devices.iter().for_each(B::memory_cleanup);
        }
        result
    }

    fn forward(&mut self, features: Vec<f32>, pass: Pass) -> Result<Vec<f32>, TrainError> {
        let Pass::Training { seed, step, part } = pass else {
            let inputs = Features::from_values(features, self.scope.input, &self.devices[0]);
            let inputs = halved(inputs, self.dtype);
            let logits =
                run(&self.main().model.valid(), &self.scope, &mut Eager::logits(), inputs)?;
            return values(logits);
        };
        let followed = self.train_forward(&features, [seed, step], part)?;
        // The moving statistics follow at once; the graph has its own copies of what it needs.
        if !followed.is_empty() {
            for replica in &mut self.replicas {
                replica.model = assign(replica.model.clone(), followed.clone());
            }
        }
        let all = self.logits.iter().map(|logits| values(logits.clone().inner()));
        Ok(all.collect::<Result<Vec<_>, _>>()?.concat())
    }

    fn backward(&mut self, gradient: &[f32]) -> Result<(), TrainError> {
        let scale = self.loss_scale();
        let mut rest = gradient;
        for (logits, replica) in
            std::mem::take(&mut self.logits).into_iter().zip(&mut self.replicas)
        {
            let [samples, classes] = logits.dims();
            let (own, others) = rest.split_at((samples * classes).min(rest.len()));
            rest = others;
            let own = own.iter().map(|gradient| gradient * scale).collect();
            let data = TensorData::new(own, [samples, classes]);
            // Of the sum of logits times fixed numbers, those are the gradient by the logits.
            let loss = (logits.clone() * Tensor::from_data(data, &logits.device())).sum();
            let gradients = GradientsParams::from_grads(loss.backward(), &replica.model);
            replica.gradients.accumulate(&replica.model, gradients);
        }
        Ok(())
    }

    fn penalize(&mut self, scale: f32) -> f64 {
        if self.scope.l2.is_empty() {
            return 0.0;
        }
        let factors: HashMap<ParamId, f64> = self
            .names
            .iter()
            .filter(|(_, (_, name))| *name == "kernel")
            .filter_map(|(id, (layer, _))| Some((*id, *self.scope.l2.get(layer)?)))
            .collect();
        let scale = scale * self.loss_scale();
        // The sum over replicas has them once.
        let replica = &mut self.replicas[0];
        let mut penalize =
            Penalize::<B> { factors, scale, penalty: None, gradients: GradientsParams::new() };
        replica.model.visit(&mut penalize);
        replica.gradients.accumulate(&replica.model, penalize.gradients);
        number(penalize.penalty)
    }

    fn gradient_norm(&mut self) -> f64 {
        self.norm() / f64::from(self.loss_scale())
    }

    fn step(&mut self, step: &Step) {
        let loss_scale = self.loss_scale();
        if self.scaler.is_some() {
            let is_finite = self.norm().is_finite();
            if self.scaler.as_mut().is_some_and(|scaler| !scaler.hear(is_finite)) {
                self.taken = None;
                return;
            }
        }
        self.taken();
        let Some(gradients) = self.taken.take() else { return };
        for (replica, gradients) in self.replicas.iter_mut().zip(gradients) {
            let mut update = Update {
                step: &Step { scale: step.scale / loss_scale, ..*step },
                gradients,
                slots: &mut replica.slots,
                names: &self.names,
                factors: &self.scope.factors,
            };
            replica.model = replica.model.clone().map(&mut update);
        }
    }

    fn settle(&self) -> Result<(), TrainError> {
        Ok(self.devices.iter().try_for_each(settle::<B>)?)
    }

    fn state(&self) -> Vec<Variable> {
        let Replica { model, slots, .. } = self.main();
        let mut values = read(model);
        let changing = model.variables().into_iter();
        let changing = changing.filter(|variable| self.names.contains_key(&variable.id));
        let variable = |variable: rekindle_nn::Variable| {
            let data = values.remove(&variable.id)?;
            let values = data.convert::<f32>().into_vec().ok()?;
            let slots = slots.get(&variable.id).into_iter().flatten();
            let slots = slots.map(|slot| variable.spec.from_burn(host(slot.clone()))).collect();
            let (name, values) = (variable.path(), variable.spec.from_burn(values));
            Some(Variable { name, shape: variable.spec.shape, values, slots })
        };
        let scaler = self.scaler.map(|scaler| {
            let (name, values) = (Scaler::NAME.to_owned(), scaler.state());
            Variable { name, shape: vec![values.len()], values, slots: Vec::new() }
        });
        changing.filter_map(variable).chain(scaler).collect()
    }

    fn restore(&mut self, state: Vec<Variable>) -> Result<(), TrainError> {
        let changing: Vec<rekindle_nn::Variable> = self
            .main()
            .model
            .variables()
            .into_iter()
            .filter(|variable| self.names.contains_key(&variable.id))
            .collect();
        if let Some(scaler) = &mut self.scaler {
            let saved = state.iter().find(|variable| variable.name == Scaler::NAME);
            let saved = saved.and_then(|variable| Scaler::from_state(&variable.values));
            *scaler = saved.ok_or(TrainError::Resume(format!("it has no `{}`", Scaler::NAME)))?;
        }
        let state = in_order(state, changing.iter().map(rekindle_nn::Variable::path))?;
        let (mut values, mut slots) = (HashMap::new(), Slots::<B>::new());
        for (variable, saved) in changing.into_iter().zip(state) {
            let count: usize = variable.spec.shape.iter().product();
            if [&saved.values].into_iter().chain(&saved.slots).any(|list| list.len() != count) {
                return Err(TrainError::Resume(format!("`{}` has another shape", saved.name)));
            }
            values.insert(variable.id, variable.spec.to_burn(saved.values));
            let flat = |slot: Vec<f32>| {
                let values = variable.spec.to_burn(slot).into_vec::<f32>().unwrap_or_default();
                Tensor::from_data(TensorData::new(values, [count]), &self.devices[0])
            };
            slots.insert(variable.id, saved.slots.into_iter().map(flat).collect());
        }
        let model = assign(self.main().model.clone(), values);
        self.replicas = vec![Replica { slots, ..Replica::new(model) }];
        Ok(())
    }

    fn model(&self) -> Network<B> {
        self.main().model.clone()
    }
}

/// In the type that the model is computed with.
fn halved<B: Backend>(features: Features<B>, dtype: DType) -> Features<B> {
    match features {
        Features::Map(x) => Features::Map(as_type(x, dtype)),
        Features::Flat(x) => Features::Flat(as_type(x, dtype)),
    }
}

/// The mean of what several devices found.
fn mean(found: Vec<HashMap<ParamId, TensorData>>) -> HashMap<ParamId, TensorData> {
    let share = 1.0 / found.len().max(1) as f32;
    let mut all = found.into_iter();
    let mut sums = all.next().unwrap_or_default();
    if share == 1.0 {
        return sums;
    }
    let list = |data: &TensorData| floats(data.clone());
    let rest: Vec<_> = all.collect();
    for (id, data) in &mut sums {
        let mut values = list(data);
        for other in rest.iter().filter_map(|found| found.get(id).map(list)) {
            values.iter_mut().zip(other).for_each(|(sum, value)| *sum += value);
        }
        values.iter_mut().for_each(|value| *value *= share);
        *data = TensorData::new(values, data.shape.clone());
    }
    sums
}

/// What comes behind the cut.
fn run<B: Backend>(
    model: &Network<B>,
    scope: &Scope,
    eager: &mut Eager,
    inputs: Features<B>,
) -> Result<Tensor<B, 2>, TrainError> {
    let mut accelerated = Accelerated::new(eager);
    let outputs = match &scope.cut {
        Some(layer) => model.walk_after(layer, &mut accelerated, inputs)?,
        None => model.walk(&mut accelerated, inputs)?,
    };
    // The loss is one of f32, whatever the network is computed with.
    Ok(as_type(outputs.flat()?, DType::F32))
}

/// The sum of the squares of all gradients, on the device.
struct Norm<'a, B: AutodiffBackend> {
    squares: Option<Tensor<B::InnerBackend, 1>>,
    gradients: &'a GradientsParams,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Norm<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(gradient) = self.gradients.get::<B::InnerBackend, D>(param.id) {
            let sum = gradient.square().sum();
            self.squares = Some(match self.squares.take() {
                Some(squares) => squares + sum,
                None => sum,
            });
        }
    }
}

struct Penalize<B: AutodiffBackend> {
    factors: HashMap<ParamId, f64>,
    scale: f32,
    penalty: Option<Tensor<B::InnerBackend, 1>>,
    gradients: GradientsParams,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Penalize<B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let Some(&factor) = self.factors.get(&param.id) else { return };
        let values = param.val().inner();
        let own = values.clone().square().sum() * factor;
        self.penalty = Some(match self.penalty.take() {
            Some(sum) => sum + own,
            None => own,
        });
        let gradient = values * (2.0 * factor * f64::from(self.scale));
        self.gradients.register::<B::InnerBackend, D>(param.id, gradient);
    }
}

/// One step of [`Rule`] in tensors; the CPU engine's passes over memory are tested against Keras's formulas, and
/// training on Flex and on other backends against each other.
struct Update<'a, B: AutodiffBackend> {
    step: &'a Step,
    gradients: GradientsParams,
    slots: &'a mut HashMap<ParamId, Vec<Tensor<B::InnerBackend, 1>>>,
    names: &'a HashMap<ParamId, (String, &'static str)>,
    factors: &'a HashMap<String, f64>,
}

impl<B: AutodiffBackend> ModuleMapper<B> for Update<'_, B> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let id = param.id;
        let (Some(gradient), Some((layer, _))) =
            (self.gradients.remove::<B::InnerBackend, D>(id), self.names.get(&id))
        else {
            return param;
        };
        let factor = self.factors.get(layer).copied().unwrap_or(1.0);
        let (slots, step) = (self.slots.entry(id).or_default(), self.step);
        param.map(|tensor| {
            let needs = tensor.is_require_grad();
            let (shape, weights) = (tensor.shape(), tensor.inner().flatten::<1>(0, D - 1));
            let gradient = gradient.flatten::<1>(0, D - 1).mul_scalar(step.scale);
            let new = update(step, step.rate * factor, weights, gradient, slots);
            Tensor::from_inner(new.reshape(shape)).set_require_grad(needs)
        })
    }
}

fn update<I: Backend>(
    step: &Step,
    rate: f64,
    weights: Tensor<I, 1>,
    g: Tensor<I, 1>,
    slots: &mut Vec<Tensor<I, 1>>,
) -> Tensor<I, 1> {
    slots.resize_with(step.rule.slots(), || g.zeros_like());
    match step.rule {
        Rule::Adam { beta_1, beta_2, epsilon, decay } => {
            let weights = weights * (1.0 - rate * decay);
            slots[0] = slots[0].clone() * beta_1 + g.clone() * (1.0 - beta_1);
            slots[1] = slots[1].clone() * beta_2 + g.square() * (1.0 - beta_2);
            let own = rate * step.rule.correction(step.time);
            weights - slots[0].clone() * own / (slots[1].clone().sqrt() + epsilon)
        }
        Rule::Sgd { momentum, nesterov } => {
            let step = g * rate;
            let Some(velocity) = slots.first_mut() else { return weights - step };
            *velocity = velocity.clone() * momentum - step.clone();
            let moved = velocity.clone();
            weights + if nesterov { moved * momentum - step } else { moved }
        }
        Rule::RmsProp { rho, momentum, epsilon } => {
            slots[0] = slots[0].clone() * rho + g.clone().square() * (1.0 - rho);
            let step = g * rate / (slots[0].clone() + epsilon).sqrt();
            let Some(velocity) = slots.get_mut(1) else { return weights - step };
            *velocity = velocity.clone() * momentum + step;
            weights - velocity.clone()
        }
    }
}

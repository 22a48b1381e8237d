use std::collections::HashMap;

use burn::module::{AutodiffModule, Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorData};
use rekindle_kernels::Accelerated;
use rekindle_kernels::train::{Pass, Rule};
use rekindle_nn::{
    Eager, Features, Model, Network, Section, assign, read, require_gradients_of, variables,
};

use super::{Engine, Scope, Step, Variable, in_order};
use crate::TrainError;
use crate::evaluate::host;
use crate::frozen;

/// Burn's autodiff, on any backend.
pub(super) struct Burn<B: AutodiffBackend> {
    model: Model<B>,
    scope: Scope,
    device: B::Device,
    /// The logits of the last forward pass.
    logits: Option<Tensor<B, 2>>,
    gradients: GradientsAccumulator<Model<B>>,
    /// The gradients of the steps so far, once they are asked for.
    taken: Option<GradientsParams>,
    /// What the optimizer remembers, flat and in Burn's layout.
    slots: HashMap<ParamId, Vec<Tensor<B::InnerBackend, 1>>>,
    /// Each parameter that changes: its layer and Keras's name.
    names: HashMap<ParamId, (String, &'static str)>,
}

impl<B: AutodiffBackend> Burn<B> {
    pub fn new(model: Model<B>, scope: Scope, device: B::Device) -> Self {
        let all = variables(&model);
        let changing = all.into_iter().filter(|variable| {
            let trains = variable.spec.trainable && scope.trains.contains(&variable.layer);
            trains || (!variable.spec.trainable && scope.live.contains(&variable.layer))
        });
        let names: HashMap<ParamId, (String, &'static str)> =
            changing.map(|v| (v.spec.id, (v.layer, v.spec.name))).collect();
        let model = require_gradients_of(model, &|layer| scope.trains.contains(layer));
        let (logits, taken, slots) = (None, None, HashMap::new());
        let gradients = GradientsAccumulator::new();
        Self { model, scope, device, logits, gradients, taken, slots, names }
    }

    fn taken(&mut self) -> &mut GradientsParams {
        let Self { taken, gradients, .. } = self;
        taken.get_or_insert_with(|| gradients.grads())
    }
}

impl<B: AutodiffBackend> Engine<B> for Burn<B> {
    fn forward(&mut self, features: Vec<f32>, pass: Pass) -> Result<Vec<f32>, TrainError> {
        let Pass::Training { seed, step } = pass else {
            let inputs = Features::from_values(features, self.scope.input, &self.device);
            let logits = run(&self.model.valid(), &self.scope, &mut Eager::logits(), inputs)?;
            return values(logits);
        };
        let inputs = Features::from_values(features, self.scope.input, &self.device);
        let mut eager = Eager::training(seed, step).live(self.scope.live.clone());
        let logits = run(&self.model, &self.scope, &mut eager, inputs)?;
        self.logits = Some(logits.clone());
        // The moving statistics follow at once; the graph has its own copies of what it needs.
        let followed = eager.take_followed();
        if !followed.is_empty() {
            self.model = assign(self.model.clone(), followed);
        }
        values(logits.inner())
    }

    fn backward(&mut self, slope: &[f32]) -> Result<(), TrainError> {
        let Some(logits) = self.logits.take() else { return Ok(()) };
        let data = TensorData::new(slope.to_vec(), logits.dims());
        // Its gradient by the logits is the slope.
        let loss = (logits * Tensor::from_data(data, &self.device)).sum();
        let gradients = GradientsParams::from_grads(loss.backward(), &self.model);
        self.gradients.accumulate(&self.model, gradients);
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
        let model = self.model.clone();
        let mut penalize = Penalize::<B> {
            factors,
            scale,
            penalty: 0.0,
            gradients: self.taken(),
            _backend: std::marker::PhantomData,
        };
        model.visit(&mut penalize);
        penalize.penalty
    }

    fn gradient_norm(&mut self) -> f64 {
        let model = self.model.clone();
        let mut norm =
            Norm::<B> { squares: 0.0, gradients: self.taken(), _backend: std::marker::PhantomData };
        model.visit(&mut norm);
        norm.squares.sqrt()
    }

    fn step(&mut self, step: &Step) {
        self.taken();
        let Some(gradients) = self.taken.take() else { return };
        let mut update = Update {
            step,
            gradients,
            slots: &mut self.slots,
            names: &self.names,
            factors: &self.scope.factors,
        };
        self.model = self.model.clone().map(&mut update);
    }

    fn state(&self) -> Vec<Variable> {
        let mut values = read(&self.model);
        let changing = variables(&self.model).into_iter();
        let changing = changing.filter(|variable| self.names.contains_key(&variable.spec.id));
        let variable = |variable: rekindle_nn::Variable| {
            let data = values.remove(&variable.spec.id)?;
            let values = data.convert::<f32>().into_vec().ok()?;
            let slots = self.slots.get(&variable.spec.id).into_iter().flatten();
            let slots = slots.map(|slot| variable.spec.from_burn(host(slot.clone()))).collect();
            let (name, values) = (variable.path(), variable.spec.from_burn(values));
            Some(Variable { name, shape: variable.spec.shape, values, slots })
        };
        changing.filter_map(variable).collect()
    }

    fn restore(&mut self, state: Vec<Variable>) -> Result<(), TrainError> {
        let changing: Vec<rekindle_nn::Variable> = variables(&self.model)
            .into_iter()
            .filter(|variable| self.names.contains_key(&variable.spec.id))
            .collect();
        let state = in_order(state, changing.iter().map(rekindle_nn::Variable::path))?;
        let mut values = HashMap::new();
        for (variable, saved) in changing.into_iter().zip(state) {
            let count: usize = variable.spec.shape.iter().product();
            if [&saved.values].into_iter().chain(&saved.slots).any(|list| list.len() != count) {
                return Err(TrainError::Resume(format!("`{}` has another shape", saved.name)));
            }
            values.insert(variable.spec.id, variable.spec.to_burn(saved.values));
            let flat = |slot: Vec<f32>| {
                let values = variable.spec.to_burn(slot).into_vec::<f32>().unwrap_or_default();
                Tensor::from_data(TensorData::new(values, [count]), &self.device)
            };
            self.slots.insert(variable.spec.id, saved.slots.into_iter().map(flat).collect());
        }
        self.model = assign(self.model.clone(), values);
        Ok(())
    }

    fn model(&self) -> Model<B> {
        self.model.clone()
    }
}

/// The values, or what the device said about anything since the last time.
fn values<B: burn::tensor::backend::Backend>(logits: Tensor<B, 2>) -> Result<Vec<f32>, TrainError> {
    let data = frozen::read(Features::Flat(logits))?;
    Ok(data.convert::<f32>().into_vec().unwrap_or_default())
}

/// What comes behind the cut.
fn run<B: burn::tensor::backend::Backend>(
    model: &Model<B>,
    scope: &Scope,
    eager: &mut Eager,
    inputs: Features<B>,
) -> Result<Tensor<B, 2>, TrainError> {
    let mut accelerated = Accelerated::new(eager);
    let outputs = match &scope.cut {
        Some(layer) => Section::after(model, accelerated, layer, inputs)?,
        None => model.walk(&mut accelerated, inputs)?,
    };
    Ok(outputs.flat()?)
}

/// The squares of all gradients.
struct Norm<'a, B> {
    squares: f64,
    gradients: &'a GradientsParams,
    _backend: std::marker::PhantomData<B>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Norm<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(gradient) = self.gradients.get::<B::InnerBackend, D>(param.id) {
            let sum = host(gradient.square().sum()).first().copied().unwrap_or(f32::NAN);
            self.squares += f64::from(sum);
        }
    }
}

struct Penalize<'a, B> {
    factors: HashMap<ParamId, f64>,
    scale: f32,
    penalty: f64,
    gradients: &'a mut GradientsParams,
    _backend: std::marker::PhantomData<B>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Penalize<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let Some(&factor) = self.factors.get(&param.id) else { return };
        let values = param.val().inner();
        let sum = host(values.clone().square().sum()).first().copied().unwrap_or(f32::NAN);
        self.penalty += factor * f64::from(sum);
        if let Some(gradient) = self.gradients.remove::<B::InnerBackend, D>(param.id) {
            let added = gradient + values * (2.0 * factor * f64::from(self.scale));
            self.gradients.register::<B::InnerBackend, D>(param.id, added);
        }
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
        let (Some(gradient), Some((layer, name))) =
            (self.gradients.remove::<B::InnerBackend, D>(id), self.names.get(&id))
        else {
            return param;
        };
        let factor = self.factors.get(layer).copied().unwrap_or(1.0);
        let (slots, step) = (self.slots.entry(id).or_default(), self.step);
        let decays = *name == "kernel";
        param.map(|tensor| {
            let needs = tensor.is_require_grad();
            let (shape, weights) = (tensor.shape(), tensor.inner().flatten::<1>(0, D - 1));
            let gradient = gradient.flatten::<1>(0, D - 1).mul_scalar(step.scale);
            let new = update(step, step.rate * factor, decays, weights, gradient, slots);
            Tensor::from_inner(new.reshape(shape)).set_require_grad(needs)
        })
    }
}

fn update<I: burn::tensor::backend::Backend>(
    step: &Step,
    rate: f64,
    decays: bool,
    weights: Tensor<I, 1>,
    g: Tensor<I, 1>,
    slots: &mut Vec<Tensor<I, 1>>,
) -> Tensor<I, 1> {
    slots.resize_with(step.rule.slots(), || g.zeros_like());
    match step.rule {
        Rule::Adam { beta_1, beta_2, epsilon, decay } => {
            let weights = if decays { weights * (1.0 - rate * decay) } else { weights };
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

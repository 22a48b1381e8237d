use burn::tensor::backend::AutodiffBackend;
use rekindle_kernels::train::{Parameter, Pass, Trainer};
use rekindle_nn::{Network, assign};

use super::{Engine, Scope, Step, Variable, in_order};
use crate::error::TrainError;

/// The CPU engine's trainer, and what the optimizer remembers.
pub(super) struct Cpu<B: AutodiffBackend> {
    model: Network<B>,
    trainer: Trainer,
    scope: Scope,
    /// For each parameter; made in the first step.
    slots: Vec<Vec<Vec<f32>>>,
}

impl<B: AutodiffBackend> Cpu<B> {
    pub fn new(model: Network<B>, trainer: Trainer, scope: Scope) -> Self {
        let slots = vec![Vec::new(); trainer.parameters().len()];
        Self { model, trainer, scope, slots }
    }

    /// The numbers of the parameters that change: by steps, or as moving statistics.
    fn changing(&self) -> Vec<usize> {
        let changes = |parameter: &Parameter| {
            parameter.trains() || self.scope.live.contains(&parameter.layer)
        };
        let all = self.trainer.parameters().iter().enumerate();
        all.filter(|(_, parameter)| changes(parameter)).map(|(number, _)| number).collect()
    }

    fn name(&self, number: usize) -> String {
        let Parameter { layer, spec, .. } = &self.trainer.parameters()[number];
        format!("{layer}/{}", spec.name)
    }
}

impl<B: AutodiffBackend> Engine<B> for Cpu<B> {
    fn forward(&mut self, features: Vec<f32>, pass: Pass) -> Result<Vec<f32>, TrainError> {
        Ok(self.trainer.forward(&features, pass)?.to_vec())
    }

    fn backward(&mut self, gradient: &[f32]) -> Result<(), TrainError> {
        self.trainer.backward(gradient)?;
        Ok(())
    }

    fn penalize(&mut self, scale: f32) -> f64 {
        let mut penalty = 0.0;
        for number in 0..self.trainer.parameters().len() {
            let Parameter { layer, spec, .. } = &self.trainer.parameters()[number];
            if spec.name == "kernel"
                && let Some(&factor) = self.scope.l2.get(layer)
            {
                penalty += self.trainer.add_l2(number, factor, scale);
            }
        }
        penalty
    }

    fn gradient_norm(&mut self) -> f64 {
        self.trainer.gradient_norm()
    }

    fn step(&mut self, step: &Step) {
        for number in 0..self.slots.len() {
            let parameter = &self.trainer.parameters()[number];
            if !parameter.trains() {
                continue;
            }
            let slots = &mut self.slots[number];
            slots.resize_with(step.rule.slots(), || written_zeros(parameter.values.len()));
            let factor = self.scope.factors.get(&parameter.layer).copied().unwrap_or(1.0);
            let rate = step.rate * factor;
            self.trainer.update(number, &step.rule, step.time, rate, step.scale, slots);
        }
        self.trainer.clear();
    }

    fn state(&self) -> Vec<Variable> {
        let variable = |number: usize| {
            let Parameter { spec, values, .. } = &self.trainer.parameters()[number];
            let (name, slots) = (self.name(number), self.slots[number].clone());
            Variable { name, shape: spec.shape.clone(), values: values.clone(), slots }
        };
        self.changing().into_iter().map(variable).collect()
    }

    fn restore(&mut self, state: Vec<Variable>) -> Result<(), TrainError> {
        let changing = self.changing();
        let state = in_order(state, changing.iter().map(|&number| self.name(number)))?;
        for (number, variable) in changing.into_iter().zip(state) {
            let count = self.trainer.parameters()[number].values.len();
            if variable.slots.iter().any(|slot| slot.len() != count) {
                return Err(TrainError::Resume(format!("`{}` has another shape", variable.name)));
            }
            self.trainer.set(number, variable.values)?;
            self.slots[number] = variable.slots;
        }
        Ok(())
    }

    fn model(&self) -> Network<B> {
        assign(self.model.clone(), self.trainer.changed())
    }
}

/// Zeros that have been written: of memory that is zero as it comes, each page would be looked at and then copied in the first
/// step, which stops all threads for a moment.
fn written_zeros(count: usize) -> Vec<f32> {
    let mut zeros = Vec::with_capacity(count);
    zeros.resize(count, 0.0);
    zeros
}

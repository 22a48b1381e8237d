//! What a trainer learns.

use std::collections::HashMap;

use burn::module::ParamId;
use burn::tensor::TensorData;
use rayon::prelude::*;

use super::product::Factors;
use super::{Parameter, Pending, Rule, Trainer};
use crate::PlanError;

impl Trainer {
    /// The parameters, in the order of the layers.
    #[must_use]
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Forgets the gradients.
    pub fn clear(&mut self) {
        for parameter in &mut self.parameters {
            parameter.stale = parameter.trains;
            parameter.pending = None;
        }
    }

    /// The parameters that train, each with the sum of its gradients since [`clear`](Self::clear), in Keras's layout: empty
    /// before the first, and behind an update that took it as it was computed.
    pub fn gradients(&mut self) -> impl Iterator<Item = (&Parameter, &[f32])> {
        self.settle_all();
        let training = self.parameters.iter().filter(|parameter| parameter.trains);
        training.map(|parameter| (parameter, parameter.gradient.as_slice()))
    }

    /// Computes a gradient that was put off.
    pub(super) fn settle(&mut self, parameter: usize) {
        let own = &mut self.parameters[parameter];
        let Some(Pending { product, input, dy }) = own.pending.take() else { return };
        let is_stale = std::mem::take(&mut own.stale);
        // The first gradient of all is put in the place of nothing.
        let adds = !is_stale && !own.gradient.is_empty();
        own.gradient.resize(own.values.len(), 0.0);
        let factors = Factors { x: &self.values[input], dy: &dy };
        product.gradient(factors, adds, &mut own.gradient);
    }

    /// Computes all gradients that were put off.
    pub(super) fn settle_all(&mut self) {
        (0..self.parameters.len()).for_each(|parameter| self.settle(parameter));
    }

    /// Updates one parameter by its gradient times `scale`; see [`Rule::update`].
    pub fn update(
        &mut self,
        parameter: usize,
        rule: &Rule,
        time: u64,
        rate: f64,
        scale: f32,
        slots: &mut [Vec<f32>],
    ) {
        let own = &mut self.parameters[parameter];
        // One that nothing was added to before goes into the update as it is computed.
        let is_first = own.stale || own.gradient.is_empty();
        if own.pending.is_some() && !is_first {
            self.settle(parameter);
        }
        let Parameter { values, gradient, pending, changed, .. } = &mut self.parameters[parameter];
        *changed = true;
        match pending.take() {
            Some(Pending { product, input, dy }) => {
                let factors = Factors { x: &self.values[input], dy: &dy };
                product.update(factors, &rule.at(time, rate, scale), values, slots);
                gradient.clear();
            }
            None => rule.update(time, rate, scale, values, gradient, slots),
        }
    }

    /// Adds `scale` times the gradient of `factor * sum(value * value)` to a parameter's gradient, and gives that sum.
    pub fn add_l2(&mut self, parameter: usize, factor: f64, scale: f32) -> f64 {
        self.settle(parameter);
        let Parameter { values, gradient, .. } = &mut self.parameters[parameter];
        let share = 2.0 * factor as f32 * scale;
        gradient.iter_mut().zip(values.iter()).for_each(|(to, value)| *to += share * value);
        values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>() * factor
    }

    /// The length of all gradients together.
    #[must_use]
    pub fn gradient_norm(&mut self) -> f64 {
        self.settle_all();
        let squares = |parameter: &Parameter| -> f64 {
            let pieces = parameter.gradient.par_chunks(1 << 14);
            let sums = pieces.map(|piece| piece.iter().map(|&g| f64::from(g).powi(2)).sum());
            // Collected first, so that the sum has one order.
            sums.collect::<Vec<f64>>().iter().sum()
        };
        self.parameters.iter().map(squares).sum::<f64>().sqrt()
    }

    /// Puts other values, in Keras's layout, in the place of a parameter's.
    ///
    /// # Errors
    /// When there are more or fewer than the parameter has.
    pub fn set(&mut self, parameter: usize, values: Vec<f32>) -> Result<(), PlanError> {
        let own = &mut self.parameters[parameter];
        if own.values.len() != values.len() {
            return Err(PlanError::Input { expected: own.values.len(), found: values.len() });
        }
        own.values = values;
        own.changed = true;
        Ok(())
    }

    /// Every parameter that changed, in Burn's layout, for `rekindle_nn::assign`.
    #[must_use]
    pub fn changed(&self) -> HashMap<ParamId, TensorData> {
        let changed = self.parameters.iter().filter(|parameter| parameter.changed);
        changed.map(|p| (p.id, p.spec.to_burn(p.values.clone()))).collect()
    }
}

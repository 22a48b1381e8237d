//! A model on several devices that share its batches.

use std::collections::HashMap;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use rekindle_kernels::gpu;
use rekindle_nn::Network;

/// What the optimizer remembers, flat and in Burn's layout.
pub(super) type Slots<B> = HashMap<ParamId, Vec<Tensor<<B as AutodiffBackend>::InnerBackend, 1>>>;

/// A model on a device, with all that a step there needs: distributed data parallel training.
pub(super) struct Replica<B: AutodiffBackend> {
    pub model: Network<B>,
    pub gradients: GradientsAccumulator<Network<B>>,
    pub slots: Slots<B>,
}

impl<B: AutodiffBackend> Replica<B> {
    pub fn new(model: Network<B>) -> Self {
        Self { model, gradients: GradientsAccumulator::new(), slots: HashMap::new() }
    }

    /// The same on another device, without gradients.
    pub fn copy_to(&self, device: &B::Device) -> Self {
        let there = |slots: &Vec<Tensor<B::InnerBackend, 1>>| {
            slots.iter().map(|slot| slot.clone().to_device(device)).collect()
        };
        Self {
            model: self.model.clone().fork(device),
            gradients: GradientsAccumulator::new(),
            slots: self.slots.iter().map(|(&id, slots)| (id, there(slots))).collect(),
        }
    }
}

/// Has each replica's gradients be the sums of all of them, so that all take the same step.
pub(super) fn sum<B: AutodiffBackend>(
    model: &Network<B>,
    gradients: &mut [GradientsParams],
    devices: &[B::Device],
) {
    if gradients.len() > 1 {
        model.visit(&mut Sum::<B> { gradients, devices });
    }
}

struct Sum<'a, B: AutodiffBackend> {
    gradients: &'a mut [GradientsParams],
    devices: &'a [B::Device],
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Sum<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let own = self.gradients.iter_mut().map(|own| own.remove::<B::InnerBackend, D>(param.id));
        let own: Vec<Option<Tensor<B::InnerBackend, D>>> = own.collect();
        let Some(shape) = own.iter().flatten().next().map(Tensor::shape) else { return };
        // All have to take part, also those that had no photo of the batch.
        let own = own.into_iter().zip(self.devices);
        let own: Vec<_> = own
            .map(|(own, device)| own.unwrap_or_else(|| Tensor::zeros(shape.clone(), device)))
            .collect();
        let sums = gpu::all_reduce(&own).unwrap_or_else(|| through_the_first(own, self.devices));
        for (gradients, sum) in self.gradients.iter_mut().zip(sums) {
            gradients.register::<B::InnerBackend, D>(param.id, sum);
        }
    }
}

/// Sums by the first device, where devices have no sum of their own.
fn through_the_first<I: Backend, const D: usize>(
    own: Vec<Tensor<I, D>>,
    devices: &[I::Device],
) -> Vec<Tensor<I, D>> {
    let own = own.into_iter().map(|own| own.to_device(&devices[0]));
    let sum = own.reduce(|sum, own| sum + own);
    devices.iter().filter_map(|device| sum.clone().map(|sum| sum.to_device(device))).collect()
}

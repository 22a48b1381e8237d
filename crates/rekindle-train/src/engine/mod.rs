//! What computes a step: the CPU engine's trainer, or Burn's autodiff on any backend.

mod burn;
mod cpu;

use std::collections::{HashMap, HashSet};

use ::burn::module::AutodiffModule;
use ::burn::tensor::backend::AutodiffBackend;
use rekindle_kernels::PlanError;
use rekindle_kernels::serves;
use rekindle_kernels::train::{Pass, Rule, TrainerConfig};
use rekindle_nn::{Model, Shape};

use crate::TrainError;

/// What of a model trains.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    /// The layer behind which training begins; nothing for the images themselves.
    pub cut: Option<String>,
    /// The shape of what comes in there.
    pub input: Shape,
    /// The names of the layers that train.
    pub trains: HashSet<String>,
    /// The names of the normalizations that take the batch's statistics.
    pub live: HashSet<String>,
    /// A factor of the rate for each layer that has not 1.
    pub factors: HashMap<String, f64>,
    /// L2 penalties of kernels, by layer.
    pub l2: HashMap<String, f64>,
}

/// One step of an optimizer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub rule: Rule,
    /// Counted from 1 over the phase.
    pub time: u64,
    pub rate: f64,
    /// What the gradients are multiplied by.
    pub scale: f32,
}

/// A variable that changes, and what the optimizer remembers of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Variable {
    /// `layer/variable`.
    pub name: String,
    pub shape: Vec<usize>,
    /// In Keras's layout.
    pub values: Vec<f32>,
    /// In the same layout.
    pub slots: Vec<Vec<f32>>,
}

/// Computes steps of what is in a [`Scope`].
pub(crate) trait Engine<B: AutodiffBackend> {
    /// The logits of a batch.
    fn forward(&mut self, features: Vec<f32>, pass: Pass) -> Result<Vec<f32>, TrainError>;

    /// Adds the gradients of the last forward pass, which was one in training.
    fn backward(&mut self, slope: &[f32]) -> Result<(), TrainError>;

    /// Adds the gradients of the penalties times `scale`, and gives the penalties.
    fn penalize(&mut self, scale: f32) -> f64;

    /// The length of all gradients together.
    fn gradient_norm(&mut self) -> f64;

    /// Changes the parameters, and forgets the gradients.
    fn step(&mut self, step: &Step);

    /// All that changes.
    fn state(&self) -> Vec<Variable>;

    /// Goes on from there; the variables are those of [`Engine::state`], in any order.
    fn restore(&mut self, state: Vec<Variable>) -> Result<(), TrainError>;

    /// The model, with what has been learned.
    fn model(&self) -> Model<B>;
}

/// The engine for a model's backend: the CPU engine's where tensors are in the CPU's memory and it knows every layer.
pub(crate) fn engine<B: AutodiffBackend>(
    model: Model<B>,
    scope: Scope,
    device: &B::Device,
) -> Result<Box<dyn Engine<B>>, TrainError> {
    if serves::<B::InnerBackend>(device) {
        let config = TrainerConfig {
            after: scope.cut.as_deref(),
            input: scope.input,
            trains: &|layer| scope.trains.contains(layer),
            live: &|layer| scope.live.contains(layer),
            input_gradient: false,
        };
        match rekindle_kernels::train::Trainer::new(&model.valid(), &config) {
            Ok(trainer) => return Ok(Box::new(cpu::Cpu::new(model, trainer, scope))),
            Err(error @ PlanError::Unsupported { .. }) => {
                tracing::debug!("training with Burn: {error}");
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Box::new(burn::Burn::new(model, scope, device.clone())))
}

/// Puts a saved state in the order of `names`, with all of the rule's slots.
fn in_order(
    state: Vec<Variable>,
    names: impl Iterator<Item = String>,
) -> Result<Vec<Variable>, TrainError> {
    let mut by_name: HashMap<String, Variable> =
        state.into_iter().map(|variable| (variable.name.clone(), variable)).collect();
    names
        .map(|name| by_name.remove(&name).ok_or(TrainError::Resume(format!("it has no `{name}`"))))
        .collect()
}

#[cfg(test)]
mod tests {
    use ::burn::backend::{Autodiff, Flex};
    use rekindle_nn::layers::Activation;
    use rekindle_nn::{HeadConfig, MobileNetV2Config, Network, require_gradients};

    use super::*;

    type B = Autodiff<Flex>;

    fn model() -> Model<B> {
        let config = MobileNetV2Config::new().with_alpha(0.35).with_size(32);
        let backbone = config.init::<B>(&Default::default()).expect("valid");
        let features = backbone.output_shape(rekindle_nn::Shape::image(32)).expect("fits");
        let head = HeadConfig::global_average_pooling().batch_normalization();
        let head = head.dense(8, Activation::Sigmoid).l2(0.1).dropout(0.25);
        let head = head.init::<B>(features, 3, 1, &Default::default()).expect("fits");
        require_gradients(Model { backbone: backbone.into(), head: Some(head) })
    }

    /// The CPU engine's trainer and Burn's autodiff take the same steps, whatever the rule.
    #[test]
    fn engines_take_the_same_steps() {
        let model = model();
        let layers = rekindle_nn::variables(&model).into_iter().map(|variable| variable.layer);
        let trains: HashSet<String> = layers
            .filter(|layer| {
                ["block_16", "Conv_1", "head"].iter().any(|part| layer.starts_with(part))
            })
            .collect();
        let live = ["block_16_expand_BN", "head_batch_normalization"].map(String::from);
        let cut = model.cut(&|layer| trains.contains(layer));
        assert_eq!(cut.as_deref(), Some("block_15_add"));
        let input = rekindle_nn::Shape::Map { height: 2, width: 2, channels: 56 };
        let scope = Scope {
            cut,
            input,
            trains,
            live: live.into_iter().collect(),
            factors: HashMap::from([("Conv_1".to_owned(), 0.5)]),
            l2: HashMap::from([("head_dense".to_owned(), 0.1)]),
        };
        let features: Vec<f32> =
            (0..6 * 4 * 56).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
        let nesterov = Rule::sgd(0.9, true);
        let rms = Rule::RmsProp { rho: 0.9, momentum: 0.5, epsilon: 1e-7 };
        for rule in [
            Rule::adam_w(),
            Rule::sgd(0.0, false),
            Rule::sgd(0.9, false),
            nesterov,
            rms,
            Rule::rms_prop(),
        ] {
            let cpu = engine(model.clone(), scope.clone(), &Default::default()).expect("trains");
            let burn = burn::Burn::new(model.clone(), scope.clone(), Default::default());
            let mut engines: [Box<dyn Engine<B>>; 2] = [cpu, Box::new(burn)];
            let mut seen: Vec<Vec<f32>> = Vec::new();
            for engine in &mut engines {
                let mut all = Vec::new();
                for time in 1..=3 {
                    // Two batches in a step.
                    for half in 0..2 {
                        let pass = Pass::Training { seed: 1, step: 2 * time + half };
                        let logits = engine.forward(features.clone(), pass).expect("runs");
                        let slope: Vec<f32> =
                            (0..18).map(|i| (i % 5) as f32 / 20.0 - 0.1).collect();
                        engine.backward(&slope).expect("runs");
                        all.extend(logits);
                    }
                    all.push(engine.penalize(2.0) as f32);
                    all.push(engine.gradient_norm() as f32);
                    engine.step(&Step { rule, time, rate: 1e-3, scale: 0.5 });
                }
                // Where it is, it goes on from.
                let state = engine.state();
                engine.restore(state).expect("its own");
                all.extend(engine.forward(features.clone(), Pass::Inference).expect("runs"));
                seen.push(all);
            }
            for (a, b) in seen[0].iter().zip(&seen[1]) {
                assert!((a - b).abs() < 1e-3 * (1.0 + b.abs()), "{rule:?}: {a} {b}");
            }
            assert!(engines[0].restore(Vec::new()).is_err());
        }
    }
}

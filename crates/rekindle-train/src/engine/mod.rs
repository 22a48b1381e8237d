//! What computes a step: the CPU engine's trainer, this project's kernels for heads on GPUs, or Burn's autodiff on any backend.

mod burn;
mod cpu;
mod dense;
mod replicas;
mod scaler;

use std::collections::{HashMap, HashSet};

use ::burn::module::AutodiffModule;
use ::burn::tensor::Tensor;
use ::burn::tensor::backend::{AutodiffBackend, Backend};
use rekindle_infer::internal::{host, read};
use rekindle_kernels::train::{Pass, Rule, TrainerConfig};
use rekindle_kernels::{PlanError, Precision, serves};
use rekindle_nn::{Features, Network, Shape, floats};

use crate::error::TrainError;

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
    /// Whether there is memory for a step of this many samples: takes one and forgets it. Between two steps.
    fn rehearse(&mut self, _samples: usize) -> Result<(), TrainError> {
        Ok(())
    }

    /// The logits of a batch.
    fn forward(&mut self, features: Vec<f32>, pass: Pass) -> Result<Vec<f32>, TrainError>;

    /// Adds the gradients of the last forward pass, which was one in training.
    fn backward(&mut self, gradient: &[f32]) -> Result<(), TrainError>;

    /// Adds the gradients of the penalties times `scale`, and gives the penalties; before the gradients are looked at.
    fn penalize(&mut self, scale: f32) -> f64;

    /// The length of all gradients together.
    fn gradient_norm(&mut self) -> f64;

    /// Changes the parameters, and forgets the gradients.
    fn step(&mut self, step: &Step);

    /// Waits for what the device still computes, and hears whether it could: what failed must not be saved.
    fn settle(&self) -> Result<(), TrainError> {
        Ok(())
    }

    /// All that changes.
    fn state(&self) -> Vec<Variable>;

    /// Goes on from there; the variables are those of [`Engine::state`], in any order.
    fn restore(&mut self, state: Vec<Variable>) -> Result<(), TrainError>;

    /// The model, with what has been learned.
    fn model(&self) -> Network<B>;
}

/// Where an engine computes, and with what.
#[derive(Debug, Clone)]
pub(crate) struct Place<D> {
    /// Batches are shared among them; the first one says what was learned.
    pub devices: Vec<D>,
    /// What is behind the cut is computed with it, but for parameters and sums; the CPU engine trains in f32, and so do heads of
    /// dense layers on GPUs.
    pub precision: Precision,
}

/// The engine for a model's backend, and for this many samples between two steps: the CPU engine's where tensors are in the CPU's
/// memory and it knows every layer, and on a GPU this project's kernels for a head that they are fast for.
pub(crate) fn engine<B: AutodiffBackend>(
    model: Network<B>,
    scope: Scope,
    place: &Place<B::Device>,
    samples: usize,
) -> Result<Box<dyn Engine<B>>, TrainError> {
    if let [device] = place.devices.as_slice()
        && serves::<B::InnerBackend>(device)
    {
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
                tracing::warn!("{error}; what trains is computed with Burn, which is slower");
            }
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(dense) = dense::Dense::new(&model, &scope, place, samples)? {
        return Ok(Box::new(dense));
    }
    Ok(Box::new(burn::Burn::new(model, scope, place)?))
}

/// The values, or what the device said about anything since the last time.
fn values<B: Backend>(logits: Tensor<B, 2>) -> Result<Vec<f32>, TrainError> {
    Ok(floats(read(Features::Flat(logits))?))
}

/// A sum's one number, from its device; 0 where nothing was added up.
fn number<B: Backend>(sum: Option<Tensor<B, 1>>) -> f64 {
    sum.map_or(0.0, |sum| f64::from(host(sum).first().copied().unwrap_or(f32::NAN)))
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
    use ::burn::backend::flex::FlexDevice;
    use ::burn::backend::{Autodiff, Flex};
    use rekindle_nn::{Activation, HeadConfig, MobileNetV2Config, Samples, require_gradients};

    use super::*;

    type B = Autodiff<Flex>;

    fn model() -> Network<B> {
        let config = MobileNetV2Config::new().with_alpha(0.35).with_size(64);
        let base = config.init::<B>(&Default::default()).expect("valid");
        let head = HeadConfig::global_average_pooling().batch_normalization();
        let head = head.dense(8, Activation::Sigmoid).l2(0.1).dropout(0.25);
        require_gradients(head.on(base.into(), 3, 1, &Default::default()).expect("fits"))
    }

    /// The last block and what comes behind it; `live` are normalizations that take the batch's statistics.
    fn scope(model: &Network<B>, live: &[&str]) -> Scope {
        let layers = model.variables().into_iter().map(|variable| variable.layer);
        let trains: HashSet<String> = layers
            .filter(|layer| {
                ["block_16", "Conv_1", "head"].iter().any(|part| layer.starts_with(part))
            })
            .collect();
        let cut = model.graph().cut(&|layer| trains.contains(layer));
        assert_eq!(cut.as_deref(), Some("block_15_add"));
        Scope {
            cut,
            input: Shape::Map { height: 2, width: 2, channels: 56 },
            trains,
            live: live.iter().map(|&layer| layer.to_owned()).collect(),
            factors: HashMap::from([("Conv_1".to_owned(), 0.5)]),
            l2: HashMap::from([("head_dense".to_owned(), 0.1)]),
        }
    }

    fn place(devices: usize) -> Place<FlexDevice> {
        Place { devices: vec![Default::default(); devices], precision: Precision::F32 }
    }

    /// A batch that is divided, among devices or one part after the other, takes the step of the whole one.
    #[test]
    fn parts_of_a_batch_take_the_same_steps() {
        let (model, scope) = (model(), scope(&model(), &[]));
        let burn = |devices| -> Box<dyn Engine<B>> {
            let made = burn::Burn::new(model.clone(), scope.clone(), &place(devices));
            Box::new(made.expect("f32"))
        };
        let cpu = || engine(model.clone(), scope.clone(), &place(1), 20).expect("trains");
        let each = scope.input.count();
        let features: Vec<f32> =
            (0..10 * each).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
        let gradient: Vec<f32> = (0..30).map(|i| (i % 7) as f32 / 20.0 - 0.15).collect();
        let mut seen: Vec<Vec<f32>> = Vec::new();
        for (mut engine, photos) in
            [(cpu(), 10), (cpu(), 4), (burn(1), 10), (burn(1), 3), (burn(3), 10), (burn(4), 5)]
        {
            let mut all = Vec::new();
            for time in 1..=3 {
                // What is only tried leaves no trace.
                engine.rehearse(7).expect("there is memory");
                for (number, own) in features.chunks(photos * each).enumerate() {
                    let first = number * photos;
                    let part = Some(Samples { first, of: 10 });
                    let pass = Pass::Training { seed: 1, step: time, part };
                    let logits = engine.forward(own.to_vec(), pass).expect("runs");
                    engine.backward(&gradient[first * 3..][..logits.len()]).expect("runs");
                    all.extend(logits);
                }
                engine.step(&Step { rule: Rule::adam(), time, rate: 1e-3, scale: 1.0 });
            }
            seen.push(all);
        }
        for other in &seen[1..] {
            assert_eq!(other.len(), seen[0].len());
            for (a, b) in other.iter().zip(&seen[0]) {
                assert!((a - b).abs() < 1e-3 * (1.0 + b.abs()), "{a} {b}");
            }
        }
        assert_ne!(seen[0][..30], seen[0][30..60], "it trains");
    }

    /// Devices take the statistics of their parts, and go on with the mean of what they found: of the first normalization
    /// that is the whole batch's.
    #[test]
    fn moving_statistics_are_the_same_on_all_devices() {
        let (model, scope) = (model(), scope(&model(), &["block_16_expand_BN"]));
        let count = 6 * scope.input.count();
        let features: Vec<f32> = (0..count).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
        let moving_mean = |devices| {
            let made = burn::Burn::<B>::new(model.clone(), scope.clone(), &place(devices));
            let mut engine = made.expect("f32");
            for step in 0..3 {
                let pass = Pass::Training { seed: 1, step, part: None };
                engine.forward(features.clone(), pass).expect("runs");
                engine.backward(&[0.0; 18]).expect("runs");
            }
            let state = engine.state().into_iter();
            let found = state.filter(|v| v.name == "block_16_expand_BN/moving_mean");
            found.map(|variable| variable.values).next().expect("it follows")
        };
        for (a, b) in moving_mean(1).iter().zip(moving_mean(3)) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }

    /// Halves round, and nothing else: the gradients are those of f32, scaled losses or not, and a state goes on.
    #[test]
    fn halves_have_the_gradients_of_f32() {
        let (model, scope) = (model(), scope(&model(), &["head_batch_normalization"]));
        let features: Vec<f32> =
            (0..6 * 4 * 56).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
        let gradient: Vec<f32> = (0..18).map(|i| (i % 5) as f32 / 20.0 - 0.1).collect();
        let run = |precision| {
            let place = Place { precision, ..place(1) };
            let mut engine =
                burn::Burn::<B>::new(model.clone(), scope.clone(), &place).expect("Flex has it");
            let pass = Pass::Training { seed: 1, step: 0, part: None };
            let mut all = engine.forward(features.clone(), pass).expect("runs");
            engine.backward(&gradient).expect("runs");
            all.push(engine.penalize(1.0) as f32);
            all.push(engine.gradient_norm() as f32);
            let step = Step { rule: Rule::sgd(0.0, false), time: 1, rate: 1e-2, scale: 1.0 };
            engine.step(&step);
            let state = engine.state();
            engine.restore(state).expect("its own");
            all.extend(engine.forward(features.clone(), Pass::Inference).expect("runs"));
            (all, engine.state().len())
        };
        let (exact, variables) = run(Precision::F32);
        for (precision, most) in [(Precision::F16, 5e-3), (Precision::Bf16, 4e-2)] {
            let (found, own) = run(precision);
            assert_ne!(found, exact);
            assert_eq!(own, variables + usize::from(precision == Precision::F16));
            for (a, b) in found.iter().zip(&exact) {
                assert!((a - b).abs() < most * (1.0 + b.abs()), "{precision}: {a} {b}");
            }
        }
    }

    /// The CPU engine's trainer and Burn's autodiff take the same steps, whatever the rule.
    #[test]
    fn engines_take_the_same_steps() {
        let model = model();
        let scope = scope(&model, &["block_16_expand_BN", "head_batch_normalization"]);
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
            let cpu = engine(model.clone(), scope.clone(), &place(1), 20).expect("trains");
            let burn = burn::Burn::new(model.clone(), scope.clone(), &place(1)).expect("f32");
            let mut engines: [Box<dyn Engine<B>>; 2] = [cpu, Box::new(burn)];
            let mut seen: Vec<Vec<f32>> = Vec::new();
            for engine in &mut engines {
                let mut all = Vec::new();
                for time in 1..=3 {
                    // Two batches in a step.
                    for half in 0..2 {
                        let pass = Pass::Training { seed: 1, step: 2 * time + half, part: None };
                        let logits = engine.forward(features.clone(), pass).expect("runs");
                        let gradient: Vec<f32> =
                            (0..18).map(|i| (i % 5) as f32 / 20.0 - 0.1).collect();
                        engine.backward(&gradient).expect("runs");
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

//! The training loop.

use std::time::Instant;

use burn::tensor::backend::AutodiffBackend;
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rekindle_infer::internal::{best_class, most_at_once};
use rekindle_infer::{Epoch, Event, History, InferError, Observer};
use rekindle_kernels::train::Pass;
use rekindle_nn::{Network, Samples};

use super::checkpoint::{Position, Progress, Snapshot};
use crate::engine::{Engine, Place, Scope, Step, engine};
use crate::error::TrainError;
use crate::features::{Batch, Batches, Stored};
use crate::settings::{FitConfig, Loss, Moment, Schedule};

/// One phase of a run.
pub(crate) struct Phase<'a> {
    /// Counted from 0.
    pub number: usize,
    pub scope: Scope,
    pub epochs: usize,
    pub learning_rate: f64,
    /// Epochs before this phase, and of the whole run.
    pub before: usize,
    pub total: usize,
    pub train: &'a dyn Batches,
    pub valid: Stored<'a>,
    pub class_weights: &'a [f32],
    pub classes: usize,
}

/// What goes on over the phases of a run.
pub(crate) struct Run<'a> {
    pub config: &'a FitConfig,
    pub observer: &'a mut dyn Observer,
    pub history: History,
    /// Where checkpoints go.
    pub snapshot: Option<&'a Snapshot>,
}

/// Sums of an epoch.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    loss: f64,
    right: f64,
    seen: usize,
}

/// Trains a phase; goes on from `progress`, if there is one.
pub(crate) fn fit<B: AutodiffBackend>(
    model: Network<B>,
    phase: &Phase<'_>,
    run: &mut Run<'_>,
    progress: Option<Progress>,
    place: &Place<B::Device>,
) -> Result<Network<B>, TrainError> {
    let config = run.config;
    let samples = config.batch_size.min(phase.train.len()).saturating_mul(config.accumulate);
    let mut engine = engine(model, phase.scope.clone(), place, samples)?;
    let engine = engine.as_mut();
    let at_once = photos_at_once(engine, config, phase.train.len())?;
    let mut at = match progress {
        Some(progress) => progress.restore(engine)?,
        None => Position::default(),
    };
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    let mut order: Vec<usize> = (0..phase.train.len()).collect();
    let batches = phase.train.len().div_ceil(config.batch_size);
    let steps = batches.div_ceil(config.accumulate);
    // The order of an epoch is a shuffle of the last one's.
    (0..phase.before + at.epoch).for_each(|_| order.shuffle(&mut rng));
    while at.epoch < phase.epochs && !at.stopped {
        let start = Instant::now();
        let epoch = phase.before + at.epoch + 1;
        order.shuffle(&mut rng);
        let mut sums = Sums { loss: at.loss_sum, right: at.right, seen: at.seen };
        let mut gathered = 0;
        let mut rate = config.learning_rate;
        let skip = at.batch;
        let rest = &order[(skip * config.batch_size).min(order.len())..];
        phase.train.for_each(rest, epoch, config.batch_size, &mut |number, mut batch| {
            let number = skip + number;
            let photos = batch.labels.len();
            config.loss.smooth(&mut batch.targets, config.label_smoothing, phase.classes);
            let step = ((epoch - 1) * batches + number) as u64;
            let (mut loss, logits) = gradients(engine, phase, config, &mut batch, step, at_once)?;
            gathered += 1;
            let is_step = gathered == config.accumulate || number + 1 == batches;
            if is_step {
                let moment = Moment {
                    step: at.time,
                    steps: (steps * phase.epochs) as u64,
                    steps_per_epoch: steps as u64,
                };
                rate = phase.learning_rate * config.schedule.factor(moment) * at.plateau.factor;
                loss += engine.penalize(gathered as f32) * photos as f64;
                at.time += 1;
                let scale = scale(engine, config, gathered);
                engine.step(&Step { rule: config.optimizer, time: at.time, rate, scale });
                gathered = 0;
            }
            let mean = (loss / photos as f64) as f32;
            if !mean.is_finite() {
                let step = number + 1;
                return Err(TrainError::Diverged { loss: mean, epoch, step, learning_rate: rate });
            }
            sums.loss += loss;
            sums.right += right(config.loss, &logits, &batch, phase.classes);
            sums.seen += photos;
            let loss = (sums.loss / sums.seen as f64) as f32;
            let (step, steps) = (number + 1, batches);
            let epochs = phase.total;
            run.observer.on_event(&Event::Step { epoch, epochs, step, steps, loss, photos });
            if is_step && run.observer.stops() {
                at.batch = number + 1;
                (at.loss_sum, at.right, at.seen) = (sums.loss, sums.right, sums.seen);
                engine.settle()?;
                let checkpoint = match run.snapshot {
                    Some(snapshot) => {
                        snapshot.save(phase.number, &at, engine, &run.history)?;
                        Some(snapshot.path().to_owned())
                    }
                    None => None,
                };
                return Err(TrainError::Interrupted { epoch, step, checkpoint });
            }
            Ok(())
        })?;
        engine.settle()?;
        let checked = match phase.valid.store.is_empty() {
            true => None,
            false => Some(score(engine, phase, config, at_once)?),
        };
        let result = Epoch {
            loss: (sums.loss / sums.seen.max(1) as f64) as f32,
            accuracy: (sums.right / sums.seen.max(1) as f64) as f32,
            val_loss: checked.map(|(loss, _)| loss),
            val_accuracy: checked.map(|(_, accuracy)| accuracy),
            learning_rate: rate,
            seconds: start.elapsed().as_secs_f64(),
        };
        run.history.epochs.push(result);
        at = Position { epoch: at.epoch + 1, batch: 0, loss_sum: 0.0, right: 0.0, seen: 0, ..at };
        let monitored = result.val_loss.unwrap_or(result.loss);
        if let Schedule::Plateau { factor, patience } = config.schedule {
            at.plateau.hear(monitored, 1e-4);
            at.plateau.reduce(factor, patience);
        }
        if let Some(stopping) = &config.early_stopping {
            if at.stopping.hear(monitored, stopping.min_delta) && stopping.restore_best {
                at.best = engine.state().into_iter().map(|v| (v.name, v.values)).collect();
            }
            at.stopped = at.stopping.waited >= stopping.patience.max(1);
        }
        if let Some(snapshot) = run.snapshot {
            snapshot.save(phase.number, &at, engine, &run.history)?;
        }
        // Told when it is on the disk: who hears of an epoch may stop the run.
        let epochs = if at.stopped { epoch } else { phase.total };
        run.observer.on_event(&Event::Epoch { epoch, epochs, result: &result });
    }
    if !at.best.is_empty() {
        let mut state = engine.state();
        for variable in &mut state {
            if let Some(values) = at.best.remove(&variable.name) {
                variable.values = values;
            }
        }
        engine.restore(state)?;
    }
    Ok(engine.model())
}

/// As many photos as a batch has, or half of them and so on, until there is memory for them.
fn photos_at_once<B: AutodiffBackend>(
    engine: &mut dyn Engine<B>,
    config: &FitConfig,
    photos: usize,
) -> Result<usize, TrainError> {
    if let Some(photos) = config.micro_batch {
        return Ok(photos.min(config.batch_size));
    }
    let all = config.batch_size.min(photos).max(1);
    let is_memory = |error: &TrainError| matches!(error, TrainError::Infer(InferError::Device(_)));
    let at_once = most_at_once(all, is_memory, |photos| engine.rehearse(photos))?;
    // A batch that is not divided is one part, whatever its size.
    Ok(if at_once == all { config.batch_size } else { at_once })
}

/// Adds the gradients of a batch, part by part; the sum of its losses, and its logits.
fn gradients<B: AutodiffBackend>(
    engine: &mut dyn Engine<B>,
    phase: &Phase<'_>,
    config: &FitConfig,
    batch: &mut Batch,
    step: u64,
    at_once: usize,
) -> Result<(f64, Vec<f32>), TrainError> {
    let photos = batch.labels.len();
    let weights = batch.weights(phase.class_weights);
    let mut features = std::mem::take(&mut batch.features);
    let count = features.len() / photos.max(1);
    let (mut loss, mut logits) = (0.0, Vec::new());
    for first in (0..photos).step_by(at_once) {
        let rows = first..(first + at_once).min(photos);
        let rest = features.split_off(rows.len() * count);
        let own = std::mem::replace(&mut features, rest);
        let part = Some(Samples { first, of: photos });
        let found = engine.forward(own, Pass::Training { seed: config.seed, step, part })?;
        let (targets, weights) = batch.rows(&rows, &weights, phase.classes);
        let mut graded = config.loss.grade(&found, targets, weights, phase.classes);
        if rows.len() < photos {
            // The gradient is that of the mean over the batch.
            let share = rows.len() as f32 / photos as f32;
            graded.gradient.iter_mut().for_each(|gradient| *gradient *= share);
        }
        engine.backward(&graded.gradient)?;
        loss += graded.sum;
        logits.extend(found);
    }
    Ok((loss, logits))
}

/// What gradients are multiplied by: their mean over the batches of a step, and shortened.
fn scale<B: AutodiffBackend>(
    engine: &mut dyn Engine<B>,
    config: &FitConfig,
    batches: usize,
) -> f32 {
    let mean = 1.0 / batches as f64;
    let Some(limit) = config.clip_norm else { return mean as f32 };
    let norm = engine.gradient_norm() * mean;
    (if norm > limit { mean * limit / norm } else { mean }) as f32
}

/// Mean loss and accuracy on the validation photos.
fn score<B: AutodiffBackend>(
    engine: &mut dyn Engine<B>,
    phase: &Phase<'_>,
    config: &FitConfig,
    at_once: usize,
) -> Result<(f32, f32), TrainError> {
    let mut sums = Sums::default();
    let order: Vec<usize> = (0..phase.valid.len()).collect();
    phase.valid.for_each(&order, 1, at_once.min(config.batch_size), &mut |_, mut batch| {
        let logits = engine.forward(std::mem::take(&mut batch.features), Pass::Inference)?;
        let weights = vec![1.0; batch.labels.len()];
        sums.loss += config.loss.grade(&logits, &batch.targets, &weights, phase.classes).sum;
        sums.right += right(config.loss, &logits, &batch, phase.classes);
        sums.seen += batch.labels.len();
        Ok(())
    })?;
    let seen = sums.seen.max(1) as f64;
    Ok(((sums.loss / seen) as f32, (sums.right / seen) as f32))
}

/// How many photos of a batch are right; where photos are of several classes, each class is a share of one.
fn right(loss: Loss, logits: &[f32], batch: &Batch, classes: usize) -> f64 {
    let rows = logits.chunks_exact(classes).zip(batch.targets.chunks_exact(classes));
    let of = |(logits, targets): (&[f32], &[f32])| match loss {
        Loss::Softmax => f64::from(u8::from(best_class(logits) == best_class(targets))),
        Loss::Sigmoid => {
            let same = logits.iter().zip(targets).filter(|(x, t)| (**x > 0.0) == (**t > 0.5));
            same.count() as f64 / classes as f64
        }
    };
    rows.map(of).sum()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use burn::backend::{Autodiff, Flex};
    use burn::tensor::TensorData;
    use rekindle_kernels::Precision;
    use rekindle_nn::{
        GraphBuilder, HeadConfig, HeadLayerConfig, Shape, assign, ops::Conv2d, read,
    };

    use super::*;
    use crate::features::FeatureStore;

    type B = Autodiff<Flex>;

    fn store(photos: usize) -> FeatureStore {
        let values = (0..photos * 12).map(|i| (i * 37 % 101) as f32 / 101.0).collect();
        let classes = (0..photos).map(|photo| photo * 7 / 3 % 3).collect();
        FeatureStore::from_values(Shape::Flat(12), values, classes)
    }

    fn train(
        model: Network<B>,
        train: &FeatureStore,
        valid: &FeatureStore,
        config: &FitConfig,
    ) -> Result<(Network<B>, History), TrainError> {
        let is_head = |layer: &str| layer.starts_with("head");
        let trains = model.variables().into_iter().map(|variable| variable.layer);
        let scope = Scope {
            cut: model.graph().cut(&is_head),
            input: Shape::Flat(12),
            trains: trains.filter(|layer| is_head(layer)).collect(),
            live: Default::default(),
            factors: HashMap::new(),
            l2: HashMap::new(),
        };
        assert_eq!(scope.cut.as_deref(), Some("head_flatten"));
        let phase = Phase {
            number: 0,
            scope,
            epochs: config.epochs,
            learning_rate: config.learning_rate,
            before: 0,
            total: config.epochs,
            train: &Stored { store: train, classes: 3 },
            valid: Stored { store: valid, classes: 3 },
            class_weights: &[1.0; 3],
            classes: 3,
        };
        let (observer, history) = (&mut (), History::default());
        let place = Place { devices: vec![Default::default()], precision: Precision::F32 };
        let mut run = Run { config, observer, history, snapshot: None };
        let model = fit(model, &phase, &mut run, None, &place)?;
        Ok((model, run.history))
    }

    /// Six epochs of one step each, and Keras's numbers for the same features, weights and Adam(0.05):
    /// `Sequential([Dense(3, softmax)]).fit(x, y, batch_size=40, epochs=6, validation_data=(x[:15], y[:15]))`.
    #[test]
    fn loss_adam_and_metrics_are_keras_s() {
        let model = model();
        let kernel =
            model.variables().into_iter().find(|found| found.path() == "head_dense/kernel");
        let id = kernel.expect("it has one").id;
        let values: Vec<f32> = (0..36).map(|i| (i * 29 % 53) as f32 / 53.0 - 0.5).collect();
        let model = assign(model, HashMap::from([(id, TensorData::new(values, [12, 3]))]));
        let before = read(&model);
        let config =
            FitConfig { epochs: 6, batch_size: 40, learning_rate: 0.05, ..FitConfig::default() };
        let (model, history) = train(model, &store(40), &store(15), &config).expect("fits");

        let keras = [
            [1.163_877_1, 0.275, 1.112_259_6, 0.333_333_34],
            [1.131_045_2, 0.375, 1.089_710_7, 0.4],
            [1.103_550_3, 0.475, 1.063_738_7, 0.333_333_34],
            [1.074_876_2, 0.45, 1.043_073, 0.533_333_36],
            [1.051_752_9, 0.45, 1.027_913_8, 0.533_333_36],
            [1.033_951_2, 0.45, 1.013_525_2, 0.466_666_67],
        ];
        for (ours, keras) in history.epochs.iter().zip(keras) {
            let val_loss = ours.val_loss.expect("validated");
            let val_accuracy = ours.val_accuracy.expect("validated");
            let ours = [ours.loss, ours.accuracy, val_loss, val_accuracy];
            for (ours, keras) in ours.into_iter().zip(keras) {
                assert!((ours - keras).abs() <= 2e-6_f32, "{history}");
            }
        }

        // Of the frozen network not a bit has changed; of the head, everything.
        let after = read(&model);
        for variable in model.variables() {
            let same = before[&variable.id] == after[&variable.id];
            assert_eq!(same, !variable.layer.starts_with("head"), "{}", variable.path());
        }
    }

    /// As Keras's, whatever goes through the network at once.
    #[test]
    fn a_divided_batch_learns_the_same() {
        let config = FitConfig { epochs: 3, batch_size: 16, ..FitConfig::default() };
        let fit = |micro_batch| {
            let config = FitConfig { micro_batch, ..config.clone() };
            train(model(), &store(40), &store(15), &config).expect("fits").1
        };
        let whole = fit(None);
        for photos in [1, 5, 16, 100] {
            for (a, b) in fit(Some(photos)).epochs.iter().zip(&whole.epochs) {
                assert!((a.loss - b.loss).abs() < 1e-5, "{photos}: {} {}", a.loss, b.loss);
            }
        }
    }

    /// Has memory for this many photos.
    struct Small(usize);

    impl Engine<B> for Small {
        fn rehearse(&mut self, samples: usize) -> Result<(), TrainError> {
            match samples > self.0 {
                true => Err(InferError::Device("out of memory".into()).into()),
                false => Ok(()),
            }
        }

        fn forward(&mut self, _: Vec<f32>, _: Pass) -> Result<Vec<f32>, TrainError> {
            Ok(Vec::new())
        }

        fn backward(&mut self, _: &[f32]) -> Result<(), TrainError> {
            Ok(())
        }

        fn penalize(&mut self, _: f32) -> f64 {
            0.0
        }

        fn gradient_norm(&mut self) -> f64 {
            0.0
        }

        fn step(&mut self, _: &Step) {}

        fn state(&self) -> Vec<crate::engine::Variable> {
            Vec::new()
        }

        fn restore(&mut self, _: Vec<crate::engine::Variable>) -> Result<(), TrainError> {
            Ok(())
        }

        fn model(&self) -> Network<B> {
            unreachable!("nobody asks")
        }
    }

    #[test]
    fn a_batch_that_does_not_fit_is_halved_until_it_does() {
        let config = FitConfig { batch_size: 100, ..FitConfig::default() };
        let at_once = |memory, photos| photos_at_once(&mut Small(memory), &config, photos);
        assert_eq!(at_once(1000, 500).expect("fits"), 100);
        assert_eq!(at_once(30, 500).expect("fits"), 25);
        assert_eq!(at_once(1, 500).expect("fits"), 1);
        assert_eq!(at_once(30, 20).expect("fits"), 100);
        assert!(matches!(at_once(0, 500), Err(TrainError::Infer(InferError::Device(_)))));
        let given = FitConfig { micro_batch: Some(64), ..config };
        assert_eq!(photos_at_once(&mut Small(1), &given, 500).expect("as told"), 64);
    }

    fn model() -> Network<B> {
        let device = Default::default();
        let (mut net, images) = GraphBuilder::new(Shape::image(4));
        let x = net.conv2d("base", images, Conv2d::new(3, [3, 3]).strides(2)).expect("fits");
        let base = Network::init(net.finish(x).expect("fits"), 0, &device);
        let head = HeadConfig::of(vec![HeadLayerConfig::Flatten]);
        head.on(base, 3, 0, &device).expect("fits")
    }

    #[test]
    fn a_loss_that_is_no_number_stops() {
        let model = model();
        let nan = FeatureStore::from_values(Shape::Flat(12), vec![f32::NAN; 24], vec![0, 1]);
        let config = FitConfig { learning_rate: 0.25, ..FitConfig::default() };
        let error = train(model, &nan, &store(3), &config).expect_err("stops").to_string();
        assert!(error.contains("epoch 1, step 1, at learning rate 0.25"), "{error}");
    }
}

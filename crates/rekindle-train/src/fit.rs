use std::time::Instant;

use burn::module::AutodiffModule;
use burn::optim::{GradientsParams, Optimizer};
use burn::tensor::activation::log_softmax;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rekindle_nn::{Eager, Model, Section};

use crate::adam::Adam;
use crate::evaluate::{best_class, host};
use crate::progress::{Event, Observer};
use crate::{Epoch, FeatureStore, History, TrainError};

/// The settings of the training loop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FitConfig {
    /// How often every photo is seen.
    pub epochs: usize,
    /// Photos in a step.
    pub batch_size: usize,
    /// Adam's rate.
    pub learning_rate: f64,
    /// Decides on initial weights, order and dropout.
    pub seed: u64,
}

impl Default for FitConfig {
    /// Keras's: Adam at 0.001, batches of 32.
    fn default() -> Self {
        Self { epochs: 10, batch_size: 32, learning_rate: 1e-3, seed: 0 }
    }
}

impl FitConfig {
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        let wrong = |setting, found: String, expected| {
            Err(TrainError::Setting { setting, found, expected })
        };
        if self.epochs == 0 {
            return wrong("epochs", "0".into(), "at least 1");
        }
        if self.batch_size == 0 {
            return wrong("batch size", "0".into(), "at least 1");
        }
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return wrong("learning rate", self.learning_rate.to_string(), "a positive number");
        }
        Ok(())
    }
}

/// Trains what comes behind layer `cut`, on features that were computed up to there.
pub(crate) fn fit<B: AutodiffBackend>(
    mut model: Model<B>,
    cut: &str,
    train: &FeatureStore,
    valid: &FeatureStore,
    config: &FitConfig,
    device: &B::Device,
    observer: &mut dyn Observer,
) -> Result<(Model<B>, History), TrainError> {
    let mut optimizer = Adam::default().init::<B, Model<B>>();
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    let mut order: Vec<usize> = (0..train.len()).collect();
    let steps = train.len().div_ceil(config.batch_size);
    let mut history = History::default();
    for epoch in 1..=config.epochs {
        let start = Instant::now();
        order.shuffle(&mut rng);
        let (mut loss_sum, mut right, mut seen) = (0.0, 0, 0);
        for (step, indices) in order.chunks(config.batch_size).enumerate() {
            let number = ((epoch - 1) * steps + step) as u64;
            let features = train.batch(indices, device);
            let eager = Eager::training(config.seed, number);
            let logits = Section::after(&model, eager, cut, features)?.flat()?;
            let classes: Vec<usize> = indices.iter().map(|&index| train.classes()[index]).collect();
            let loss = cross_entropy(logits.clone(), &classes);
            let grads = GradientsParams::from_grads(loss.backward(), &model);
            let value =
                loss.into_data().convert::<f32>().as_slice::<f32>().map_or(f32::NAN, |v| v[0]);
            if !value.is_finite() {
                let (loss, step, learning_rate) = (value, step + 1, config.learning_rate);
                return Err(TrainError::Diverged { loss, epoch, step, learning_rate });
            }
            right += count_right(logits.inner(), &classes);
            loss_sum += f64::from(value) * indices.len() as f64;
            seen += indices.len();
            model = optimizer.step(config.learning_rate, model, grads);
            let loss = (loss_sum / seen as f64) as f32;
            let (epochs, step) = (config.epochs, step + 1);
            observer.on_event(&Event::Step { epoch, epochs, step, steps, loss });
        }
        let checked = if valid.is_empty() {
            None
        } else {
            Some(score(&model.valid(), cut, valid, config.batch_size, device)?)
        };
        let result = Epoch {
            loss: (loss_sum / seen as f64) as f32,
            accuracy: right as f32 / seen as f32,
            val_loss: checked.map(|(loss, _)| loss),
            val_accuracy: checked.map(|(_, accuracy)| accuracy),
            seconds: start.elapsed().as_secs_f64(),
        };
        observer.on_event(&Event::Epoch { epoch, epochs: config.epochs, result: &result });
        history.epochs.push(result);
    }
    Ok((model, history))
}

/// Mean loss and accuracy of what comes behind layer `cut`.
fn score<B: Backend>(
    model: &Model<B>,
    cut: &str,
    store: &FeatureStore,
    batch_size: usize,
    device: &B::Device,
) -> Result<(f32, f32), TrainError> {
    let indices: Vec<usize> = (0..store.len()).collect();
    let (mut loss, mut right) = (0.0, 0);
    for indices in indices.chunks(batch_size) {
        let features = store.batch(indices, device);
        let logits = Section::after(model, Eager::logits(), cut, features)?.flat()?;
        let classes: Vec<usize> = indices.iter().map(|&index| store.classes()[index]).collect();
        right += count_right(logits.clone(), &classes);
        let mean = host(cross_entropy(logits, &classes)).first().copied().unwrap_or(f32::NAN);
        loss += f64::from(mean) * indices.len() as f64;
    }
    Ok(((loss / store.len() as f64) as f32, right as f32 / store.len() as f32))
}

/// Keras's categorical cross-entropy from logits, the mean over the batch.
fn cross_entropy<B: Backend>(logits: Tensor<B, 2>, classes: &[usize]) -> Tensor<B, 1> {
    let [batch, count] = logits.dims();
    let mut targets = vec![0.0_f32; batch * count];
    for (row, &class) in classes.iter().enumerate() {
        targets[row * count + class] = -1.0 / batch as f32;
    }
    let targets = Tensor::from_data(TensorData::new(targets, [batch, count]), &logits.device());
    (log_softmax(logits, 1) * targets).sum()
}

fn count_right<B: Backend>(logits: Tensor<B, 2>, classes: &[usize]) -> usize {
    let count = logits.dims()[1];
    let values = host(logits);
    let rows = values.chunks_exact(count).zip(classes);
    rows.filter(|(row, class)| best_class(row) == **class).count()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use burn::backend::{Autodiff, Flex};
    use rekindle_nn::{
        HeadConfig, HeadLayerConfig, MobileNetV2Config, Shape, assign, read, variables,
    };

    use super::*;

    type B = Autodiff<Flex>;

    fn store(photos: usize) -> FeatureStore {
        let values = (0..photos * 12).map(|i| (i * 37 % 101) as f32 / 101.0).collect();
        let classes = (0..photos).map(|photo| photo * 7 / 3 % 3).collect();
        FeatureStore::from_values(Shape::Flat(12), values, classes)
    }

    /// Six epochs of one step each, and Keras's numbers for the same features, weights and Adam(0.05):
    /// `Sequential([Dense(3, softmax)]).fit(x, y, batch_size=40, epochs=6, validation_data=(x[:15], y[:15]))`.
    #[test]
    fn loss_adam_and_metrics_are_keras_s() {
        let device = Default::default();
        let backbone = MobileNetV2Config::new().with_alpha(0.35).with_size(32).init::<B>(&device);
        let config = HeadConfig { layers: vec![HeadLayerConfig::Flatten] };
        let head = config.init(Shape::Flat(12), 3, 0, &device).expect("fits");
        let kernel = variables(&head).remove(0);
        let values: Vec<f32> = (0..36).map(|i| (i * 29 % 53) as f32 / 53.0 - 0.5).collect();
        let head =
            assign(head, HashMap::from([(kernel.spec.id, TensorData::new(values, [12, 3]))]));
        let model = Model { backbone: backbone.expect("valid").into(), head: Some(head) };
        let before = read(&model);
        let config = FitConfig { epochs: 6, batch_size: 40, learning_rate: 0.05, seed: 0 };
        let (train, valid) = (store(40), store(15));
        let cut = model.frozen_end();
        assert_eq!(cut, "head_flatten");
        let (model, history) =
            fit(model, &cut, &train, &valid, &config, &device, &mut ()).expect("fits");

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
        for variable in variables(&model) {
            let same = before[&variable.spec.id] == after[&variable.spec.id];
            assert_eq!(same, !variable.layer.starts_with("head"), "{}", variable.path());
        }
    }

    #[test]
    fn a_loss_that_is_no_number_stops() {
        let device = Default::default();
        let backbone = MobileNetV2Config::new().with_alpha(0.35).with_size(32).init::<B>(&device);
        let config = HeadConfig { layers: vec![HeadLayerConfig::Flatten] };
        let head = config.init(Shape::Flat(12), 3, 0, &device).expect("fits");
        let model = Model { backbone: backbone.expect("valid").into(), head: Some(head) };
        let nan = FeatureStore::from_values(Shape::Flat(12), vec![f32::NAN; 24], vec![0, 1]);
        let config = FitConfig { learning_rate: 0.25, ..FitConfig::default() };
        let result = fit(model, "head_flatten", &nan, &store(3), &config, &device, &mut ());
        let error = result.expect_err("stops").to_string();
        assert!(error.contains("epoch 1, step 1, at learning rate 0.25"), "{error}");
    }
}

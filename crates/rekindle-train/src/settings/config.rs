//! The settings of the training loop, and of what trains.

use rekindle_kernels::train::Rule;
use rekindle_nn::Graph;
use serde::{Deserialize, Serialize};

use super::loss::Loss;
use super::schedule::Schedule;
use crate::error::TrainError;

/// The settings of the training loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FitConfig {
    /// How often every photo is seen.
    pub epochs: usize,
    /// Photos in a step.
    pub batch_size: usize,
    /// The optimizer's rate, before the schedule.
    pub learning_rate: f64,
    /// Decides on initial weights, order, augmentation and dropout.
    pub seed: u64,
    /// The optimizer.
    pub optimizer: Rule,
    /// How the rate changes.
    pub schedule: Schedule,
    /// What is minimized.
    pub loss: Loss,
    /// Gradients are shortened to this length, all parameters' together (Keras's `global_clipnorm`).
    pub clip_norm: Option<f64>,
    /// Share of a target that all classes get.
    pub label_smoothing: f64,
    /// How much a photo counts, by its class.
    pub class_weights: ClassWeights,
    /// Batches whose gradients make one step (Keras's `gradient_accumulation_steps`).
    pub accumulate: usize,
    /// Photos of a batch that go through the network together; none for as many as there is memory for.
    pub micro_batch: Option<usize>,
    /// What the batch normalizations of layers that train do; those of a new head take the batch's statistics.
    pub batch_norm: BatchNormMode,
    /// Ends a run that does not get better.
    pub early_stopping: Option<EarlyStopping>,
}

impl Default for FitConfig {
    /// Keras's: Adam at 0.001, batches of 32.
    fn default() -> Self {
        Self {
            epochs: 10,
            batch_size: 32,
            learning_rate: 1e-3,
            seed: 0,
            optimizer: Rule::adam(),
            schedule: Schedule::Constant,
            loss: Loss::Softmax,
            clip_norm: None,
            label_smoothing: 0.0,
            class_weights: ClassWeights::Even,
            accumulate: 1,
            micro_batch: None,
            batch_norm: BatchNormMode::Frozen,
            early_stopping: None,
        }
    }
}

/// How much a photo's loss counts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ClassWeights {
    /// All the same.
    #[default]
    Even,
    /// Inversely to the number of its class's photos, 1 on average (scikit-learn's `balanced`).
    Balanced,
    /// A weight for each class, in the order of their names.
    Given(Vec<f32>),
}

impl ClassWeights {
    /// A weight for each class, from how many photos each has.
    pub(crate) fn resolve(&self, counts: &[usize]) -> Result<Vec<f32>, TrainError> {
        match self {
            Self::Even => Ok(vec![1.0; counts.len()]),
            Self::Balanced => {
                let total: usize = counts.iter().sum();
                let weight = |&count: &usize| match count {
                    0 => 1.0,
                    count => (total as f64 / (counts.len() * count) as f64) as f32,
                };
                Ok(counts.iter().map(weight).collect())
            }
            Self::Given(weights) => {
                let is_valid = |weight: &f32| weight.is_finite() && *weight >= 0.0;
                if weights.len() != counts.len() || !weights.iter().all(is_valid) {
                    let found = format!("{weights:?}");
                    let expected = "a number from 0 for each class";
                    return Err(TrainError::Setting { setting: "class weights", found, expected });
                }
                Ok(weights.clone())
            }
        }
    }
}

/// What batch normalization does in layers that train.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum BatchNormMode {
    /// It normalizes by the moving statistics, which stay as they are; gamma and beta train. What Keras's guide to
    /// transfer learning advises (`base(x, training=False)`).
    #[default]
    Frozen,
    /// It normalizes by the batch's statistics, and the moving ones follow.
    Train,
}

/// Ends a run when its validation loss (its training loss, if there is none) does not fall any more
/// (`keras/src/callbacks/early_stopping.py`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EarlyStopping {
    /// Epochs without a lower loss that are waited for.
    pub patience: usize,
    /// How much lower a loss has to be to count.
    pub min_delta: f32,
    /// Whether the result has the weights of the best epoch, not of the last.
    pub restore_best: bool,
}

impl Default for EarlyStopping {
    fn default() -> Self {
        Self { patience: 5, min_delta: 0.0, restore_best: true }
    }
}

/// Which of the network's layers stay as they are.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Freeze {
    /// All: only the head trains.
    #[default]
    All,
    /// None.
    Nothing,
    /// All up to and with the layer of this Keras name, in Keras's order.
    Until(String),
    /// All layers but the last `n`, as in Keras's `for layer in base.layers[:-n]`.
    AllButLast(usize),
}

impl Freeze {
    /// The names of the layers that train.
    pub(crate) fn trainable(&self, base: &Graph) -> Result<Vec<String>, TrainError> {
        let order = base.keras_order().into_iter();
        let names: Vec<String> = order.map(|layer| base.layers()[layer].name.clone()).collect();
        let frozen = match self {
            Self::All => names.len(),
            Self::Nothing => 0,
            Self::Until(name) => match names.iter().position(|layer| layer == name) {
                Some(position) => position + 1,
                None => {
                    // A layer that the output does not depend on is in no order.
                    base.position(name)?;
                    let found = format!("`{name}`, which the network's output does not depend on");
                    let expected = "a layer that its output depends on";
                    return Err(TrainError::Setting { setting: "freeze", found, expected });
                }
            },
            Self::AllButLast(count) => names.len().saturating_sub(*count),
        };
        Ok(names.into_iter().skip(frozen).collect())
    }
}

/// A second phase of training, with more of the network unfrozen and a lower rate, after the head has been trained
/// (as fastai's `fine_tune`, and Keras's guide to transfer learning).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FineTune {
    /// What stays frozen.
    pub freeze: Freeze,
    /// How often every photo is seen.
    pub epochs: usize,
    /// The rate of the head and the last layers.
    pub learning_rate: f64,
    /// What the rate is multiplied by for the first layers that train, evenly less towards the end: 1 for the same rate
    /// everywhere.
    pub depth_factor: f64,
}

impl FineTune {
    /// Trains what comes behind the layer of this Keras name: 5 epochs at 1e-5.
    #[must_use]
    pub fn from(layer: impl Into<String>) -> Self {
        Self::with(Freeze::Until(layer.into()))
    }

    /// Trains the last `layers` layers: 5 epochs at 1e-5.
    #[must_use]
    pub fn last(layers: usize) -> Self {
        Self::with(Freeze::AllButLast(layers))
    }

    /// Trains everything: 5 epochs at 1e-5.
    #[must_use]
    pub fn all() -> Self {
        Self::with(Freeze::Nothing)
    }

    fn with(freeze: Freeze) -> Self {
        Self { freeze, epochs: 5, learning_rate: 1e-5, depth_factor: 1.0 }
    }

    /// How often every photo is seen.
    #[must_use]
    pub fn epochs(self, epochs: usize) -> Self {
        Self { epochs, ..self }
    }

    /// The rate of the head and the last layers.
    #[must_use]
    pub fn lr(self, learning_rate: f64) -> Self {
        Self { learning_rate, ..self }
    }

    /// Discriminative rates: the first layers that train have `factor` times the rate, those between proportionally.
    #[must_use]
    pub fn depth_factor(self, factor: f64) -> Self {
        Self { depth_factor: factor, ..self }
    }
}

fn wrong<T>(
    setting: &'static str,
    found: impl ToString,
    expected: &'static str,
) -> Result<T, TrainError> {
    Err(TrainError::Setting { setting, found: found.to_string(), expected })
}

impl FitConfig {
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        if self.epochs == 0 {
            return wrong("epochs", 0, "at least 1");
        }
        if self.batch_size == 0 {
            return wrong("batch size", 0, "at least 1");
        }
        if self.accumulate == 0 {
            return wrong("batches in a step", 0, "at least 1");
        }
        if self.micro_batch == Some(0) {
            return wrong("photos at once", 0, "at least 1");
        }
        check_rate(self.learning_rate)?;
        if self.clip_norm.is_some_and(|norm| !(norm.is_finite() && norm > 0.0)) {
            return wrong("clip norm", self.clip_norm.unwrap_or_default(), "a positive number");
        }
        if !(0.0..1.0).contains(&self.label_smoothing) {
            return wrong("label smoothing", self.label_smoothing, "from 0 to less than 1");
        }
        self.schedule.check()?;
        check_rule(&self.optimizer)
    }
}

impl FineTune {
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        if self.epochs == 0 {
            return wrong("epochs of the fine-tuning", 0, "at least 1");
        }
        if !(self.depth_factor > 0.0 && self.depth_factor <= 1.0) {
            return wrong("depth factor", self.depth_factor, "more than 0, at most 1");
        }
        if self.depth_factor != 1.0 && self.freeze == Freeze::All {
            let expected = "1 where only the head trains: it is for the network's layers";
            return wrong("depth factor", self.depth_factor, expected);
        }
        check_rate(self.learning_rate)
    }
}

fn check_rate(rate: f64) -> Result<(), TrainError> {
    if rate.is_finite() && rate > 0.0 {
        return Ok(());
    }
    wrong("learning rate", rate, "a positive number")
}

fn check_rule(rule: &Rule) -> Result<(), TrainError> {
    let is_share = |value: f64| (0.0..1.0).contains(&value);
    let fits = match *rule {
        Rule::Adam { beta_1, beta_2, epsilon, decay } => {
            is_share(beta_1)
                && is_share(beta_2)
                && epsilon > 0.0
                && decay >= 0.0
                && decay.is_finite()
        }
        Rule::Sgd { momentum, .. } => is_share(momentum),
        Rule::RmsProp { rho, momentum, epsilon } => {
            is_share(rho) && is_share(momentum) && epsilon > 0.0
        }
    };
    if fits {
        return Ok(());
    }
    wrong(
        "optimizer",
        rule.to_string(),
        "shares from 0 to less than 1, a positive epsilon, no negative decay",
    )
}

//! Transfer learning: take a network that Keras trained on ImageNet, keep it frozen, put a new head on
//! it, train the head on your own photos, save the result, predict.
//!
//! The one-line case is [`TransferLearner`]; the layers below it are public too: [`Photos`] turns files
//! into batches, [`FeatureStore`] holds what the frozen part computed once for each photo,
//! [`TrainedModel`] predicts, saves and loads.

mod advice;
mod ahead;
mod archive;
mod batches;
mod cache;
mod checkpoint;
mod config;
mod curves;
mod engine;
mod error;
mod evaluate;
mod explain;
mod extract;
mod features;
mod fit;
mod frozen;
mod given;
mod history;
mod learner;
mod logs;
mod loss;
mod names;
mod phases;
mod photos;
mod predict;
mod progress;
mod provenance;
mod rate_finder;
mod report;
mod rows;
mod schedule;
mod start;
mod trained;

pub use cache::FeatureCache;
pub use config::{BatchNormMode, ClassWeights, EarlyStopping, FineTune, FitConfig, Freeze};
pub use curves::draw_curves;
pub use error::TrainError;
pub use evaluate::{ClassMetrics, Evaluation, Judged};
pub use explain::Heatmap;
pub use extract::{Extracted, Extractor, Undecoded};
pub use features::FeatureStore;
pub use frozen::float_type;
pub use history::{Epoch, History};
pub use learner::{FitReport, TransferLearner};
pub use logs::{CsvLog, JsonLog, TensorBoard};
pub use loss::Loss;
pub use photos::Photos;
pub use predict::{Prediction, Ranked, Top};
pub use progress::{Bars, Event, Observer};
pub use provenance::{FeatureSource, Provenance};
pub use rate_finder::RateFinder;
pub use rekindle_kernels::Precision;
pub use rekindle_kernels::train::Rule;
pub use rekindle_vision::{Augment, Augmentation, Mix};
pub use rekindle_weights::{Origin, Origins};
pub use report::write_html;
pub use schedule::{Moment, Schedule};
pub use start::{Start, describe_folder};
pub use trained::TrainedModel;

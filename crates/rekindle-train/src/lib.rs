//! Transfer learning: take a network that Keras trained on ImageNet, keep it frozen, put a new head on
//! it, train the head on your own photos, save the result, predict.
//!
//! The one-line case is [`TransferLearner`]; the layers below it are public too: [`Photos`] turns files
//! into batches, [`FeatureStore`] holds what the frozen part computed once for each photo,
//! [`TrainedModel`] predicts, saves and loads.

mod archive;
mod engine;
mod error;
mod features;
mod learner;
mod observe;
mod report;
mod run;
mod settings;

pub use error::TrainError;
pub use features::{FeatureCache, FeatureSource, FeatureStore};
pub use learner::TransferLearner;
pub use observe::{Bars, CsvLog, JsonLog, TensorBoard};
pub use rekindle_infer::{
    ClassMetrics, Epoch, Evaluation, Event, Extracted, Extractor, FitReport, Heatmap, History,
    InferError, Judged, LayerLoss, Observer, Origin, Origins, Photos, Precision, Prediction,
    Provenance, QuantizeConfig, QuantizeReport, Ranked, Start, Top, TrainedModel, Undecoded,
    describe_folder, float_type,
};
pub use rekindle_kernels::train::Rule;
pub use rekindle_vision::{Augment, Augmentation, Mix};
pub use report::{DrawConfusion, draw_curves, draw_trade_off, write_html};
pub use run::RateFinder;
pub use settings::{
    BatchNormMode, ClassWeights, EarlyStopping, FineTune, FitConfig, Freeze, Loss, Moment, Schedule,
};

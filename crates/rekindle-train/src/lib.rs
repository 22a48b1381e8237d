//! Transfer learning: take a network that Keras trained on ImageNet, keep it frozen, put a new head on
//! it, train the head on your own photos, save the result, predict.
//!
//! The one-line case is [`TransferLearner`]; the layers below it are public too: [`Photos`] turns files
//! into batches, [`FeatureStore`] holds what the frozen part computed once for each photo,
//! [`TrainedModel`] predicts, saves and loads.

mod adam;
mod curves;
mod error;
mod evaluate;
mod features;
mod fit;
mod frozen;
mod history;
mod learner;
mod photos;
mod predict;
mod progress;
mod trained;

pub use curves::draw_curves;
pub use error::TrainError;
pub use evaluate::Evaluation;
pub use features::FeatureStore;
pub use fit::FitConfig;
pub use history::{Epoch, History};
pub use learner::{FitReport, TransferLearner};
pub use photos::Photos;
pub use predict::{Prediction, Ranked, Top};
pub use progress::{Bars, Event, Observer};
pub use trained::TrainedModel;

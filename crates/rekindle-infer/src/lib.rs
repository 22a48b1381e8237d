//! Trained models that predict: load a file, of this project's, of Keras's or ONNX, predict photos, evaluate folders of
//! them, show where the network looks, export.
//!
//! ```no_run
//! use burn::backend::Flex;
//! use rekindle_infer::TrainedModel;
//!
//! # fn main() -> Result<(), rekindle_infer::InferError> {
//! let model = TrainedModel::<Flex>::load("cats.rekindle", &Default::default())?;
//! println!("{}", model.predict("cat.jpg")?.top(5));
//! # Ok(())
//! # }
//! ```
//!
//! Nothing here trains: a program that only predicts builds without Burn's autodiff, plots and progress bars.

mod advice;
mod error;
mod evaluate;
mod explain;
mod extract;
mod frozen;
mod history;
mod identity;
mod names;
mod photos;
mod predict;
mod prediction;
mod progress;
mod provenance;
mod quantize;
mod start;
mod trained;

pub use error::InferError;
pub use evaluate::{ClassMetrics, Evaluation, Judged};
pub use explain::Heatmap;
pub use extract::{Extracted, Extractor, Undecoded};
pub use frozen::float_type;
pub use history::{Epoch, FitReport, History};
pub use photos::Photos;
pub use prediction::{Prediction, Ranked, Top};
pub use progress::{Event, Observer};
pub use provenance::Provenance;
pub use quantize::{LayerLoss, QuantizeConfig, QuantizeReport};
pub use rekindle_kernels::Precision;
pub use rekindle_weights::{Origin, Origins};
pub use start::{Start, describe_folder};
pub use trained::TrainedModel;

/// What rekindle-train shares with this crate; it may change in every version.
#[doc(hidden)]
pub mod internal {
    pub use crate::advice::{FEW, named, of_orientation};
    pub use crate::frozen::{BATCH, Frozen, Started, host, most_at_once, read, settle, wait};
    pub use crate::identity::{hex, serialized};
    pub use crate::names::numbers;
    pub use crate::photos::{Change, Images, Job, PhotoBatch};
    pub use crate::prediction::best_class;
    pub use crate::start::network_name;
}

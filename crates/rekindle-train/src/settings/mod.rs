//! What a run can be asked for.

mod config;
mod loss;
mod schedule;

pub use config::{BatchNormMode, ClassWeights, EarlyStopping, FineTune, FitConfig, Freeze};
pub use loss::Loss;
pub(crate) use schedule::Plateau;
pub use schedule::{Moment, Schedule};

//! Weights for Rekindle's networks: reads Keras's HDF5 files and safetensors, in pure Rust, and writes
//! safetensors that say what they hold.
//!
//! A [`Checkpoint`] lists tensors by the Keras layer and variable that they are the value of, whatever
//! file they came from; [`load`] puts them into a network, or says exactly what does not fit.

mod atomic;
mod bundled;
mod card;
mod checkpoint;
mod error;
mod hdf5;
mod load;
mod pretrained;
mod safetensors;

pub use atomic::write_atomic;
pub use card::ModelCard;
pub use checkpoint::{Checkpoint, Dtype, TensorInfo};
pub use error::WeightsError;
pub use load::{Loaded, guess_architecture, load, variables_to_save};
pub use pretrained::{Pretrained, Weights};
pub use safetensors::{TensorSource, save};

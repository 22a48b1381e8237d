//! Weights for Rekindle's networks: reads Keras's HDF5 and `.keras` files, ONNX, safetensors and TensorFlow's
//! checkpoints, in pure Rust, and writes safetensors that say what they hold.
//!
//! A [`Checkpoint`] lists a file's tensors; [`Checkpoint::resolve`] reads which network they are of: the file's own
//! configuration or graph, or where it has none the known network whose variables they are. [`load`] puts them into a
//! network, or says exactly what does not fit.

mod atomic;
mod bundled;
mod cache;
mod card;
mod checkpoint;
#[cfg(feature = "download")]
mod download;
mod error;
mod foreign;
mod hdf5;
mod keras;
mod keras_zip;
mod load;
mod onnx;
mod origin;
mod pretrained;
mod recognise;
mod safetensors;
mod sharded;
mod tf_checkpoint;
mod whole;

pub use atomic::write_atomic;
pub use cache::cache_folder;
pub use card::ModelCard;
pub use checkpoint::{Checkpoint, Dtype, TensorInfo};
#[cfg(feature = "download")]
pub use download::{Downloader, Published};
pub use error::WeightsError;
pub use load::{Loaded, load, load_partial, variables_to_save};
pub use origin::{Origin, Origins};
pub use pretrained::{Pretrained, Weights};
pub use safetensors::{TensorSource, save};

//! Weights for Rekindle's networks: reads Keras's HDF5, `.keras` files and SavedModels, TensorFlow's checkpoints, TF.js's
//! layers models, ONNX, NumPy's archives, and safetensors of Keras's and of PyTorch's names, in pure Rust, and writes
//! safetensors that say what they hold.
//!
//! A [`Checkpoint`] lists a file's tensors; [`Checkpoint::resolve`] reads which network they are of: the file's own
//! configuration or graph, or where it has none the known network whose variables they are. [`load`] puts them into a
//! network, or says exactly what does not fit.

mod atomic;
mod beside;
mod bundled;
mod card;
mod checkpoint;
#[cfg(feature = "download")]
mod download;
mod error;
mod export;
mod files;
mod folder;
mod foreign;
mod graph;
mod hdf5;
mod hugging_face;
mod json;
mod keras;
mod keras_zip;
mod load;
mod npz;
mod onnx;
mod origin;
mod preprocessing;
mod pretrained;
mod recognise;
mod record;
mod safetensors;
mod saved_model;
mod sharded;
mod teachable;
mod tf_checkpoint;
mod tfjs;
mod tflite;
mod torch;
mod whole;
mod zipped;

pub use atomic::{replace_file, write_atomic};
pub use card::ModelCard;
pub use checkpoint::{Checkpoint, Dtype, TensorInfo};
#[cfg(feature = "download")]
pub use download::{Downloader, Hub, Published};
pub use error::{WeightsError, with_causes};
pub use export::{ExportFormat, ExportOptions, Names, export, export_quantized};
pub use load::{Loaded, load, load_partial, variables_to_save};
pub use origin::{Origin, Origins};
pub use pretrained::{Pretrained, Weights};
pub use rekindle_pixels::cache_folder;
pub use safetensors::{TensorSource, save};

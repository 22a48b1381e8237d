//! The network architectures of Rekindle: Keras's models as Burn modules, generic over the backend.
//!
//! Every architecture is written once, as a struct that owns its parameters and one method,
//! [`Network::walk`], that hands its layers, by their Keras names, to an [`Interpreter`]:
//! - [`Eager`] computes with Burn tensors, on any backend, with or without autodiff;
//! - [`Summarize`] makes Keras's table of layers and parameter counts;
//! - [`variables`] lists each parameter under its Keras name, shape and layout;
//! - [`Graph`] is their names, classes and connections;
//! - [`Section`] narrows any of them to the layers between two names.
//!
//! ```
//! use burn::{backend::Flex, tensor::Tensor};
//! use rekindle_nn::{MobileNetV2Config, Network};
//!
//! # fn main() -> Result<(), rekindle_nn::NetworkError> {
//! let device = Default::default();
//! let network = MobileNetV2Config::new().with_alpha(0.35).with_size(96).with_classes(1000).init::<Flex>(&device)?;
//! let images = Tensor::zeros([1, 3, 96, 96], &device); // [batch, channels, height, width]
//! let probabilities = network.forward(images)?;
//! assert_eq!(probabilities.flat()?.dims(), [1, 1000]);
//! # Ok(())
//! # }
//! ```

mod dropout;
mod error;
mod head;
mod init;
pub mod interpret;
pub mod layers;
mod model;
pub mod models;
mod network;
mod op;
mod registry;

pub use dropout::{DropoutMasks, Part};
pub use error::NetworkError;
pub use head::{Head, HeadConfig, HeadLayer, HeadLayerConfig};
pub use interpret::{
    Eager, Features, Graph, GraphLayer, LayerRow, Parameters, Section, Summarize, Summary,
    Variable, assign, read, require_gradients, require_gradients_of, unknown_layer, variables,
};
pub use model::Model;
pub use models::inception_v3::{InceptionV3, InceptionV3Config};
pub use models::mobilenet_v2::{MobileNetV2, MobileNetV2Config};
pub use network::{Interpreter, Network};
pub use op::{Layout, Op, Pool, Shape, VariableSpec, correct_pad};
pub use registry::{Architecture, Backbone};

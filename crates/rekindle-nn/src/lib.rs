//! The networks of Rekindle: Keras's models as data, and one Burn module that runs any of them on any backend.
//!
//! A [`Graph`] is a network as data: layers in topological order, each with its Keras name and an [`Op`] that has every
//! setting that its answer depends on. [`GraphBuilder`] writes one down as Keras's functional API does; a [`Family`]
//! (`families/*.rs`) is a known one. A [`Network`] is a graph and its parameters.
//!
//! What is made of a graph is a pass over it: [`Graph::summary`] is Keras's table, [`Graph::cut`] finds what can be
//! computed once, [`Graph::part`] is what lies between two layers. What needs parameters implements [`Interpreter`], as
//! [`Eager`] does, which computes with Burn's tensors.
//!
//! ```
//! use burn::{backend::Flex, tensor::Tensor};
//! use rekindle_nn::MobileNetV2Config;
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

mod activation;
mod error;
pub mod families;
pub mod graph;
mod head;
mod init;
pub mod keras;
mod masks;
mod network;
pub mod onnx;
pub mod ops;
mod parameters;
mod quantization;
pub mod quantized;
pub mod run;
mod shape;
mod summary;
pub mod tflite;
mod variable;
mod written;

pub use activation::{Activation, SELU};
pub use error::NetworkError;
pub use families::networks::*;
pub use families::{Architecture, FAMILIES, Family, Settings, Size, TypedNetwork};
pub use graph::{Base, Graph, GraphBuilder, Layer, Part, Source, Value};
pub use head::{HeadConfig, HeadLayerConfig};
pub use masks::{DropoutMasks, Samples};
pub use network::{Interpreter, LayerView, Network, Variable, floats};
pub use ops::{Op, Padding, Window};
pub use parameters::{assign, read, require_gradients, require_gradients_of};
pub use quantization::{Quantization, RoundedWeights};
pub use quantized::QuantizedNetwork;
pub use rekindle_pixels::UnknownName;
pub use run::{Eager, Features, as_type};
pub use shape::Shape;
pub use summary::{LayerRow, Parameters, Summary};
pub use variable::{Initializer, Layout, VariableSpec};

use crate::Shape;

/// What can be wrong with a network's settings or with what is put through it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// A setting is outside of what the architecture allows.
    #[error("{architecture}: {setting} is {found}, expected {expected}")]
    Setting {
        /// The architecture's name.
        architecture: &'static str,
        /// The name of the setting.
        setting: &'static str,
        /// What was asked for.
        found: String,
        /// What is allowed.
        expected: String,
    },
    /// A layer was given a shape that it cannot take.
    #[error("layer `{layer}` takes {expected}, found {found}")]
    Shape {
        /// The layer's Keras name.
        layer: String,
        /// What the layer takes.
        expected: String,
        /// What it was given.
        found: String,
    },
    /// A setting of a layer is not what it has to be, or would not be honoured.
    #[error("layer `{layer}` ({class}): `{setting}` is {found}, expected {expected}")]
    LayerSetting {
        /// The layer's Keras name.
        layer: Box<str>,
        /// Keras's layer class.
        class: Box<str>,
        /// Keras's name of the setting.
        setting: Box<str>,
        /// What was found.
        found: Box<str>,
        /// What is supported.
        expected: Box<str>,
    },
    /// Layers do not make a network.
    #[error("no network: {reason}")]
    Graph {
        /// What is wrong with them.
        reason: String,
    },
    /// A network cannot take images of another size, since its variables depend on it.
    #[error(
        "for images of {input} layer `{layer}` would have a {variable} of shape {found:?}, but it has {expected:?}: \
         put a new head on the network"
    )]
    Size {
        /// The layer's Keras name.
        layer: String,
        /// Keras's name of the variable.
        variable: &'static str,
        /// The shape that it has.
        expected: Vec<usize>,
        /// The shape that it would have.
        found: Vec<usize>,
        /// The images asked for.
        input: String,
    },
    /// No layer has this name.
    #[error("no layer is called `{name}`; near it: {}", near.join(", "))]
    UnknownLayer {
        /// The name asked for.
        name: String,
        /// The names most like it.
        near: Vec<String>,
    },
    /// A layer cannot be written as ONNX.
    #[error("layer `{layer}` ({class}) cannot be written as ONNX: {reason}")]
    Onnx {
        /// The layer's Keras name.
        layer: Box<str>,
        /// Keras's layer class.
        class: Box<str>,
        /// Why.
        reason: Box<str>,
    },
    /// A layer cannot be written as TensorFlow Lite.
    #[error("layer `{layer}` ({class}) cannot be written as TensorFlow Lite: {reason}")]
    Tflite {
        /// The layer's Keras name.
        layer: Box<str>,
        /// Keras's layer class.
        class: Box<str>,
        /// Why.
        reason: Box<str>,
    },
    /// The network cannot be cut behind this layer: another value crosses the cut.
    #[error("cannot cut behind `{cut}`: layer `{layer}` also needs a value from before it")]
    NotASplit {
        /// The layer behind which the cut was asked for.
        cut: String,
        /// The first layer that needs a value from before the cut.
        layer: String,
    },
}

impl NetworkError {
    /// Layers that do not make a network.
    #[must_use]
    pub fn graph(reason: String) -> Self {
        Self::Graph { reason }
    }

    pub(crate) fn shape(layer: &str, expected: impl Into<String>, found: &[Shape]) -> Self {
        let found: Vec<String> = found.iter().map(Shape::to_string).collect();
        Self::Shape {
            layer: layer.to_owned(),
            expected: expected.into(),
            found: found.join(" and "),
        }
    }
}

use crate::op::Shape;

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
    /// No layer has this name.
    #[error("no layer is called `{name}`; near it: {}", near.join(", "))]
    UnknownLayer {
        /// The name asked for.
        name: String,
        /// The names most like it.
        near: Vec<String>,
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
    pub(crate) fn shape(layer: &str, expected: impl Into<String>, found: &[Shape]) -> Self {
        let found: Vec<String> = found.iter().map(Shape::to_string).collect();
        Self::Shape {
            layer: layer.to_owned(),
            expected: expected.into(),
            found: found.join(" and "),
        }
    }
}

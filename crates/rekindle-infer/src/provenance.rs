//! What features depend on, but for the photos themselves.

use burn::tensor::backend::Backend;
use rekindle_kernels::Precision;
use rekindle_nn::{Network, Shape, read};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::InferError;
use crate::identity::{hex, serialized};
use crate::photos::Photos;
use crate::start::network_name;

/// What features were computed by: all that they depend on, but for the photos themselves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Provenance {
    /// The network's name, or how many layers it has.
    pub network: String,
    /// SHA-256 of the layers that compute them, and of these layers' weights.
    pub model: String,
    /// The layer whose values they are, by its Keras name; nothing for the network's last one.
    pub until: Option<String>,
    /// The shape of one photo's features: `[channels, height, width]`, or their number.
    pub shape: Vec<usize>,
    /// How photos became the network's input.
    pub photos: Photos,
    /// What products were computed with.
    pub precision: String,
}

impl Provenance {
    /// Of what a network up to a layer makes of photos.
    #[doc(hidden)]
    pub fn of<B: Backend>(
        model: &Network<B>,
        until: Option<&str>,
        photos: Photos,
        shape: Shape,
        precision: Precision,
    ) -> Result<Self, InferError> {
        let graph = model.graph();
        let mut hash = Sha256::new();
        let values = read(model);
        for layer in graph.part(None, until)?.layers {
            // Settings in a form that is the same in each version that reads them.
            hash.update(serialized(&graph.layers()[layer]));
            let view = model.view(layer);
            for (variable, id) in view.variables() {
                hash.update(format!("{}/{}", view.name, variable.name).as_bytes());
                if let Some(data) = values.get(&id) {
                    hash.update(data.as_bytes());
                }
            }
        }
        Ok(Self {
            network: network_name(graph),
            model: hex(&hash.finalize()),
            until: until.map(str::to_owned),
            shape: match shape {
                Shape::Map { height, width, channels } => vec![channels, height, width],
                Shape::Flat(count) => vec![count],
            },
            photos,
            precision: precision.to_string(),
        })
    }

    /// The shape of one photo's features.
    #[must_use]
    pub fn shape(&self) -> Shape {
        match *self.shape {
            [channels, height, width] => Shape::Map { height, width, channels },
            _ => Shape::Flat(self.shape.iter().product()),
        }
    }

    /// The first thing that is otherwise in `other`, but for the precision: its name, and how it is here and there.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<String> {
        let said = |what: &str, here: &str, there: &str| {
            (here != there).then(|| format!("{what}: {here} here, {there} there"))
        };
        let cut = |own: &Self| own.until.clone().unwrap_or_else(|| "the network's end".into());
        let model = |own: &Self| {
            let start = own.model.get(..12).unwrap_or(&own.model);
            format!("{} with layers and weights of hash {start}", own.network)
        };
        let photos = |own: &Self| serialized(&own.photos);
        let shape = |own: &Self| own.shape().to_string();
        said("the layer", &cut(self), &cut(other))
            .or_else(|| said("the network", &model(self), &model(other)))
            .or_else(|| said("the photos' preprocessing", &photos(self), &photos(other)))
            .or_else(|| said("the shape", &shape(self), &shape(other)))
            .or_else(|| said("the network's hash", &self.model, &other.model))
    }
}

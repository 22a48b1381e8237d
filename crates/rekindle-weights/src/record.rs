//! What a file that Keras reads has for Rekindle alone: the model's card but for its graph, which Keras's configuration is.

use std::collections::BTreeMap;

use rekindle_nn::{Graph, Source};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ModelCard;

/// The record's attribute in an HDF5, and its field in a `.keras`'s `metadata.json`: Keras reads neither. Of an archive with a
/// file more than its own, Keras would unpack all.
pub(crate) const NAME: &str = "rekindle";

/// What Keras's configuration has no place for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    /// The card without its graph.
    card: Map<String, Value>,
    /// The layers that are the card's preprocessing, in their order: in Keras they stand in front of the network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preprocessing: Vec<String>,
    /// What layers are called whose names Keras does not take, by their names in Keras.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub names: BTreeMap<String, String>,
    /// The layer, by its name in Keras, in which the part ends that was trained before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
}

impl Record {
    /// The record of a model, in front of which these layers do its preprocessing.
    pub fn new(card: &ModelCard, preprocessing: Vec<String>) -> Result<Self, String> {
        let Ok(Value::Object(mut card)) = serde_json::to_value(card) else {
            return Err("its card cannot be written as JSON".into());
        };
        card.remove("graph");
        Ok(Self { card, preprocessing, names: BTreeMap::new(), base: None })
    }

    /// The same for a graph as Keras has it, whose layers have other names than their own.
    pub fn with_names(self, names: BTreeMap<String, String>, graph: &Graph) -> Self {
        let base = match graph.base().output {
            Source::Layer(position) => Some(graph.layers()[position].name.clone()),
            Source::Input => None,
        };
        Self { names, base, ..self }
    }

    /// As a file has it.
    pub fn text(&self) -> Result<String, String> {
        serde_json::to_string(self).map_err(|error| error.to_string())
    }

    /// Reads one.
    pub fn of(text: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(text)
            .map_err(|error| format!("`{NAME}`, Rekindle's record in the file: {error}"))
    }

    /// Reads one.
    pub fn of_value(value: &Value) -> Result<Self, String> {
        Self::deserialize(value)
            .map_err(|error| format!("`{NAME}`, Rekindle's record in the file: {error}"))
    }

    /// The card, with this graph.
    pub fn card(&self, graph: &Graph) -> Result<ModelCard, String> {
        let mut card = self.card.clone();
        card.insert("graph".into(), serde_json::to_value(graph).map_err(|e| e.to_string())?);
        serde_json::from_value(Value::Object(card))
            .map_err(|error| format!("`{NAME}`, Rekindle's record in the file: {error}"))
    }
}

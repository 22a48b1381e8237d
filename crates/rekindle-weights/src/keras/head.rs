//! What stands on the network in a model: its head, as a chain of layers that ends in a classifier.

use rekindle_nn::layers::{Activation, Padding};
use rekindle_nn::{HeadConfig, HeadLayerConfig, Pool};

use super::config::KerasLayer;

/// A head and the file's layers that fill it.
#[derive(Debug, PartialEq)]
pub(crate) struct ChainHead {
    pub config: HeadConfig,
    /// Outputs of the last dense layer.
    pub units: usize,
    /// Whether that layer has one output with a sigmoid, where ours has two with a softmax.
    pub sigmoid: bool,
    /// The layers with variables, in order: what they are filed under.
    pub keys: Vec<String>,
}

/// Reads the layers behind the network; `first` is the position of the first in the model.
pub(crate) fn head(layers: &[KerasLayer], first: usize) -> Result<ChainHead, String> {
    let (mut chain, mut keys) = (Vec::new(), Vec::new());
    for (index, layer) in layers.iter().enumerate() {
        let wrong = |why: String| Err(format!("{} {why}", layer.described(first + index)));
        if layer.inputs.len() > 1 {
            return wrong(format!(
                "takes {} inputs: behind the network, only a chain of layers is supported",
                layer.inputs.len()
            ));
        }
        if layer.text("data_format") == Some("channels_first") {
            return wrong("has channels first, expected channels_last".into());
        }
        let pool = || {
            let kernel = layer.pair("pool_size")?;
            let stride = layer.pair("strides").unwrap_or(kernel);
            let padding = match layer.text("padding") {
                Some("same") => Padding::Same,
                _ => Padding::Valid,
            };
            Some(Pool { kernel, stride, padding })
        };
        let number =
            |setting: &str, default: f64| layer.config[setting].as_f64().unwrap_or(default);
        let is_plain = |setting: &str| matches!(layer.config[setting].as_bool(), None | Some(true));
        let read = match layer.class.as_str() {
            "GlobalAveragePooling2D" | "GlobalMaxPooling2D"
                if layer.config["keepdims"].as_bool() == Some(true) =>
            {
                return wrong("keeps dimensions (keepdims), which is not supported".into());
            }
            "GlobalAveragePooling2D" => HeadLayerConfig::GlobalAveragePooling2d,
            "GlobalMaxPooling2D" => HeadLayerConfig::GlobalMaxPooling2d,
            "AveragePooling2D" | "MaxPooling2D" => {
                let Some(pool) = pool() else {
                    return wrong(format!("has pool_size {}", layer.config["pool_size"]));
                };
                match layer.class.as_str() {
                    "MaxPooling2D" => HeadLayerConfig::MaxPooling2d(pool),
                    _ => HeadLayerConfig::AveragePooling2d(pool),
                }
            }
            "Flatten" => HeadLayerConfig::Flatten,
            "Dropout" => HeadLayerConfig::Dropout(number("rate", 0.0)),
            "Rescaling" => HeadLayerConfig::Rescaling {
                scale: number("scale", 1.0),
                offset: number("offset", 0.0),
            },
            "BatchNormalization" if is_plain("center") => {
                keys.push(layer.key.clone());
                HeadLayerConfig::BatchNormalization {
                    epsilon: number("epsilon", 1e-3),
                    scale: is_plain("scale"),
                }
            }
            "BatchNormalization" => return wrong("has no beta, which is not supported".into()),
            "Dense" => {
                keys.push(layer.key.clone());
                let units = layer.config["units"].as_u64().and_then(|units| units.try_into().ok());
                let Some(units) = units else {
                    return wrong(format!("has {} units", layer.config["units"]));
                };
                match activation(layer.activation()) {
                    Some(activation) => HeadLayerConfig::Dense { units, activation, l2: 0.0 },
                    None => return wrong(unsupported_activation(layer.activation())),
                }
            }
            "Activation" | "ReLU" | "Softmax" => {
                let named = match layer.class.as_str() {
                    "ReLU" => {
                        match (layer.config["max_value"].as_f64(), number("negative_slope", 0.0)) {
                            (None, 0.0) => "relu",
                            (Some(6.0), 0.0) => "relu6",
                            _ => return wrong("has a slope or a maximum other than 6".into()),
                        }
                    }
                    "Softmax" => "softmax",
                    _ => layer.activation(),
                };
                let Some(named_activation) = activation(named) else {
                    return wrong(unsupported_activation(named));
                };
                match (chain.last_mut(), named_activation) {
                    (_, Activation::Linear) => continue,
                    (Some(HeadLayerConfig::Dense { activation, .. }), named)
                        if *activation == Activation::Linear =>
                    {
                        *activation = named;
                        continue;
                    }
                    (_, Activation::Relu) => HeadLayerConfig::Relu,
                    (_, Activation::Relu6) => HeadLayerConfig::Relu6,
                    _ => {
                        return wrong(format!(
                            "applies {named} to what is no Dense layer's output"
                        ));
                    }
                }
            }
            _ => return wrong("behind the network is not supported".into()),
        };
        chain.push(read);
    }
    let (config, units, sigmoid) = classifier(chain)?;
    Ok(ChainHead { config, units, sigmoid, keys })
}

/// The head that a chain of layers is: its settings, its classes, and whether its last layer has one output
/// with a sigmoid, where ours has two with a softmax.
pub(crate) fn classifier(
    mut chain: Vec<HeadLayerConfig>,
) -> Result<(HeadConfig, usize, bool), String> {
    // Dropout behind the classifier does nothing outside of training.
    while let Some(HeadLayerConfig::Dropout(_)) = chain.last() {
        chain.pop();
    }
    let Some(HeadLayerConfig::Dense { units, activation, .. }) = chain.pop() else {
        return Err("the model does not end with a Dense layer: it is no classifier".into());
    };
    // Without an activation the outputs are logits: Keras's guides train so, with `from_logits=True`.
    let sigmoid = match (units, activation) {
        (1, Activation::Sigmoid | Activation::Linear) => true,
        (2.., Activation::Softmax | Activation::Linear) => false,
        _ => {
            return Err(format!(
                "the last Dense layer has {units} units and {activation:?}, expected softmax, or one unit and sigmoid"
            ));
        }
    };
    Ok((HeadConfig::of(chain), if sigmoid { 2 } else { units }, sigmoid))
}

fn activation(name: &str) -> Option<Activation> {
    Some(match name {
        "linear" => Activation::Linear,
        "relu" => Activation::Relu,
        "relu6" => Activation::Relu6,
        "softmax" => Activation::Softmax,
        "sigmoid" => Activation::Sigmoid,
        _ => return None,
    })
}

fn unsupported_activation(name: &str) -> String {
    format!("has activation {name}, expected linear, relu, relu6, softmax or sigmoid")
}

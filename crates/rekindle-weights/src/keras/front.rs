//! What stands before the network in a model: preprocessing that the model does itself.

use super::config::KerasLayer;

/// What a model does to photos before the network sees them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Front {
    /// `x * scale + offset`, if anything.
    pub rescale: Option<(f64, f64)>,
    /// The resize, as Rekindle calls it.
    pub resize: Option<&'static str>,
}

impl Front {
    /// The preprocessing, as a model card writes it; nothing where the model leaves it to its caller.
    pub fn preprocessing(&self) -> Option<String> {
        let (scale, offset) = self.rescale?;
        let is_tf = (scale * 127.5 - 1.0).abs() < 1e-6 && (offset + 1.0).abs() < 1e-6;
        Some(if is_tf { "tf".into() } else { format!("rescale:{scale}:{offset}") })
    }
}

/// Reads the layers before the network.
pub(crate) fn front(layers: &[KerasLayer]) -> Result<Front, String> {
    let mut front = Front::default();
    for (position, layer) in layers.iter().enumerate() {
        let wrong = |why: &str| format!("{} {why}", layer.described(position));
        // Keras 2 calls an operation TFOpLambda and names the layer after it.
        let operation = match layer.class.as_str() {
            "TFOpLambda" => layer.name.trim_end_matches(|c: char| c == '_' || c.is_ascii_digit()),
            class => class,
        };
        let constant = match layer.constants.as_slice() {
            [constant] => Some(*constant),
            _ => None,
        };
        let (scale, offset) = front.rescale.unwrap_or((1.0, 0.0));
        let rescaled = match (operation, constant) {
            ("InputLayer" | "Dropout", _) => continue,
            // Augmentation does nothing outside of training.
            (class, _) if class.starts_with("Random") => continue,
            ("Resizing", _) => {
                front.resize = Some(match layer.text("interpolation").unwrap_or("bilinear") {
                    "bilinear" => "tf-bilinear",
                    "nearest" => "nearest",
                    other => return Err(wrong(&format!("resizes by {other}, expected bilinear"))),
                });
                continue;
            }
            ("Rescaling", _) => {
                let number = |setting: &str, default| match &layer.config[setting] {
                    serde_json::Value::Null => Ok(default),
                    value => value.as_f64().ok_or_else(|| {
                        wrong(&format!("has {setting} {value}, expected one number"))
                    }),
                };
                let (by, plus) = (number("scale", 1.0)?, number("offset", 0.0)?);
                (scale * by, offset * by + plus)
            }
            ("TrueDivide" | "Divide" | "tf.math.truediv" | "tf.math.divide", Some(by)) => {
                (scale / by, offset / by)
            }
            ("Multiply" | "tf.math.multiply", Some(by)) => (scale * by, offset * by),
            ("Subtract" | "tf.math.subtract", Some(by)) => (scale, offset - by),
            ("Add" | "tf.math.add" | "tf.__operators__.add", Some(by)) => (scale, offset + by),
            _ => return Err(wrong("before the network is not supported")),
        };
        front.rescale = Some(rescaled);
    }
    Ok(front)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn layer(class: &str, name: &str, config: serde_json::Value, constants: &[f64]) -> KerasLayer {
        KerasLayer {
            class: class.into(),
            name: name.into(),
            config,
            key: String::new(),
            inputs: Vec::new(),
            constants: constants.to_vec(),
        }
    }

    #[test]
    fn every_way_to_write_the_preprocessing_is_the_same() {
        let rescaling = layer("Rescaling", "r", json!({"scale": 1.0 / 127.5, "offset": -1}), &[]);
        let keras_3 = [
            layer("InputLayer", "i", json!({}), &[]),
            layer("RandomFlip", "f", json!({}), &[]),
            layer("TrueDivide", "true_divide_3", json!({}), &[127.5]),
            layer("Subtract", "subtract", json!({}), &[1.0]),
        ];
        let keras_2 = [
            layer("TFOpLambda", "tf.math.truediv_1", json!({}), &[127.5]),
            layer("TFOpLambda", "tf.math.subtract", json!({}), &[1.0]),
        ];
        for layers in [&[rescaling][..], &keras_3, &keras_2] {
            assert_eq!(front(layers).expect("known").preprocessing().as_deref(), Some("tf"));
        }
        let unit = layer("Rescaling", "r", json!({"scale": 0.5}), &[]);
        let preprocessing = front(&[unit]).expect("known").preprocessing();
        assert_eq!(preprocessing.as_deref(), Some("rescale:0.5:0"));
        assert_eq!(front(&[]).expect("known").preprocessing(), None);
        let error = front(&[layer("Lambda", "mine", json!({}), &[])]).expect_err("unknown");
        assert!(error.contains("layer 0, `mine` (Lambda)"), "{error}");
    }
}

//! The `config.json` of a `.keras` file, which is also the attribute `model_config` of a whole model's HDF5.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

/// Models in models; Keras's own converters give up far earlier.
const DEEPEST: usize = 16;

/// One layer of a Keras model.
#[derive(Debug, Clone)]
pub(crate) struct KerasLayer {
    /// Keras's layer class.
    pub class: String,
    /// The layer's name.
    pub name: String,
    /// Its settings.
    pub config: Value,
    /// What its tensors in the file are filed under.
    pub key: String,
    /// The names of the layers that it takes the outputs of; empty in a `Sequential`.
    pub inputs: Vec<String>,
    /// Numbers that it was called with: operations such as `x / 127.5` have them instead of settings.
    pub constants: Vec<f64>,
}

impl KerasLayer {
    /// How errors call it.
    pub fn described(&self, position: usize) -> String {
        format!("layer {position}, `{}` ({})", self.name, self.class)
    }

    /// A pair of settings, such as `strides`, which older versions wrote as one number.
    pub fn pair(&self, setting: &str) -> Option<[usize; 2]> {
        let number = |value: &Value| value.as_u64().and_then(|number| usize::try_from(number).ok());
        match &self.config[setting] {
            Value::Array(values) => match values.as_slice() {
                [rows, columns] => Some([number(rows)?, number(columns)?]),
                _ => None,
            },
            value => number(value).map(|number| [number; 2]),
        }
    }

    /// A setting that is text.
    pub fn text(&self, setting: &str) -> Option<&str> {
        self.config[setting].as_str()
    }

    /// An activation, which Keras 3 may write as an object.
    pub fn activation(&self) -> &str {
        let value = &self.config["activation"];
        value.as_str().or_else(|| value["config"].as_str()).unwrap_or(match value {
            Value::Null => "linear",
            _ => "custom",
        })
    }
}

/// The layers of a model, with those of the models inside it in their places. `numbered` says whether the
/// file files tensors by class and number (`conv2d_1`), as Keras 3 does, or by name.
pub(crate) fn layers(model: &Value, numbered: bool) -> Result<Vec<KerasLayer>, String> {
    let mut found = Vec::new();
    add(model, numbered, "", 0, &mut found)?;
    let last_outputs = outputs(model);
    if last_outputs > 1 {
        return Err(format!("the model has {last_outputs} outputs, expected 1"));
    }
    Ok(found)
}

fn add(
    model: &Value,
    numbered: bool,
    prefix: &str,
    depth: usize,
    found: &mut Vec<KerasLayer>,
) -> Result<(), String> {
    if depth > DEEPEST {
        return Err(format!("the model's configuration is nested more than {DEEPEST} deep"));
    }
    // Keras 2.0's Sequential is the list itself.
    let list = model["config"]["layers"].as_array().or_else(|| model["config"].as_array());
    let list = list.ok_or("the model's configuration lists no layers")?;
    let mut numbers: HashMap<String, usize> = HashMap::new();
    for layer in list {
        let class = layer["class_name"].as_str().ok_or("a layer's configuration has no class")?;
        let config = &layer["config"];
        let name = config["name"].as_str().or_else(|| layer["name"].as_str()).unwrap_or_default();
        let snake = snake_case(class);
        let number = numbers.entry(snake.clone()).or_default();
        let filed = match (numbered, *number) {
            (false, _) => name.to_owned(),
            (true, 0) => snake,
            (true, number) => format!("{snake}_{number}"),
        };
        *number += 1;
        if matches!(class, "Sequential" | "Functional" | "Model") {
            // Files by name do not repeat the outer model's name in the layers' own.
            let inner = if numbered { format!("{prefix}{filed}/") } else { String::new() };
            add(layer, numbered, &inner, depth + 1, found)?;
            continue;
        }
        let (mut inputs, mut constants) = (Vec::new(), Vec::new());
        calls(&layer["inbound_nodes"], &mut inputs, &mut constants, 0);
        found.push(KerasLayer {
            class: class.to_owned(),
            name: name.to_owned(),
            config: config.clone(),
            key: format!("{prefix}{filed}"),
            inputs,
            constants,
        });
    }
    Ok(())
}

/// The layers and the numbers that a layer was called with: Keras 3 writes tensors as objects with a
/// `keras_history`, Keras 2 as `[name, node, tensor, arguments]`.
fn calls(value: &Value, inputs: &mut Vec<String>, constants: &mut Vec<f64>, depth: usize) {
    if depth > 4 * DEEPEST {
        return;
    }
    match value {
        Value::Array(values) => {
            if let [Value::String(name), Value::Number(_), Value::Number(_), rest @ ..] =
                values.as_slice()
            {
                inputs.push(name.clone());
                return rest.iter().for_each(|value| calls(value, inputs, constants, depth + 1));
            }
            values.iter().for_each(|value| calls(value, inputs, constants, depth + 1));
        }
        Value::Object(fields) => {
            if let Some(Value::Array(history)) = fields.get("keras_history") {
                inputs.extend(history.first().and_then(Value::as_str).map(str::to_owned));
                return;
            }
            for (name, value) in fields {
                // Arguments such as `training` or a mask are no operands.
                if matches!(name.as_str(), "args" | "config" | "x" | "y" | "x1" | "x2") {
                    calls(value, inputs, constants, depth + 1);
                }
            }
        }
        Value::Number(number) => constants.extend(number.as_f64()),
        _ => {}
    }
}

fn outputs(model: &Value) -> usize {
    match model["config"]["output_layers"].as_array().map(Vec::as_slice) {
        // Keras 3 writes one output as [name, node, tensor], Keras 2 as a list of such.
        Some([Value::String(_), ..]) | None => 1,
        Some(outputs) => outputs.len(),
    }
}

/// `keras/src/utils/naming.py`, `to_snake_case`: DepthwiseConv2D is depthwise_conv2d.
pub(crate) fn snake_case(class: &str) -> String {
    let letters: Vec<char> = class.chars().filter(|c| c.is_alphanumeric() || *c == '_').collect();
    let mut snake = String::new();
    let mut breaks = HashSet::new();
    for index in 1..letters.len() {
        let (before, this) = (letters[index - 1], letters[index]);
        let next = letters.get(index + 1);
        let starts_word = this.is_ascii_uppercase() && next.is_some_and(char::is_ascii_lowercase);
        if starts_word || (before.is_ascii_lowercase() && this.is_ascii_uppercase()) {
            breaks.insert(index);
        }
    }
    for (index, letter) in letters.into_iter().enumerate() {
        if breaks.contains(&index) {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn classes_in_snake_case_are_keras_s() {
        for (class, snake) in [
            ("Conv2D", "conv2d"),
            ("DepthwiseConv2D", "depthwise_conv2d"),
            ("BatchNormalization", "batch_normalization"),
            ("GlobalAveragePooling2D", "global_average_pooling2d"),
            ("ReLU", "re_lu"),
            ("Functional", "functional"),
        ] {
            assert_eq!(snake_case(class), snake);
        }
    }

    #[test]
    fn layers_of_both_keras_versions_are_numbered_and_connected() {
        let keras_3 = json!({"class_name": "Functional", "config": {"layers": [
            {"class_name": "InputLayer", "config": {"name": "in"}, "inbound_nodes": []},
            {"class_name": "Dense", "config": {"name": "a"}, "inbound_nodes": [{"args": [
                {"class_name": "__keras_tensor__", "config": {"keras_history": ["in", 0, 0]}}], "kwargs": {"training": false}}]},
            {"class_name": "TrueDivide", "name": "divide", "config": {"name": "divide"}, "inbound_nodes": [{"args": [
                {"class_name": "__keras_tensor__", "config": {"keras_history": ["a", 0, 0]}}, 127.5], "kwargs": {}}]},
            {"class_name": "Dense", "config": {"name": "b"}, "inbound_nodes": []},
        ], "output_layers": [["b", 0, 0]]}});
        let found = layers(&keras_3, true).expect("reads");
        let keys: Vec<&str> = found.iter().map(|layer| layer.key.as_str()).collect();
        assert_eq!(keys, ["input_layer", "dense", "true_divide", "dense_1"]);
        assert_eq!((&found[1].inputs, found[1].constants.len()), (&vec!["in".to_owned()], 0));
        assert_eq!(found[2].constants, [127.5]);

        let keras_2 = json!({"class_name": "Sequential", "config": [
            {"class_name": "Sequential", "config": {"layers": [
                {"class_name": "Dense", "config": {"name": "a"}, "inbound_nodes": [[["in", 0, 0, {"y": 2.0}]]]}]}},
        ]});
        let found = layers(&keras_2, false).expect("reads");
        assert_eq!((found[0].key.as_str(), &found[0].constants), ("a", &vec![2.0]));
        assert_eq!(layers(&keras_2, true).expect("reads")[0].key, "sequential/dense");

        let two = json!({"class_name": "Functional", "config": {"layers": [], "output_layers": [["a", 0, 0], ["b", 0, 0]]}});
        assert!(layers(&two, true).expect_err("two outputs").contains("2 outputs"));
    }
}

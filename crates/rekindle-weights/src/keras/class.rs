//! What a layer's class says: whether it is Keras's own, what it computes in, and its name in files.

use std::collections::HashSet;

use serde_json::{Map, Value};

/// Classes of a user's own may do anything, whatever they are called.
pub(super) fn foreign(value: &Value, described: &str) -> Result<(), String> {
    let registered = value["registered_name"].as_str().unwrap_or_default();
    let module = value["module"].as_str();
    let is_keras = |module: &str| {
        let parts: Vec<&str> = module.split('.').collect();
        matches!(parts.first(), Some(&("keras" | "tf_keras" | "tensorflow")))
    };
    let from = match module {
        Some(module) if !is_keras(module) => module,
        None if registered.contains('>') => registered,
        _ => return Ok(()),
    };
    Err(format!(
        "{described} is a class of the user's own (from `{from}`): only Keras's layers are supported"
    ))
}

/// What a layer computes in: `float32`, `mixed_float16`.
pub(super) fn precision(config: &Map<String, Value>) -> Option<&str> {
    match config.get("dtype")? {
        Value::String(name) => Some(name),
        policy => policy.get("config")?.get("name")?.as_str(),
    }
}

/// Weights of a quantized layer are codes, not numbers.
pub(super) fn quantized(config: &Map<String, Value>, described: &str) -> Result<(), String> {
    let dtype = precision(config).unwrap_or_default();
    let class = config.get("dtype").and_then(|dtype| dtype["class_name"].as_str());
    let is_quantized = class.is_some_and(|class| class.starts_with("Quantized"))
        || ["int8", "int4", "float8"].iter().any(|name| dtype.contains(name) && dtype != "uint8");
    if is_quantized {
        return Err(format!("{described} is quantized (`dtype` is {dtype}), expected floats"));
    }
    Ok(())
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
    use super::snake_case;

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
}

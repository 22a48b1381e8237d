//! Keras's layer configurations: every setting is read, or is one that no answer depends on, or is an error.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{Activation, NetworkError};

/// Settings of any layer that cannot change an answer: how weights start and are held in bounds while Keras trains,
/// what Keras calls things, and what its build and saving take notes of.
pub const IGNORED: &[&str] = &[
    "name",
    "trainable",
    "dtype",
    "batch_input_shape",
    "batch_shape",
    "input_shape",
    "autocast",
    "build_config",
    "kernel_initializer",
    "bias_initializer",
    "depthwise_initializer",
    "pointwise_initializer",
    "beta_initializer",
    "gamma_initializer",
    "alpha_initializer",
    "moving_mean_initializer",
    "moving_variance_initializer",
    "kernel_regularizer",
    "bias_regularizer",
    "depthwise_regularizer",
    "pointwise_regularizer",
    "beta_regularizer",
    "gamma_regularizer",
    "alpha_regularizer",
    "activity_regularizer",
    "kernel_constraint",
    "bias_constraint",
    "depthwise_constraint",
    "pointwise_constraint",
    "beta_constraint",
    "gamma_constraint",
    "alpha_constraint",
    "seed",
    "synchronized",
];

/// What every layer has, and is written for each anyway.
const GENERAL: &[&str] = &[
    "name",
    "trainable",
    "dtype",
    "batch_input_shape",
    "batch_shape",
    "input_shape",
    "autocast",
    "build_config",
];

/// Which Keras wrote a configuration: some names mean another function in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// Keras 2, also as tf-keras, and 1.
    Keras2,
    /// Keras 3.
    Keras3,
}

/// The settings of one layer, which are taken out as they are read.
#[derive(Debug, Clone)]
pub struct LayerConfig {
    /// The layer's name.
    pub layer: String,
    /// Keras's layer class.
    pub class: String,
    /// Which Keras wrote it.
    pub generation: Generation,
    settings: BTreeMap<String, Value>,
}

impl LayerConfig {
    /// A layer's settings, as Keras's `get_config` has them.
    #[must_use]
    pub fn new(
        layer: &str,
        class: &str,
        generation: Generation,
        config: &Map<String, Value>,
    ) -> Self {
        let settings = config.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        Self { layer: layer.to_owned(), class: class.to_owned(), generation, settings }
    }

    /// The error for a setting that is not what it has to be.
    #[must_use]
    pub fn wrong(
        &self,
        setting: &str,
        found: impl ToString,
        expected: impl Into<String>,
    ) -> NetworkError {
        NetworkError::LayerSetting {
            layer: self.layer.as_str().into(),
            class: self.class.as_str().into(),
            setting: setting.into(),
            found: found.to_string().into(),
            expected: expected.into().into(),
        }
    }

    /// A setting, which then counts as read; nothing where the file has none or says `null`.
    pub fn take(&mut self, setting: &str) -> Option<Value> {
        self.settings.remove(setting).filter(|value| !value.is_null())
    }

    /// Whether the file says `null` for a setting, which for a few is another answer than saying nothing.
    #[must_use]
    pub fn is_null(&self, setting: &str) -> bool {
        self.settings.get(setting).is_some_and(Value::is_null)
    }

    /// Whether the file says something for a setting.
    #[must_use]
    pub fn has(&self, setting: &str) -> bool {
        self.settings.get(setting).is_some_and(|value| !value.is_null())
    }

    /// All settings of the layer that are not read yet, but what every layer has; they count as read then.
    pub fn rest(&mut self) -> Map<String, Value> {
        let settings = std::mem::take(&mut self.settings).into_iter();
        settings.filter(|(key, _)| !GENERAL.contains(&key.as_str())).collect()
    }

    /// A number of things: not negative, and whole.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn count(&mut self, setting: &str) -> Result<Option<usize>, NetworkError> {
        let Some(value) = self.take(setting) else { return Ok(None) };
        match count(&value) {
            Some(count) => Ok(Some(count)),
            None => Err(self.wrong(setting, value, "a whole number from 0")),
        }
    }

    /// A finite number.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn number(&mut self, setting: &str) -> Result<Option<f64>, NetworkError> {
        let Some(value) = self.take(setting) else { return Ok(None) };
        match number(&value) {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(setting, value, "a number")),
        }
    }

    /// True or false.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn flag(&mut self, setting: &str) -> Result<Option<bool>, NetworkError> {
        match self.take(setting) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(value) => Err(self.wrong(setting, value, "true or false")),
        }
    }

    /// A word.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn text(&mut self, setting: &str) -> Result<Option<String>, NetworkError> {
        match self.take(setting) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(value) => Err(self.wrong(setting, value, "a word")),
        }
    }

    /// Height and width: two counts, or one for both.
    ///
    /// # Errors
    /// When it is anything else, or one of them is 0.
    pub fn pair(&mut self, setting: &str) -> Result<Option<[usize; 2]>, NetworkError> {
        let Some(value) = self.take(setting) else { return Ok(None) };
        let pair = match &value {
            Value::Array(items) => match items.as_slice() {
                [height, width] => count(height).zip(count(width)).map(|(a, b)| [a, b]),
                [one] => count(one).map(|size| [size; 2]),
                _ => None,
            },
            one => count(one).map(|size| [size; 2]),
        };
        match pair {
            Some(pair) if !pair.contains(&0) => Ok(Some(pair)),
            _ => Err(self.wrong(setting, value, "one or two whole numbers from 1")),
        }
    }

    /// Rows above and below, columns left and right, as Keras's paddings and croppings have them.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn edges(&mut self, setting: &str) -> Result<Option<[[usize; 2]; 2]>, NetworkError> {
        let Some(value) = self.take(setting) else { return Ok(None) };
        let edge = |value: &Value| match value {
            Value::Array(pair) => match pair.as_slice() {
                [before, after] => count(before).zip(count(after)).map(|(a, b)| [a, b]),
                _ => None,
            },
            one => count(one).map(|size| [size; 2]),
        };
        let edges = match &value {
            Value::Array(pair) => match pair.as_slice() {
                [rows, columns] => edge(rows).zip(edge(columns)).map(|(a, b)| [a, b]),
                _ => None,
            },
            one => edge(one).map(|edge| [edge; 2]),
        };
        match edges {
            Some(edges) => Ok(Some(edges)),
            None => Err(self.wrong(setting, value, "whole numbers: one, two or two pairs")),
        }
    }

    /// Numbers: a list of them, of any depth, or a single one.
    ///
    /// # Errors
    /// When there is anything else.
    pub fn numbers(&mut self, setting: &str) -> Result<Option<Vec<f64>>, NetworkError> {
        fn collect(value: &Value, into: &mut Vec<f64>) -> Option<()> {
            match value {
                Value::Array(items) => items.iter().try_for_each(|item| collect(item, into)),
                // Keras 3's way to write an array of NumPy or of TensorFlow.
                Value::Object(object) => collect(object.get("config")?.get("value")?, into),
                one => number(one).map(|number| into.push(number)),
            }
        }
        let Some(value) = self.take(setting) else { return Ok(None) };
        let mut numbers = Vec::new();
        match collect(&value, &mut numbers) {
            Some(()) => Ok(Some(numbers)),
            None => Err(self.wrong(setting, value, "numbers")),
        }
    }

    /// Whole numbers that may be negative, such as axes: a list, or a single one.
    ///
    /// # Errors
    /// When there is anything else.
    pub fn integers(&mut self, setting: &str) -> Result<Option<Vec<i64>>, NetworkError> {
        let Some(value) = self.take(setting) else { return Ok(None) };
        let integers: Option<Vec<i64>> = match &value {
            Value::Array(items) => items.iter().map(Value::as_i64).collect(),
            one => one.as_i64().map(|integer| vec![integer]),
        };
        match integers {
            Some(integers) => Ok(Some(integers)),
            None => Err(self.wrong(setting, value, "whole numbers")),
        }
    }

    /// An activation: its name, or a layer or function with settings of its own.
    ///
    /// # Errors
    /// When it is one that is not supported.
    pub fn activation(&mut self, setting: &str) -> Result<Activation, NetworkError> {
        match self.take(setting) {
            None => Ok(Activation::Linear),
            Some(value) => self.activation_of(setting, &value),
        }
    }

    fn activation_of(&self, setting: &str, value: &Value) -> Result<Activation, NetworkError> {
        let unknown = || {
            let names: Vec<&str> = Activation::NAMES.iter().map(|(name, _)| *name).collect();
            self.wrong(setting, value, format!("one of {}", names.join(", ")))
        };
        match value {
            Value::Null => Ok(Activation::Linear),
            Value::String(name) => {
                // Custom and packaged functions are written as `package>name`.
                if name == "hard_sigmoid" && self.generation == Generation::Keras2 {
                    return Ok(Activation::HARD_SIGMOID_2);
                }
                Activation::by_name(name).ok_or_else(unknown)
            }
            Value::Object(object) => {
                let class = object.get("class_name").and_then(Value::as_str);
                match (class, object.get("config")) {
                    (Some("function"), Some(name @ Value::String(_))) => {
                        self.activation_of(setting, name)
                    }
                    (Some(class), Some(Value::Object(config))) => {
                        let mut inner = Self::new(&self.layer, class, self.generation, config);
                        let activation =
                            crate::ops::activation_layer(&mut inner)?.ok_or_else(unknown)?;
                        inner.finish()?;
                        Ok(activation)
                    }
                    _ => Err(unknown()),
                }
            }
            _ => Err(unknown()),
        }
    }

    /// Keras's `data_format`, which has to be the one that Rekindle's graphs are in.
    ///
    /// # Errors
    /// For `channels_first`.
    pub fn channels_last(&mut self) -> Result<(), NetworkError> {
        match self.text("data_format")?.as_deref() {
            None | Some("channels_last") => Ok(()),
            Some(other) => Err(self.wrong("data_format", other, "channels_last")),
        }
    }

    /// Sees that nothing was left unread but what no answer depends on.
    ///
    /// # Errors
    /// For the first setting that is neither.
    pub fn finish(self) -> Result<(), NetworkError> {
        let unread = self
            .settings
            .iter()
            .find(|(key, value)| !value.is_null() && !IGNORED.contains(&key.as_str()));
        match unread {
            None => Ok(()),
            Some((setting, value)) => Err(self.wrong(
                setting,
                value,
                "only settings that Rekindle knows for this layer: it would not be honoured",
            )),
        }
    }
}

/// A whole number from 0, also where it is written with a point.
fn count(value: &Value) -> Option<usize> {
    let whole = value.as_u64().or_else(|| {
        let number = value.as_f64()?;
        (number >= 0.0 && number.fract() == 0.0 && number < 2_f64.powi(53)).then_some(number as u64)
    });
    usize::try_from(whole?).ok()
}

/// A finite number, also one that Keras 3 wrote as an array of one value.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Object(object) => match object.get("config")?.get("value")? {
            Value::Array(items) => match items.as_slice() {
                [one] => number(one),
                _ => None,
            },
            one => number(one),
        },
        other => other.as_f64().filter(|number| number.is_finite()),
    }
}

/// A configuration to be written: the settings in Keras's words.
#[must_use]
pub fn config<const N: usize>(settings: [(&str, Value); N]) -> Map<String, Value> {
    settings.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// How Keras writes an activation: its name, or an object with settings. One that Keras 3 does not have
/// ([`Activation::is_keras`]) is an object that only Rekindle reads.
#[must_use]
pub fn activation_config(activation: Activation) -> Value {
    match activation.name() {
        Some(name) => name.into(),
        None => {
            let (class, config) = crate::ops::activation_as_layer(activation);
            let module = if activation.is_keras() { "keras.layers" } else { "rekindle" };
            serde_json::json!({ "module": module, "class_name": class, "config": config, "registered_name": null })
        }
    }
}

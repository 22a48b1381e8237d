//! Operations that are no layers: Keras 3's operation classes (`x / 127.5` is a `TrueDivide`), and Keras 2's `TFOpLambda`,
//! which names a function of TensorFlow.

use rekindle_nn::ops::{
    ActivationLayer, Concatenate, GlobalPool, Merge, MergeKind, PoolKind, Rescaling,
};
use rekindle_nn::{Activation, Op, Shape};
use serde_json::{Map, Value};

use super::config::{Argument, Link, Node, OLD_OPERATIONS};

/// What an operation is.
#[derive(Debug, PartialEq)]
pub(super) enum Made {
    /// A layer on these values.
    Layer(Op, Vec<Link>),
    /// Nothing but its input.
    Same(Link),
}

/// What is supported, for errors.
const SUPPORTED: &str = "add, subtract, multiply, divide by a number, negative, maximum, minimum, clip, cast to a float type, concatenate, means and maxima over height and width, activations";

/// Whether a node is an operation and no layer.
pub(super) fn is_operation(node: &Node) -> bool {
    node.is_operation || OLD_OPERATIONS.contains(&node.class.as_str())
}

/// What an operation does in one word, whichever Keras wrote it: the last part of TensorFlow's name, or Keras 3's class.
fn word(node: &Node) -> String {
    match node.config.get("function").and_then(Value::as_str) {
        Some(function) if !node.is_operation => {
            function.rsplit('.').next().unwrap_or(function).to_ascii_lowercase()
        }
        _ => super::class::snake_case(&node.class),
    }
}

/// How errors call an operation.
fn described(node: &Node) -> String {
    match node.config.get("function").and_then(Value::as_str) {
        Some(function) => format!("operation `{}` (tf.{function})", node.name),
        None => format!("operation `{}` ({})", node.name, node.class),
    }
}

/// Reads an operation; `shape` gives the shape of a value.
pub(super) fn operation(node: &Node, shape: &dyn Fn(Link) -> Shape) -> Result<Made, String> {
    let wrong = |why: &str| format!("{} {why}", described(node));
    let word = word(node);
    let mut settings = settings(node);
    let made = match (word.as_str(), node.arguments.as_slice()) {
        (
            "add" | "add_v2" | "subtract" | "sub" | "multiply" | "mul" | "truediv" | "true_divide"
            | "divide" | "realdiv" | "maximum" | "minimum" | "bias_add",
            arguments,
        ) => elementwise(node, &word, arguments, &mut settings, shape)?,
        ("negative" | "neg", [Argument::Value(x)]) => {
            Made::Layer(Rescaling::new(-1.0, 0.0).into(), vec![*x])
        }
        ("identity" | "stop_gradient", [Argument::Value(x)]) => Made::Same(*x),
        ("cast", [Argument::Value(x)]) => {
            let dtype = settings.remove("dtype").or_else(|| settings.remove("argument 1"));
            let dtype = dtype.as_ref().and_then(Value::as_str).unwrap_or_default();
            match dtype {
                "float32" | "float16" | "bfloat16" | "float64" => Made::Same(*x),
                other => return Err(wrong(&format!("casts to `{other}`, expected a float type"))),
            }
        }
        ("clip" | "clip_by_value", [Argument::Value(x), rest @ ..]) => {
            let mut limits = [
                number(&mut settings, &["x_min", "clip_value_min"]),
                number(&mut settings, &["x_max", "clip_value_max"]),
            ];
            let mut rest = rest.iter();
            for limit in &mut limits {
                if limit.is_none()
                    && let Some(Argument::Constant(values, axes)) = rest.next()
                    && axes.is_empty()
                {
                    *limit = values.first().copied();
                }
            }
            match limits {
                [Some(low), Some(high)] if low <= high && rest.next().is_none() => {
                    activation(Activation::Clip { low, high }, *x)
                }
                _ => return Err(wrong("has other limits than two numbers")),
            }
        }
        ("mean" | "reduce_mean" | "max" | "reduce_max", [Argument::Value(x), rest @ ..]) => {
            pool(node, &word, *x, rest, &mut settings, shape)?
        }
        ("concatenate" | "concat", arguments) => {
            let mut values = Vec::new();
            let mut axis = settings.remove("axis").and_then(|axis| axis.as_i64());
            for argument in arguments {
                match argument {
                    Argument::Value(link) => values.push(*link),
                    Argument::Constant(numbers, axes) if axes.is_empty() && axis.is_none() => {
                        axis = numbers.first().map(|number| *number as i64);
                    }
                    Argument::Constant(..) => return Err(wrong("joins constants")),
                }
            }
            Made::Layer(Concatenate { axis: axis.unwrap_or(-1) }.into(), values)
        }
        (name, [Argument::Value(x)]) => {
            match function(name, &mut settings).map_err(|why| wrong(&why))? {
                Some(function) => {
                    if matches!(function, Activation::Softmax | Activation::LogSoftmax) {
                        last_axis(&mut settings, shape(*x)).map_err(|why| wrong(&why))?;
                    }
                    activation(function, *x)
                }
                None => return Err(wrong(&format!("is not supported; supported are {SUPPORTED}"))),
            }
        }
        _ => return Err(wrong(&format!("is not supported; supported are {SUPPORTED}"))),
    };
    match settings.into_iter().next() {
        None => Ok(made),
        Some((name, value)) => Err(wrong(&format!(
            "has `{name}` {value}, which is not supported: it would not be honoured"
        ))),
    }
}

/// What an operation was called with or made with, but for what no answer depends on.
fn settings(node: &Node) -> Map<String, Value> {
    const IGNORED: [&str; 5] = ["name", "trainable", "function", "module", "validate_indices"];
    let config = node.config.iter().filter(|(name, _)| {
        // The type that Keras 2 holds the layer in, and no setting of the function.
        node.is_operation || name.as_str() != "dtype"
    });
    let all = config.chain(&node.settings);
    let kept = all.filter(|(name, value)| !IGNORED.contains(&name.as_str()) && !value.is_null());
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn number(settings: &mut Map<String, Value>, names: &[&str]) -> Option<f64> {
    names.iter().find_map(|name| settings.remove(*name)).and_then(|value| value.as_f64())
}

fn activation(function: Activation, x: Link) -> Made {
    Made::Layer(ActivationLayer::named(function).into(), vec![x])
}

/// A function of single values, or softmax, by the name that Keras or TensorFlow has for it.
fn function(name: &str, settings: &mut Map<String, Value>) -> Result<Option<Activation>, String> {
    Ok(Some(match name {
        "leaky_relu" => {
            let slope = number(settings, &["alpha", "negative_slope"]);
            Activation::LeakyRelu(slope.unwrap_or(0.2))
        }
        "relu" => {
            let slope = number(settings, &["negative_slope", "alpha"]);
            let max_value = number(settings, &["max_value"]);
            let threshold = number(settings, &["threshold"]);
            Activation::relu_of(max_value, slope.unwrap_or(0.0), threshold.unwrap_or(0.0))
        }
        "elu" => Activation::Elu(number(settings, &["alpha"]).unwrap_or(1.0)),
        "celu" => Activation::Celu(number(settings, &["alpha"]).unwrap_or(1.0)),
        "gelu" => {
            // Keras 3's operation starts with the approximate one, TensorFlow's with the exact one; both write it down.
            match settings.remove("approximate") {
                Some(Value::Bool(true)) => Activation::GeluApproximate,
                Some(Value::Bool(false)) | None => Activation::Gelu,
                Some(other) => return Err(format!("has `approximate` {other}")),
            }
        }
        "silu" | "swish" => match number(settings, &["beta"]) {
            None | Some(1.0) => Activation::Silu,
            Some(beta) => return Err(format!("has `beta` {beta}, expected 1")),
        },
        "exp" => Activation::Exponential,
        "hard_sigmoid" | "hard_silu" | "hard_swish" | "sigmoid" | "log_sigmoid" | "tanh"
        | "softplus" | "softsign" | "selu" | "relu6" | "softmax" | "log_softmax" | "mish" => {
            match Activation::by_name(name) {
                Some(function) => function,
                None => return Ok(None),
            }
        }
        _ => return Ok(None),
    }))
}

/// Softmax is over channels here.
fn last_axis(settings: &mut Map<String, Value>, shape: Shape) -> Result<(), String> {
    let last = if shape.as_map().is_some() { 3 } else { 1 };
    match settings.remove("axis").map(|axis| axis.as_i64()) {
        None => Ok(()),
        Some(Some(axis)) if axis == -1 || axis == last => Ok(()),
        Some(axis) => {
            let axis = axis.map_or("no integer".into(), |axis| axis.to_string());
            Err(format!("has the axis {axis}, expected the last one"))
        }
    }
}

/// Operations of two values, one of which may be a constant.
fn elementwise(
    node: &Node,
    word: &str,
    arguments: &[Argument],
    settings: &mut Map<String, Value>,
    shape: &dyn Fn(Link) -> Shape,
) -> Result<Made, String> {
    let wrong = |why: String| format!("{} {why}", described(node));
    if word == "bias_add" {
        match settings.remove("data_format").as_ref().and_then(Value::as_str) {
            None | Some("NHWC" | "N...C" | "channels_last") => {}
            Some(other) => return Err(wrong(format!("has `data_format` {other}"))),
        }
    }
    let word = match word {
        "add_v2" | "bias_add" => "add",
        "sub" => "subtract",
        "mul" => "multiply",
        "truediv" | "true_divide" | "realdiv" => "divide",
        other => other,
    };
    let (x, constant, is_behind) = match arguments {
        [Argument::Value(a), Argument::Value(b)] => {
            let kind = match word {
                "add" => MergeKind::Add,
                "subtract" => MergeKind::Subtract,
                "multiply" => MergeKind::Multiply,
                "maximum" => MergeKind::Maximum,
                "minimum" => MergeKind::Minimum,
                _ => {
                    return Err(wrong(
                        "divides by a value of the network, which is not supported".into(),
                    ));
                }
            };
            return Ok(Made::Layer(Merge { kind }.into(), vec![*a, *b]));
        }
        [Argument::Value(x), constant @ Argument::Constant(..)] => (*x, constant, true),
        [constant @ Argument::Constant(..), Argument::Value(x)] => (*x, constant, false),
        other => return Err(wrong(format!("has {} operands, expected 2", other.len()))),
    };
    let Argument::Constant(values, axes) = constant else {
        return Err(wrong("has no constant".into()));
    };
    let by_channel = by_channel(values, axes, shape(x));
    let Some(values) = by_channel else {
        return Err(wrong(format!(
            "has a constant of {axes:?} values beside {}, expected one number, or one for each channel",
            shape(x)
        )));
    };
    let all = |value: f64| vec![value];
    let rescaling = match (word, is_behind) {
        ("add", _) => Rescaling { scale: all(1.0), offset: values },
        ("subtract", true) => {
            Rescaling { scale: all(1.0), offset: values.iter().map(|value| -value).collect() }
        }
        ("subtract", false) => Rescaling { scale: all(-1.0), offset: values },
        ("multiply", _) => Rescaling { scale: values, offset: all(0.0) },
        ("divide", true) if !values.contains(&0.0) => {
            Rescaling { scale: values.iter().map(|value| 1.0 / value).collect(), offset: all(0.0) }
        }
        ("divide", true) => return Err(wrong("divides by 0".into())),
        ("divide", false) => {
            return Err(wrong("divides by a value of the network, which is not supported".into()));
        }
        ("maximum" | "minimum", _) => {
            let &[limit] = values.as_slice() else {
                return Err(wrong("has a limit for each channel, expected one".into()));
            };
            let most = f64::from(f32::MAX);
            return Ok(activation(
                match (word, limit) {
                    ("maximum", 0.0) => Activation::Relu,
                    ("maximum", low) => Activation::Clip { low, high: most },
                    (_, high) => Activation::Clip { low: -most, high },
                },
                x,
            ));
        }
        _ => return Err(wrong("is not supported".into())),
    };
    Ok(Made::Layer(rescaling.into(), vec![x]))
}

/// A constant as one number, or one for each channel, by NumPy's rule for values of different sizes.
fn by_channel(values: &[f64], axes: &[usize], shape: Shape) -> Option<Vec<f64>> {
    let rank = if shape.as_map().is_some() { 4 } else { 2 };
    let (last, others) = match axes.split_last() {
        None => return (values.len() == 1).then(|| values.to_vec()),
        Some(split) => split,
    };
    let fits = axes.len() <= rank
        && others.iter().all(|size| *size == 1)
        && (*last == shape.channels() || *last == 1)
        && values.len() == *last;
    fits.then(|| values.to_vec())
}

/// Means and maxima over height and width.
fn pool(
    node: &Node,
    word: &str,
    x: Link,
    rest: &[Argument],
    settings: &mut Map<String, Value>,
    shape: &dyn Fn(Link) -> Shape,
) -> Result<Made, String> {
    let wrong = |why: String| format!("{} {why}", described(node));
    let axes =
        settings.remove("axis").and_then(|axis| super::calls::numbers(&axis)).map(|(axes, _)| axes);
    let mut axes = match (axes, rest) {
        (Some(axes), []) => axes,
        (None, [Argument::Constant(axes, _)]) => axes.clone(),
        (axes, _) => axes.unwrap_or_default(),
    };
    let initial = settings.remove("initial");
    for axis in &mut axes {
        if *axis < 0.0 {
            *axis += 4.0;
        }
    }
    axes.sort_by(f64::total_cmp);
    if axes != [1.0, 2.0] || shape(x).as_map().is_none() || initial.is_some() {
        return Err(wrong(format!("is over axes {axes:?}, expected height and width, [1, 2]")));
    }
    let kind = if word.ends_with("max") { PoolKind::Max } else { PoolKind::Average };
    let keep_dims = match settings.remove("keepdims") {
        None | Some(Value::Bool(false)) => false,
        Some(Value::Bool(true)) => true,
        Some(other) => return Err(wrong(format!("has `keepdims` {other}"))),
    };
    Ok(Made::Layer(GlobalPool { kind, keep_dims }.into(), vec![x]))
}

//! A model's configuration, as Keras writes it.

use rekindle_nn::{Graph, Layer, Shape, Source};
use serde_json::{Map, Value, json};

use super::plain::Dialect;

/// The model's configuration; `input` is the name of its InputLayer.
pub(super) fn model(graph: &Graph, name: &str, input: &str, dialect: Dialect) -> Value {
    let mut layers = vec![input_layer(graph, input, dialect)];
    let order = graph.keras_order();
    layers.extend(order.iter().map(|&position| layer(graph, position, input, dialect)));
    let output = match graph.output() {
        Source::Input => input,
        Source::Layer(position) => &graph.layers()[position].name,
    };
    match dialect {
        Dialect::Keras3 => json!({
            "module": "keras.src.models.functional",
            "class_name": "Functional",
            "config": {
                "name": name,
                "trainable": true,
                "layers": layers,
                "input_layers": [input, 0, 0],
                "output_layers": [output, 0, 0],
            },
            "registered_name": "Functional",
            "build_config": { "input_shape": null },
            "compile_config": {},
        }),
        Dialect::Both => json!({
            "class_name": "Functional",
            "config": {
                "name": name,
                "trainable": true,
                "layers": layers,
                "input_layers": [[input, 0, 0]],
                "output_layers": [[output, 0, 0]],
            },
        }),
    }
}

/// Keras's shape of a batch.
fn batch(shape: Shape) -> Value {
    match shape {
        Shape::Map { height, width, channels } => json!([null, height, width, channels]),
        Shape::Flat(count) => json!([null, count]),
    }
}

fn input_layer(graph: &Graph, input: &str, dialect: Dialect) -> Value {
    let shape = batch(graph.input());
    match dialect {
        Dialect::Keras3 => json!({
            "module": "keras.layers",
            "class_name": "InputLayer",
            "config": {
                "batch_shape": shape,
                "dtype": "float32",
                "sparse": false,
                "ragged": false,
                "name": input,
                "optional": false,
            },
            "registered_name": null,
            "name": input,
            "inbound_nodes": [],
        }),
        Dialect::Both => json!({
            "class_name": "InputLayer",
            "config": {
                "batch_input_shape": shape,
                "dtype": "float32",
                "sparse": false,
                "ragged": false,
                "name": input,
            },
            "name": input,
            "inbound_nodes": [],
        }),
    }
}

fn layer(graph: &Graph, position: usize, input: &str, dialect: Dialect) -> Value {
    let Layer { name, op, inputs } = &graph.layers()[position];
    let class = op.class();
    let mut config = op.to_keras();
    if dialect == Dialect::Both {
        as_both(class, &mut config);
    }
    config.insert("name".into(), json!(name));
    // Keras 3's class takes no such setting.
    if class != "SpatialDropout2D" {
        config.insert("trainable".into(), json!(true));
    }
    let source = |source: &Source| match source {
        Source::Input => input,
        Source::Layer(position) => graph.layers()[*position].name.as_str(),
    };
    match dialect {
        Dialect::Keras3 => {
            config.insert(
                "dtype".into(),
                json!({
                    "module": "keras",
                    "class_name": "DTypePolicy",
                    "config": { "name": "float32" },
                    "registered_name": null,
                }),
            );
            let tensor = |from: &Source| {
                json!({
                    "class_name": "__keras_tensor__",
                    "config": {
                        "shape": batch(graph.shape(*from)),
                        "dtype": "float32",
                        "keras_history": [source(from), 0, 0],
                    },
                })
            };
            let tensors: Vec<Value> = inputs.iter().map(tensor).collect();
            // Layers that merge take a list, also of one.
            let is_list = inputs.len() != 1 || class == "Concatenate";
            let args = if is_list { json!([tensors]) } else { json!(tensors) };
            let mut layer = json!({
                "module": "keras.layers",
                "class_name": class,
                "config": config,
                "registered_name": null,
                "name": name,
                "inbound_nodes": [{ "args": args, "kwargs": {} }],
            });
            if let (false, [shape], Value::Object(layer)) = (
                graph.variables(position).is_empty(),
                graph.input_shapes(position).as_slice(),
                &mut layer,
            ) {
                layer.insert("build_config".into(), json!({ "input_shape": batch(*shape) }));
            }
            layer
        }
        Dialect::Both => {
            config.insert("dtype".into(), json!("float32"));
            let tensors: Vec<Value> =
                inputs.iter().map(|from| json!([source(from), 0, 0, {}])).collect();
            json!({
                "class_name": class,
                "config": config,
                "name": name,
                "inbound_nodes": [tensors],
            })
        }
    }
}

/// Settings in the words that Keras 2 and Keras 3 have in common.
fn as_both(class: &str, config: &mut Map<String, Value>) {
    if class == "LeakyReLU"
        && let Some(slope) = config.remove("negative_slope")
    {
        config.insert("alpha".into(), slope);
    }
    // What is left out is as Keras 3 has it where nobody says otherwise.
    let new: &[&str] = match class {
        "Resizing" => {
            &["pad_to_aspect_ratio", "fill_mode", "fill_value", "antialias", "data_format"]
        }
        "CenterCrop" => &["data_format"],
        _ => &[],
    };
    for setting in new {
        config.remove(*setting);
    }
    // Keras 2's name of silu.
    if let Some(activation) = config.get_mut("activation")
        && *activation == "silu"
    {
        *activation = json!("swish");
    }
}

//! Names of layers, made of those of nodes.

use std::collections::{HashMap, HashSet};

/// Names that are taken.
#[derive(Debug, Default)]
pub(super) struct Taken {
    names: HashSet<String>,
    /// The next number of a name that was wanted again.
    next: HashMap<String, usize>,
}

/// What exporters call the operation at the end of a name, or a wrapper at its start; not a layer's own name.
const OPERATIONS: &str = "\
    Conv2D Conv convolution depthwise BiasAdd MatMul Gemm Tensordot Relu Relu6 Clip Softmax \
    Sigmoid Tanh Elu Selu LeakyRelu PRelu Softplus FusedBatchNormV3 FusedBatchNorm \
    BatchNormalization batchnorm MaxPool AvgPool MaxPool2d AvgPool2D AveragePool GlobalAveragePool \
    GlobalMaxPool Mean Max Pad Concat concat Add add AddV2 Mul mul mul_1 add_1 Sub sub Flatten \
    Reshape Squeeze Transpose Dropout Identity ReduceMean HardSigmoid HardSwish Resize Cast \
    ReadVariableOp ReadVariableOp_1 merged_input weight bias const_fold_opt";

/// The name of a node's layer, which no other layer has: of `StatefulPartitionedCall/model/Conv1/Conv2D` it is `Conv1`,
/// of PyTorch's `/features/features.0/features.0.0/Conv` it is `features_0_0`.
///
/// Where that says nothing but the operator, the name of the layer's weights may.
pub(super) fn of_node(node: &str, weights: Option<&str>, op: &str, taken: &mut Taken) -> String {
    let found = layer(node, op).or_else(|| layer(weights?, op));
    let name = found.unwrap_or_else(|| plain(node).rsplit('/').next().unwrap_or(op));
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let name: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).take(100).collect();
    let name = if name.trim_matches('_').is_empty() { op.to_lowercase() } else { name };
    unique(name, op, taken)
}

/// The layer that a node says it belongs to, if it does: exporters give an activation the name of the layer that it ends.
pub(super) fn scope(node: &str, op: &str) -> Option<String> {
    let (path, _) = plain(node).rsplit_once('/').unwrap_or_default();
    layer(node, op).map(|own| match plain(node).ends_with(own) {
        // A node that is called as its layer.
        true => plain(node).to_owned(),
        false => path.to_owned(),
    })
}

/// tf2onnx numbers what it makes: `NAME__123`, and values of TensorFlow end in `:0`.
fn plain(name: &str) -> &str {
    let name = name.split(':').next().unwrap_or_default();
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let numbered = name.rsplit_once("__").filter(|(_, number)| is_number(number));
    let name = numbered.map_or(name, |(name, _)| name);
    name.strip_suffix(".weight").unwrap_or(name)
}

/// The layer in a name, if there is one.
fn layer<'a>(name: &'a str, op: &str) -> Option<&'a str> {
    let parts: Vec<&str> = plain(name).split('/').filter(|part| !part.is_empty()).collect();
    let is_operation = |part: &str| {
        // Operations of one scope are numbered: `Conv_1`, but a layer may be called `conv_1`.
        let stem = part.rsplit_once('_').filter(|(_, n)| n.bytes().all(|b| b.is_ascii_digit()));
        OPERATIONS.split(' ').any(|known| known == part)
            || part == op
            || stem.is_some_and(|(stem, _)| stem == op && parts.len() > 1)
    };
    parts.iter().rev().find(|part| !is_operation(part)).copied()
}

/// The name, or where it is taken one with the operation behind it, or with a number.
fn unique(name: String, op: &str, taken: &mut Taken) -> String {
    if taken.names.insert(name.clone()) {
        return name;
    }
    let op: String = op.chars().filter(char::is_ascii_alphanumeric).take(40).collect();
    let with_op = format!("{name}_{}", op.to_lowercase());
    if taken.names.insert(with_op.clone()) {
        return with_op;
    }
    let next = taken.next.entry(with_op.clone()).or_insert(0);
    loop {
        *next += 1;
        let numbered = format!("{with_op}_{next}");
        if taken.names.insert(numbered.clone()) {
            return numbered;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Taken, of_node};

    #[test]
    fn names_are_the_layers_own() {
        let mut taken = Taken::default();
        let mut name = |node: &str, op: &str| of_node(node, None, op, &mut taken);
        assert_eq!(name("StatefulPartitionedCall/model/Conv1/Conv2D", "Conv"), "Conv1");
        assert_eq!(name("sequential/mobilenetv2_0.35_32/Conv1_relu/Relu6", "Clip"), "Conv1_relu");
        assert_eq!(name("/features/features.0/features.0.0/Conv", "Conv"), "features_0_0");
        assert_eq!(name("Conv_0", "Conv"), "Conv_0");
        assert_eq!(name("Conv__1841", "Conv"), "Conv");
        assert_eq!(name("", "Relu"), "relu");
        assert_eq!(name("model/Conv1/BiasAdd", "Add"), "Conv1_add");
        assert_eq!(name("model/Conv1/BiasAdd", "Add"), "Conv1_add_1");
        assert_eq!(name("\u{20ac}", "Relu"), "relu_relu");
        let weights = Some("model/Conv2_1/convolution/merged_input:0");
        assert_eq!(of_node("Conv__7", weights, "Conv", &mut taken), "Conv2_1");
        let weights = Some("classifier.1.weight");
        assert_eq!(of_node("Gemm", weights, "Gemm", &mut taken), "classifier_1");
    }
}

//! Which operator is read by what.

use super::constant::Binary;
use super::node::Node;
use super::pointwise::Merged;
use super::read::{Known, Reader};

impl Reader<'_> {
    /// What a node makes.
    pub fn node(&mut self, node: &Node) -> Result<Known, String> {
        if !node.domain.is_empty() && node.domain != "ai.onnx" {
            let domain = &node.domain;
            return Err(node.refused(&format!(
                "it is an operator of `{domain}`, expected ONNX's own: export the model without optimisations for one runtime"
            )));
        }
        match node.op.as_str() {
            "Conv" => self.conv(node),
            "Gemm" => self.gemm(node),
            "MatMul" => self.mat_mul(node),
            "BatchNormalization" => self.batch_normalization(node),
            "InstanceNormalization" => self.instance_normalization(node),
            "GroupNormalization" => self.group_normalization(node),
            "LayerNormalization" => self.layer_normalization(node),
            "LRN" => self.lrn(node),
            "MaxPool" | "AveragePool" => self.pool(node),
            "GlobalAveragePool" | "GlobalMaxPool" => self.global_pool(node),
            "ReduceMean" | "ReduceMax" | "ReduceSum" => self.reduce(node),
            "ReduceProd" => self.reduce_prod(node),
            "Pad" => self.pad(node),
            "Resize" | "Upsample" => self.resize(node),
            "Add" => self.binary(node, Binary::Add),
            "Sub" => self.binary(node, Binary::Subtract),
            "Mul" => self.binary(node, Binary::Multiply),
            "Div" => self.binary(node, Binary::Divide),
            "Pow" => self.binary(node, Binary::Power),
            "Sum" => self.merged(node, Merged::Sum),
            "Mean" => self.merged(node, Merged::Mean),
            "Max" => self.merged(node, Merged::Max),
            "Min" => self.merged(node, Merged::Min),
            "Neg" | "Sqrt" | "Reciprocal" | "Exp" | "Abs" => self.unary(node),
            "Relu" | "LeakyRelu" | "ThresholdedRelu" | "Elu" | "Selu" | "Celu" | "Gelu" | "Softplus" | "Softsign"
            | "Tanh" | "Sigmoid" | "HardSigmoid" | "HardSwish" | "Swish" | "Mish" => self.activation(node),
            "Clip" => self.clip(node),
            "PRelu" => self.prelu(node),
            "Erf" => self.erf(node),
            "Softmax" | "LogSoftmax" => self.softmax(node),
            "Concat" => self.concat(node),
            "Flatten" => self.flatten(node),
            "Reshape" => self.reshape(node),
            "Squeeze" => self.squeeze(node),
            "Unsqueeze" => self.unsqueeze(node),
            "Transpose" => self.transpose(node),
            "Identity" => {
                node.only(&[], 1)?;
                self.known(node, 0)
            }
            "Dropout" => self.dropout(node),
            "Cast" => self.cast(node),
            "Constant" => self.constant_node(node),
            "ConstantOfShape" => self.constant_of_shape(node),
            "Shape" => self.shape(node),
            "Gather" => self.gather(node),
            "Slice" => self.slice(node),
            "Floor" | "Ceil" => self.rounded(node),
            "If" | "Loop" | "Scan" => Err(node.refused(
                "control flow is not supported: export the model for inference, with `torch.onnx.export(model.eval(), ...)` or tf2onnx",
            )),
            _ => Err(node.refused(
                "this operator is not supported; docs/reliability.md lists those that are",
            )),
        }
    }
}

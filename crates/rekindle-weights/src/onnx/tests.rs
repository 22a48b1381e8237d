//! Small graphs, operator by operator.

use std::path::Path;

use rekindle_nn::ops::{Conv2d, DepthwiseConv2d, GlobalPool, Pool2d, PoolKind, Rescaling};
use rekindle_nn::{Activation, Op, Padding, Shape};

use super::proto::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use super::{FileTensors, Found, parsed, read};

/// A model that is being written.
struct Written {
    graph: GraphProto,
    opset: i64,
}

/// What can stand in an attribute.
enum Attribute<'a> {
    Int(i64),
    Float(f32),
    Ints(&'a [i64]),
    Text(&'static str),
}
use Attribute::{Float, Int, Ints, Text};

impl Written {
    /// For an input `x` of these extents; 0 is open.
    fn new(extents: &[i64]) -> Self {
        let dim = extents
            .iter()
            .map(|&dim_value| DimensionProto { dim_value, ..Default::default() })
            .collect();
        let tensor = TensorTypeProto { elem_type: 1, shape: Some(TensorShapeProto { dim }) };
        let kind = Some(TypeProto { tensor_type: Some(tensor) });
        let input = vec![ValueInfoProto { name: "x".into(), r#type: kind }];
        let output = vec![ValueInfoProto { name: "y".into(), r#type: None }];
        let graph = GraphProto { input, output, ..GraphProto::default() };
        Self { graph, opset: 17 }
    }

    fn opset(self, opset: i64) -> Self {
        Self { opset, ..self }
    }

    fn floats(mut self, name: &str, dims: &[i64], values: &[f32]) -> Self {
        let float_data = values.to_vec();
        let tensor =
            TensorProto { dims: dims.to_vec(), data_type: 1, float_data, ..Default::default() };
        self.graph.initializer.push(TensorProto { name: name.into(), ..tensor });
        self
    }

    /// Values that count up.
    fn counted(self, name: &str, dims: &[i64]) -> Self {
        let count: i64 = dims.iter().product();
        let values: Vec<f32> = (0..count).map(|value| value as f32).collect();
        self.floats(name, dims, &values)
    }

    fn ints(mut self, name: &str, values: &[i64]) -> Self {
        let int64_data = values.to_vec();
        let dims = vec![values.len() as i64];
        let tensor = TensorProto { dims, data_type: 7, int64_data, ..Default::default() };
        self.graph.initializer.push(TensorProto { name: name.into(), ..tensor });
        self
    }

    /// `a b` are inputs, `c` the output.
    fn node(
        mut self,
        op: &str,
        inputs: &str,
        output: &str,
        attributes: &[(&str, Attribute)],
    ) -> Self {
        let attribute = attributes.iter().map(|(name, value)| {
            let plain = AttributeProto { name: (*name).into(), ..Default::default() };
            match value {
                Float(f) => AttributeProto { f: *f, r#type: 1, ..plain },
                Int(i) => AttributeProto { i: *i, r#type: 2, ..plain },
                Text(s) => AttributeProto { s: s.as_bytes().into(), r#type: 3, ..plain },
                Ints(ints) => AttributeProto { ints: ints.to_vec(), r#type: 7, ..plain },
            }
        });
        self.graph.node.push(NodeProto {
            input: inputs
                .split(' ')
                .map(|name| if name == "-" { String::new() } else { name.into() })
                .collect(),
            output: vec![output.into()],
            name: format!("the_{}", op.to_lowercase()),
            op_type: op.into(),
            attribute: attribute.collect(),
            domain: String::new(),
        });
        self
    }

    fn read(self) -> Result<Found, String> {
        self.values().map(|(found, _)| found)
    }

    /// The network, and the values of all variables.
    fn values(self) -> Result<(Found, Vec<Vec<f32>>), String> {
        let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: self.opset }];
        let model = ModelProto { graph: Some(self.graph), opset_import, ..Default::default() };
        let (graph, _) = parsed(Path::new("model.onnx"), model)?;
        let found = read(&graph, None)?;
        let mut reader = FileTensors(graph.weights.clone());
        let values = found.values.iter().flatten().map(|constant| constant.read(&mut reader));
        let values = values.collect::<Result<_, _>>()?;
        Ok((found, values))
    }

    fn ops(self) -> Vec<Op> {
        let found = self.read().expect("reads");
        found.graph.layers().iter().map(|layer| layer.op.clone()).collect()
    }

    fn error(self) -> String {
        self.read().expect_err("an error")
    }
}

fn conv(attributes: &[(&str, Attribute)]) -> Written {
    Written::new(&[0, 3, 8, 8]).counted("w", &[4, 3, 3, 3]).node("Conv", "x w", "y", attributes)
}

fn padding(attributes: &[(&str, Attribute)]) -> Padding {
    match conv(attributes).ops().as_slice() {
        [Op::Conv2d(conv)] => conv.window.padding,
        other => panic!("{other:?}"),
    }
}

#[test]
fn pads_are_honoured() {
    assert_eq!(padding(&[]), Padding::Valid);
    assert_eq!(padding(&[("pads", Ints(&[0, 0, 0, 0]))]), Padding::Valid);
    assert_eq!(padding(&[("pads", Ints(&[1, 1, 1, 1]))]), Padding::Same);
    let two = Ints(&[2, 2]);
    let even = padding(&[("pads", Ints(&[1, 1, 1, 1])), ("strides", two)]);
    assert_eq!(even, Padding::Explicit([[1, 1], [1, 1]]));
    let two = Ints(&[2, 2]);
    assert_eq!(padding(&[("auto_pad", Text("SAME_UPPER")), ("strides", two)]), Padding::Same);
    let two = Ints(&[2, 2]);
    let lower = padding(&[("auto_pad", Text("SAME_LOWER")), ("strides", two)]);
    assert_eq!(lower, Padding::Explicit([[1, 0], [1, 0]]));
    assert_eq!(padding(&[("pads", Ints(&[0, 1, 2, 3]))]), Padding::Explicit([[0, 2], [1, 3]]));
}

#[test]
fn what_is_not_known_is_an_error_with_a_name() {
    let error = conv(&[("surprise", Int(1))]).error();
    assert!(error.contains("node `the_conv` (Conv): attribute `surprise` is 1"), "{error}");
    let error = conv(&[("pads", Ints(&[-1, 0, 0, 0]))]).error();
    assert!(error.contains("`pads` is [-1, 0, 0, 0], expected four integers from 0"), "{error}");
    assert!(conv(&[("strides", Ints(&[0, 1]))]).error().contains("two integers from 1"));
    assert!(conv(&[("pads", Ints(&[1 << 40, 0, 0, 0]))]).error().contains("`pads`"));
    let error = conv(&[("pads", Ints(&[1 << 20; 4]))]).error();
    assert!(error.contains("node `the_conv` (Conv)"), "{error}");
    assert!(conv(&[("group", Int(3))]).error().contains("`group`"));
    assert!(conv(&[("dilations", Ints(&[9, 9]))]).error().contains("at least 19 x 19 pixels"));
    let error = Written::new(&[0, 3, 8, 8]).node("Foo", "x", "y", &[]).error();
    assert!(error.contains("node `the_foo` (Foo): this operator is not supported"), "{error}");
    let error = Written::new(&[0, 3, 8, 8]).node("QuantizeLinear", "x", "y", &[]).error();
    assert!(error.contains("quantised"), "{error}");
    assert!(Written::new(&[0, 3, 8, 8]).node("If", "x", "y", &[]).error().contains("control flow"));
    assert!(
        Written::new(&[0, 3, 8, 8])
            .node("Relu", "x", "y", &[])
            .opset(5)
            .error()
            .contains("opset 5")
    );
    assert!(Written::new(&[0, 3, 0, 0]).node("Relu", "x", "y", &[]).error().contains("any size"));
    let cyclic =
        Written::new(&[0, 3, 8, 8]).node("Relu", "y", "z", &[]).node("Relu", "z", "y", &[]);
    assert!(cyclic.error().contains("made of itself"));
    let giant = Written::new(&[0, 3, 8, 8]).floats("w", &[0, 4_000_000_000, 3, 3], &[]);
    assert!(giant.node("Conv", "x w", "y", &[]).error().contains("extents from 1"));
    let giant = Written::new(&[0, 3, 8, 8]).floats("w", &[1 << 62, 1 << 62], &[]);
    assert!(giant.node("MatMul", "x w", "y", &[]).error().contains("more than a file can hold"));
    let many = Written::new(&[0, 3, 8, 8]).ints("s", &[1 << 30, 1 << 10]);
    let many = many.node("ConstantOfShape", "s", "w", &[]).node("Add", "x w", "y", &[]);
    assert!(many.error().contains("more than any network has"));
    let live = Written::new(&[0, 3, 8, 8]).counted("a", &[3]);
    let live = live.node("BatchNormalization", "x a a a a", "y", &[("training_mode", Int(1))]);
    assert!(live.error().contains("`training_mode` is 1"));
    // Sums of sums: sixty of them would be read for ever.
    let mut sums = Written::new(&[0, 3, 8, 8]).counted("c0", &[3, 1, 1]);
    for step in 0..63 {
        sums = sums.node("Add", &format!("c{step} c{step}"), &format!("c{}", step + 1), &[]);
    }
    assert!(sums.node("Add", "x c63", "y", &[]).error().contains("more steps"));
}

#[test]
fn kernels_are_moved_to_keras_s_layout() {
    let (_, values) = conv(&[]).values().expect("reads");
    // [out 4, in 3, 3, 3]: the second value of Keras's [3, 3, 3, 4] is of the second output.
    assert_eq!(values[0][..5], [0.0, 27.0, 54.0, 81.0, 9.0]);
    let depthwise =
        Written::new(&[0, 2, 4, 4]).counted("w", &[4, 1, 1, 2]).floats("b", &[4], &[1.0; 4]);
    let depthwise = depthwise.node("Conv", "x w b", "y", &[("group", Int(2))]);
    let (found, values) = depthwise.values().expect("reads");
    let Op::DepthwiseConv2d(DepthwiseConv2d { depth_multiplier: 2, bias: true, .. }) =
        found.graph.layers()[0].op
    else {
        panic!("{:?}", found.graph.layers());
    };
    // [height 1, width 2, channels 2, multiplier 2].
    assert_eq!(values[0], [0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0]);
    let grouped = Written::new(&[0, 4, 4, 4]).counted("w", &[4, 2, 1, 1]);
    let grouped = grouped.node("Conv", "x w", "y", &[("group", Int(2))]).ops();
    assert!(
        matches!(grouped[..], [Op::Conv2d(Conv2d { groups: 2, filters: 4, .. })]),
        "{grouped:?}"
    );
}

#[test]
fn flattened_channels_first_are_the_same_features() {
    // Two channels of 1 x 2 pixels: c0p0 c0p1 c1p0 c1p1 in the file, c0p0 c1p0 c0p1 c1p1 here.
    let dense = Written::new(&[0, 2, 1, 2])
        .floats("w", &[1, 4], &[1.0, 2.0, 3.0, 4.0])
        .floats("b", &[1], &[5.0])
        .node("Flatten", "x", "f", &[])
        .node(
            "Gemm",
            "f w b",
            "y",
            &[("transB", Int(1)), ("alpha", Float(2.0)), ("beta", Float(3.0))],
        );
    let (found, values) = dense.values().expect("reads");
    assert_eq!(values, [vec![2.0, 6.0, 4.0, 8.0], vec![15.0]]);
    let ops: Vec<&str> = found.graph.layers().iter().map(|layer| layer.op.class()).collect();
    assert_eq!(ops, ["Flatten", "Dense"]);
    // Features for their own sake are in the file's order.
    let flat = Written::new(&[0, 2, 3, 2]).node("Flatten", "x", "y", &[]).ops();
    let classes: Vec<&str> = flat.iter().map(Op::class).collect();
    assert_eq!(classes, ["Reshape", "Permute", "Flatten"]);
}

#[test]
fn transposes_are_nothing() {
    let pair = Written::new(&[0, 8, 8, 3])
        .counted("w", &[4, 3, 3, 3])
        .node("Transpose", "x", "a", &[("perm", Ints(&[0, 3, 1, 2]))])
        .node("Conv", "a w", "b", &[])
        .node("Transpose", "b", "c", &[("perm", Ints(&[0, 2, 3, 1]))])
        .ints("axes", &[1, 2])
        .node("ReduceMean", "c", "y", &[("axes", Ints(&[1, 2])), ("keepdims", Int(0))]);
    let found = pair.read().expect("reads");
    assert_eq!(found.graph.input(), Shape::map(8, 8, 3));
    let classes: Vec<&str> = found.graph.layers().iter().map(|layer| layer.op.class()).collect();
    assert_eq!(classes, ["Conv2D", "GlobalAveragePooling2D"]);
    assert_eq!(found.graph.output_shape(), Shape::Flat(4));
}

#[test]
fn shapes_are_computed() {
    let flatten = Written::new(&[0, 3, 2, 2])
        .ints("zero", &[0])
        .ints("one", &[1])
        .ints("rest", &[-1])
        .counted("w", &[12, 5])
        .counted("b", &[5])
        .node("Shape", "x", "s", &[])
        .node("Slice", "s zero one zero", "n", &[])
        .node("Concat", "n rest", "t", &[("axis", Int(0))])
        .node("Reshape", "x t", "f", &[])
        .node("MatMul", "f w", "m", &[])
        .node("Add", "m b", "z", &[])
        .node("Softmax", "z", "y", &[]);
    let found = flatten.read().expect("reads");
    let classes: Vec<&str> = found.graph.layers().iter().map(|layer| layer.op.class()).collect();
    assert_eq!(classes, ["Flatten", "Dense", "Activation"]);
    assert_eq!(found.graph.classes(), Some(5));
}

#[test]
fn normalizations_taken_apart_are_put_together() {
    let folded = Written::new(&[0, 3, 4, 4])
        .floats("w", &[2, 3, 1, 1], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        .floats("scale", &[1, 2, 1, 1], &[10.0, 100.0])
        .floats("shift", &[2, 1, 1], &[7.0, 8.0])
        .node("Conv", "x w", "a", &[])
        .node("Mul", "a scale", "b", &[])
        .node("Add", "b shift", "y", &[]);
    let (found, values) = folded.values().expect("reads");
    assert!(matches!(found.graph.layers()[0].op, Op::Conv2d(Conv2d { bias: true, .. })));
    assert_eq!(found.graph.layers().len(), 1);
    assert_eq!(values, [vec![10.0, 400.0, 20.0, 500.0, 30.0, 600.0], vec![7.0, 8.0]]);
    let front = Written::new(&[0, 4, 4, 3])
        .floats("c", &[], &[127.5])
        .floats("one", &[1], &[1.0])
        .node("Div", "x c", "a", &[])
        .node("Sub", "a one", "y", &[])
        .ops();
    assert_eq!(front, [Op::from(Rescaling::new(1.0 / 127.5, -1.0))]);
    let reversed =
        Written::new(&[0, 4, 4, 3]).floats("c", &[], &[1.0]).node("Sub", "c x", "y", &[]);
    assert_eq!(reversed.ops(), [Op::from(Rescaling::new(-1.0, 1.0))]);
}

fn function(op: &str, attributes: &[(&str, Attribute)]) -> Activation {
    match Written::new(&[0, 3, 4, 4]).opset(20).node(op, "x", "y", attributes).ops().as_slice() {
        [Op::Activation(layer)] => layer.function,
        other => panic!("{op}: {other:?}"),
    }
}

#[test]
fn activations_keep_their_settings() {
    assert_eq!(function("Relu", &[]), Activation::Relu);
    assert_eq!(function("LeakyRelu", &[("alpha", Float(0.3))]), Activation::LeakyRelu(0.3));
    assert_eq!(function("LeakyRelu", &[]), Activation::LeakyRelu(0.01));
    assert_eq!(function("Elu", &[]), Activation::Elu(1.0));
    assert_eq!(function("Selu", &[]), Activation::Selu);
    assert_eq!(function("Gelu", &[("approximate", Text("tanh"))]), Activation::GeluApproximate);
    let hard = Activation::HardSigmoidOf { slope: 0.2, offset: 0.5 };
    assert_eq!(function("HardSigmoid", &[]), hard);
    assert_eq!(function("HardSigmoid", &[("alpha", Float(1.0 / 6.0))]), Activation::HardSigmoid);
    assert_eq!(function("HardSwish", &[]), Activation::HardSilu);
    let clip = |low: f32, high: f32| {
        let clip =
            Written::new(&[0, 3, 4, 4]).floats("low", &[], &[low]).floats("high", &[], &[high]);
        clip.node("Clip", "x low high", "y", &[]).ops()
    };
    let of = |ops: Vec<Op>| ops[0].activation();
    assert_eq!(of(clip(0.0, 6.0)), Activation::Relu6);
    assert_eq!(of(clip(-1.0, 6.0)), Activation::Clip { low: -1.0, high: 6.0 });
    let old = Written::new(&[0, 3, 4, 4]).opset(7);
    let old = old.node("Clip", "x", "y", &[("min", Float(0.0)), ("max", Float(4.0))]).ops();
    assert_eq!(of(old), Activation::relu_of(Some(4.0), 0.0, 0.0));
    let swish =
        Written::new(&[0, 3, 4, 4]).node("Sigmoid", "x", "s", &[]).node("Mul", "x s", "y", &[]);
    assert_eq!(of(swish.ops()), Activation::Silu);
    let gelu = Written::new(&[0, 3, 4, 4])
        .floats("root", &[], &[std::f32::consts::SQRT_2])
        .floats("one", &[], &[1.0])
        .floats("half", &[], &[0.5])
        .node("Div", "x root", "a", &[])
        .node("Erf", "a", "b", &[])
        .node("Add", "b one", "c", &[])
        .node("Mul", "x c", "d", &[])
        .node("Mul", "d half", "y", &[]);
    assert_eq!(of(gelu.ops()), Activation::Gelu);
}

#[test]
fn softmax_is_over_channels() {
    let softmax = |opset: i64, axis: i64| {
        Written::new(&[0, 3, 4, 4]).opset(opset).node("Softmax", "x", "y", &[("axis", Int(axis))])
    };
    assert_eq!(softmax(13, 1).ops()[0].activation(), Activation::Softmax);
    assert!(softmax(13, 3).error().contains("that of channels"));
    // Before opset 13 it is over all axes from this one on.
    let ops = softmax(11, 1).ops();
    let classes: Vec<&str> = ops.iter().map(Op::class).collect();
    assert_eq!(classes, ["Flatten", "Activation", "Reshape"]);
    assert!(softmax(11, 2).error().contains("that of channels"));
}

#[test]
fn pools_keep_their_settings() {
    let pool = |op: &str, attributes: &[(&str, Attribute)]| {
        let kernel = [("kernel_shape", Ints(&[3, 3]))].into_iter();
        let all: Vec<(&str, Attribute)> = kernel
            .chain(attributes.iter().map(|(name, value)| {
                let value = match value {
                    Int(i) => Int(*i),
                    Float(f) => Float(*f),
                    Ints(ints) => Ints(ints),
                    Text(text) => Text(text),
                };
                (*name, value)
            }))
            .collect();
        Written::new(&[0, 2, 8, 8]).node(op, "x", "y", &all)
    };
    let two = || ("strides", Ints(&[2, 2]));
    let ceil = pool("MaxPool", &[two(), ("ceil_mode", Int(1))]).ops();
    let Op::Pool2d(Pool2d { kind: PoolKind::Max, window, .. }) = &ceil[0] else {
        panic!("{ceil:?}")
    };
    assert_eq!(window.padding, Padding::Explicit([[0, 1], [0, 1]]));
    let one = || ("pads", Ints(&[1, 1, 1, 1]));
    let counts = pool("AveragePool", &[one(), ("count_include_pad", Int(1))]).ops();
    assert!(matches!(&counts[..], [Op::Pool2d(Pool2d { counts_padding: true, .. })]), "{counts:?}");
    let plain = pool("AveragePool", &[one()]).ops();
    assert!(matches!(&plain[..], [Op::Pool2d(Pool2d { counts_padding: false, .. })]), "{plain:?}");
    // What ceil_mode reaches behind the padding does not count.
    let both =
        pool("AveragePool", &[one(), two(), ("count_include_pad", Int(1)), ("ceil_mode", Int(1))])
            .ops();
    let classes: Vec<&str> = both.iter().map(Op::class).collect();
    assert_eq!(classes, ["ZeroPadding2D", "AveragePooling2D"]);
    assert!(pool("MaxPool", &[("storage_order", Int(0))]).read().is_ok());
    assert!(pool("AveragePool", &[("dilations", Ints(&[2, 2]))]).error().contains("dilations"));
    let global = Written::new(&[0, 2, 8, 8]).node("GlobalMaxPool", "x", "a", &[]).node(
        "Flatten",
        "a",
        "y",
        &[],
    );
    assert_eq!(global.ops(), [Op::from(GlobalPool::max())]);
}

#[test]
fn squeeze_and_excite_stretches_over_maps() {
    let block = Written::new(&[0, 4, 8, 8])
        .counted("w", &[4, 4, 1, 1])
        .node("GlobalAveragePool", "x", "a", &[])
        .node("Conv", "a w", "b", &[])
        .node("Sigmoid", "b", "c", &[])
        .node("Mul", "x c", "y", &[]);
    let found = block.read().expect("reads");
    let classes: Vec<&str> = found.graph.layers().iter().map(|layer| layer.op.class()).collect();
    assert_eq!(classes, ["GlobalAveragePooling2D", "Conv2D", "Activation", "Multiply"]);
    assert_eq!(found.graph.output_shape(), Shape::map(8, 8, 4));
    // A vector beside maps stretches over width in ONNX.
    let wrong = Written::new(&[0, 4, 8, 8]).node("GlobalAveragePool", "x", "a", &[]).node(
        "Flatten",
        "a",
        "b",
        &[],
    );
    assert!(wrong.node("Mul", "x b", "y", &[]).error().contains("do not fit"));
}

#[test]
fn channels_are_shuffled() {
    let shuffle = Written::new(&[0, 6, 4, 4])
        .ints("split", &[0, 2, 3, 4, 4])
        .ints("back", &[0, 6, 4, 4])
        .counted("w", &[1, 6, 1, 1])
        .node("Reshape", "x split", "a", &[])
        .node("Transpose", "a", "b", &[("perm", Ints(&[0, 2, 1, 3, 4]))])
        .node("Reshape", "b back", "c", &[])
        .node("Conv", "c w", "y", &[]);
    let ops = shuffle.ops();
    let classes: Vec<&str> = ops.iter().map(Op::class).collect();
    assert_eq!(classes, ["Reshape", "Permute", "Reshape", "Conv2D"]);
}

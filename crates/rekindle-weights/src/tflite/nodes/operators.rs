//! Which operator is which node.

use super::super::patterns::Normalized;
use super::{Attribute, Attributes, Nodes, ints, kind_name};
use crate::export::OWN_INTEGERS;
use crate::tflite::CARD;
use crate::tflite::file::{FLOAT16, FLOAT32, INT8, INT32, INT64};

/// Less is what stands for no number at all.
const LOWEST: f32 = -1e38;

impl Nodes<'_> {
    /// Writes the nodes of an operator.
    pub(super) fn operator(&mut self, number: usize) -> Result<(), String> {
        self.at = number;
        let own = self.own();
        self.holds_floats()?;
        if let Some(found) = self.normalized() {
            return self.normalization(&found);
        }
        if let Some((op, x)) = self.function() {
            let x = self.value(x);
            let y = self.function_node(op, &[&x], Vec::new());
            return self.ends(&y);
        }
        let alpha = |alpha: f32| vec![("alpha", Attribute::Float(alpha))];
        let clip = |low: f32, high: f32| {
            vec![("min", Attribute::Float(low)), ("max", Attribute::Float(high))]
        };
        match own.name.as_str() {
            "CONV_2D" => self.conv(false),
            "DEPTHWISE_CONV_2D" => self.conv(true),
            "FULLY_CONNECTED" => self.fully_connected(),
            "ADD" => self.binary("Add", &[0, 1]),
            "SUB" => self.binary("Sub", &[0, 1]),
            "MUL" => self.binary("Mul", &[0]),
            "DIV" => self.binary("Div", &[0]),
            "MAXIMUM" => self.binary("Max", &[]),
            "MINIMUM" => self.binary("Min", &[]),
            "POW" => self.binary("Pow", &[]),
            "SQUARED_DIFFERENCE" => self.squared_difference(),
            "SQUARE" => self.square(),
            "RELU" => self.plain("Relu", Vec::new()),
            "RELU6" => self.plain("Clip", clip(0.0, 6.0)),
            "RELU_N1_TO_1" => self.plain("Clip", clip(-1.0, 1.0)),
            "RELU_0_TO_1" => self.plain("Clip", clip(0.0, 1.0)),
            "TANH" => self.plain("Tanh", Vec::new()),
            "LOGISTIC" => self.plain("Sigmoid", Vec::new()),
            "HARD_SWISH" => self.plain("HardSwish", Vec::new()),
            "ELU" => self.plain("Elu", alpha(1.0)),
            "EXP" => self.plain("Exp", Vec::new()),
            "NEG" => self.plain("Neg", Vec::new()),
            "ABS" => self.plain("Abs", Vec::new()),
            "SQRT" => self.plain("Sqrt", Vec::new()),
            "LOG_SOFTMAX" => self.plain("LogSoftmax", vec![("axis", Attribute::Int(-1))]),
            "RSQRT" => self.root(),
            "LEAKY_RELU" => {
                let slope = own.float(0);
                self.with_options(&[0], "LeakyRelu", alpha(slope))
            }
            "GELU" => {
                let kind = if own.flag(0) { "tanh" } else { "none" };
                self.with_options(&[0], "Gelu", vec![("approximate", Attribute::Text(kind))])
            }
            "SOFTMAX" => {
                let beta = own.float(0);
                if beta != 1.0 {
                    return Err(format!("`beta` is {beta}, expected 1"));
                }
                self.with_options(&[0], "Softmax", vec![("axis", Attribute::Int(-1))])
            }
            "PRELU" => self.binary("PRelu", &[]),
            "MEAN" => self.reduce("ReduceMean"),
            "SUM" => self.reduce("ReduceSum"),
            "REDUCE_MAX" => self.reduce("ReduceMax"),
            "MAX_POOL_2D" => self.pool(true),
            "AVERAGE_POOL_2D" => self.pool(false),
            "PAD" | "PADV2" => self.pad(),
            "CONCATENATION" => self.concatenation(),
            "RESIZE_BILINEAR" => self.resize(true),
            "RESIZE_NEAREST_NEIGHBOR" => self.resize(false),
            "LOCAL_RESPONSE_NORMALIZATION" => self.local_response(),
            "BATCH_TO_SPACE_ND" => self.dilated(),
            "DEQUANTIZE" => self.dequantize(),
            "SHAPE" => self.shape(),
            "RESHAPE" => self.reshape(),
            "SQUEEZE" => self.squeeze(),
            "EXPAND_DIMS" => self.expand_dims(),
            "TRANSPOSE" => self.transpose(),
            "PACK" => self.pack(),
            "GATHER" => self.gather(),
            "REDUCE_PROD" => self.reduce_prod(),
            "CAST" => self.cast(),
            "STRIDED_SLICE" => self.strided_slice(),
            "SLICE" => self.slice(),
            "MIRROR_PAD" => Err("pads with mirrored values, which is not supported: ZeroPadding2D is".into()),
            name if name.starts_with("Flex") => Err(
                "it is one of TensorFlow's operators in a TensorFlow Lite file, which is not supported: use the Keras model"
                    .into(),
            ),
            // Where it is a part of something that is known, nobody asks for it.
            _ => self.unknown(),
        }
    }

    /// Sees that an operator computes with numbers.
    fn holds_floats(&self) -> Result<(), String> {
        let own = self.own();
        let values = own.inputs.iter().flatten().chain(&own.outputs);
        for &value in values {
            let tensor = self.tensor(value);
            let is_weight = tensor.data.is_some();
            let is_number = matches!(tensor.kind, FLOAT32 | FLOAT16 | INT32 | INT64 | 6);
            let is_small = is_weight && tensor.kind == INT8 && tensor.quantization.is_some();
            if !is_number && !is_small {
                let own = if self.file.metadata(CARD).is_some() { OWN_INTEGERS } else { "" };
                return Err(format!(
                    "`{}` holds {}: the model is quantised to integers throughout, which is not supported: use the float model \
                     that it was made of{own}",
                    tensor.name,
                    kind_name(tensor.kind)
                ));
            }
        }
        Ok(())
    }

    fn with_options(
        &mut self,
        options: &[usize],
        op: &str,
        attributes: Attributes,
    ) -> Result<(), String> {
        self.only(options, 1..=1)?;
        let x = self.value(self.input(0)?);
        let y = self.function_node(op, &[&x], attributes);
        self.ends(&y)
    }

    fn plain(&mut self, op: &str, attributes: Attributes) -> Result<(), String> {
        self.with_options(&[], op, attributes)
    }

    fn binary(&mut self, op: &str, options: &[usize]) -> Result<(), String> {
        self.only(options, 2..=2)?;
        let (a, b) = (self.value(self.input(0)?), self.value(self.input(1)?));
        let fused = if options.is_empty() { 0 } else { self.own().byte(0) };
        let y = self.node(op, &[&a, &b], Vec::new());
        self.ends_with(&y, fused)
    }

    fn squared_difference(&mut self) -> Result<(), String> {
        self.only(&[], 2..=2)?;
        let (a, b) = (self.value(self.input(0)?), self.value(self.input(1)?));
        let y = self.node("Sub", &[&a, &b], Vec::new());
        let y = self.node("Mul", &[&y, &y], Vec::new());
        self.ends(&y)
    }

    fn square(&mut self) -> Result<(), String> {
        self.only(&[], 1..=1)?;
        let x = self.value(self.input(0)?);
        let y = self.node("Mul", &[&x, &x], Vec::new());
        self.ends(&y)
    }

    fn root(&mut self) -> Result<(), String> {
        self.only(&[], 1..=1)?;
        let x = self.value(self.input(0)?);
        let y = self.node("Sqrt", &[&x], Vec::new());
        let y = self.node("Reciprocal", &[&y], Vec::new());
        self.ends(&y)
    }

    /// Numbers of 16 bits or fewer that are constants: their values are numbers already.
    fn dequantize(&mut self) -> Result<(), String> {
        self.only(&[], 1..=1)?;
        let x = self.input(0)?;
        if !self.is_constant(x) {
            return Err("it makes numbers of integers that are computed: the model is quantised, which is not supported".into());
        }
        let x = self.value(x);
        self.ends(&x)
    }

    /// How a window moves, from the settings of an operator that begin alike.
    fn moves(&self, dilation: Option<[usize; 2]>) -> Result<Attributes, String> {
        let own = self.own();
        let padding = match own.byte(0) {
            0 => "SAME_UPPER",
            1 => "VALID",
            other => return Err(format!("padding {other}, expected SAME or VALID")),
        };
        let strides = [own.int(2), own.int(1)].map(i64::from);
        let mut all = vec![("auto_pad", Attribute::Text(padding)), ("strides", ints(&strides))];
        if let Some(fields) = dilation {
            let dilations = fields.map(|field| match own.option(field) {
                None => 1,
                Some(_) => i64::from(own.int(field)),
            });
            all.push(("dilations", ints(&dilations)));
        }
        Ok(all)
    }

    fn conv(&mut self, is_depthwise: bool) -> Result<(), String> {
        let options: &[usize] = &[0, 1, 2, 3, 4, 5, 6];
        self.only(options, 2..=3)?;
        let own = self.own();
        let x = self.input(0)?;
        // Its operators with a dilation are written where the last one is.
        if self.made_by(x, "SPACE_TO_BATCH_ND").is_some() {
            return self.unknown();
        }
        let (dilation, fused) = if is_depthwise { ([6, 5], 4) } else { ([5, 4], 3) };
        let moves = self.moves(Some(dilation))?;
        let fused = own.byte(fused);
        let x = self.first(&self.value(x));
        let y = self.convolved(&x, is_depthwise, moves)?;
        self.ends_with(&y, fused)
    }

    /// A convolution of maps with channels first, of the operator whose nodes are being written; maps with channels last come
    /// out.
    fn convolved(
        &mut self,
        x: &str,
        is_depthwise: bool,
        mut attributes: Attributes,
    ) -> Result<String, String> {
        let (input, kernel) = (self.input(0)?, self.input(1)?);
        let channels = self.channels(input);
        let shape = self.tensor(kernel).shape.clone();
        let &[outputs, _, _, inputs] = &shape[..] else {
            return Err(format!("its weights have the shape {shape:?}, expected four extents"));
        };
        let (groups, order) = if is_depthwise {
            let multiplier = i64::from(self.own().int(3));
            if outputs != 1 || multiplier.checked_mul(channels) != Some(i64::from(inputs)) {
                return Err(format!(
                    "its weights have the shape {shape:?} and its `depth_multiplier` is {multiplier}, expected [1, height, width, \
                     depth_multiplier * {channels}]"
                ));
            }
            (channels, [3, 0, 1, 2])
        } else {
            let inputs = i64::from(inputs);
            if inputs < 1 || channels % inputs != 0 {
                return Err(format!(
                    "its weights have the shape {shape:?} for {channels} channels"
                ));
            }
            (channels / inputs, [0, 3, 1, 2])
        };
        attributes.push(("group", Attribute::Int(groups)));
        let kernel = self.value(kernel);
        let kernel = self.node("Transpose", &[&kernel], vec![("perm", ints(&order))]);
        let bias =
            self.optional(2).filter(|&bias| !self.is_zero(bias)).map(|bias| self.value(bias));
        let inputs: Vec<&str> = [x, &kernel].into_iter().chain(bias.as_deref()).collect();
        let y = self.node("Conv", &inputs, attributes);
        Ok(self.last(&y))
    }

    /// Whether a constant is nothing but zeros: converters write a bias of zeros where there is none.
    fn is_zero(&self, tensor: usize) -> bool {
        let tensor = self.tensor(tensor);
        let bytes = tensor.data.as_ref().map(|range| self.file.part(range));
        tensor.kind == FLOAT32 && bytes.is_some_and(|bytes| bytes.iter().all(|&byte| byte == 0))
    }

    /// `SPACE_TO_BATCH_ND`, a convolution, and this: a convolution with a dilation, as the converter writes it.
    fn dilated(&mut self) -> Result<(), String> {
        self.only(&[], 3..=3)?;
        let (from, block, crops) = (self.input(0)?, self.list(1)?, self.list(2)?);
        let not_known = || {
            "it is no end of a convolution with a dilation, as which alone it is supported"
                .to_owned()
        };
        let conv = self.made_by(from, "CONV_2D").map(|conv| (conv, false));
        let conv = conv.or_else(|| Some((self.made_by(from, "DEPTHWISE_CONV_2D")?, true)));
        let (conv, is_depthwise) = conv.ok_or_else(not_known)?;
        let apart = conv.inputs.first().copied().flatten().ok_or_else(not_known)?;
        let space = self.made_by(apart, "SPACE_TO_BATCH_ND").ok_or_else(not_known)?;
        let list = |number: usize| {
            let input = space.inputs.get(number).copied().flatten();
            input.and_then(|input| self.file.integers(input)).ok_or_else(not_known)
        };
        let (own_block, pads) = (list(1)?, list(2)?);
        let x = space.inputs.first().copied().flatten().ok_or_else(not_known)?;
        let end = self.at;
        let at = self.makers.get(&from).copied().ok_or_else(not_known)?;
        // The convolution itself moves by one, over what is there.
        self.at = at;
        let (dilation, fused) = if is_depthwise { ([6, 5], 4) } else { ([5, 4], 3) };
        let is_plain =
            dilation.iter().all(|&field| conv.option(field).is_none() || conv.int(field) == 1)
                && conv.byte(0) == 1
                && [conv.int(1), conv.int(2)] == [1, 1];
        let fused = conv.byte(fused);
        let (&[top, bottom, left, right], &[above, below, before, behind]) =
            (&pads[..], &crops[..])
        else {
            return Err(not_known());
        };
        if own_block != block || block.len() != 2 || !is_plain || above != 0 || before != 0 {
            return Err(not_known());
        }
        let less = |pad: i64, crop: i64| pad.checked_sub(crop).filter(|&edge| edge >= 0);
        let (Some(bottom), Some(right)) = (less(bottom, below), less(right, behind)) else {
            return Err(not_known());
        };
        let edges = [top, left, bottom, right];
        let attributes = vec![("pads", ints(&edges)), ("dilations", ints(&block))];
        let x = self.first(&self.value(x));
        let y = self.convolved(&x, is_depthwise, attributes)?;
        self.at = end;
        self.ends_with(&y, fused)
    }

    fn fully_connected(&mut self) -> Result<(), String> {
        self.only(&[0, 1, 2, 3, 4], 2..=3)?;
        let own = self.own();
        if own.byte(1) != 0 {
            return Err(format!("its weights are in format {}, expected 0", own.byte(1)));
        }
        let (mut x, kernel) = (self.input(0)?, self.input(1)?);
        let shape = self.tensor(kernel).shape.clone();
        let &[_, inputs] = &shape[..] else {
            return Err(format!("its weights have the shape {shape:?}, expected a matrix"));
        };
        let inputs = i64::from(inputs);
        // A matrix over the last axis comes between two reshapes: the first does not matter to it.
        let output = own.outputs.first().copied();
        let readers =
            output.and_then(|output| self.readers.get(&output)).cloned().unwrap_or_default();
        let is_reshaped = !readers.is_empty()
            && readers.iter().all(|&reader| self.file.operators[reader].name == "RESHAPE")
            && !output.is_some_and(|output| self.file.outputs.contains(&output));
        let mut keeps = own.flag(2);
        if is_reshaped
            && let Some(reshape) = self.made_by(x, "RESHAPE")
            && let Some(before) = reshape.inputs.first().copied().flatten()
            && self.rank(before) > 2
            && self.channels(before) == inputs
        {
            (x, keeps) = (before, true);
        } else if is_reshaped && self.rank(x) > 2 && self.channels(x) == inputs {
            keeps = true;
        }
        let (mut value, kernel) = (self.value(x), self.value(kernel));
        let bias = self.optional(2).map(|bias| self.value(bias));
        let y = if keeps && self.rank(x) > 2 {
            let kernel = self.node("Transpose", &[&kernel], vec![("perm", ints(&[1, 0]))]);
            let y = self.node("MatMul", &[&value, &kernel], Vec::new());
            match bias {
                Some(bias) => self.node("Add", &[&y, &bias], Vec::new()),
                None => y,
            }
        } else {
            if self.rank(x) > 2 {
                value = self.node("Flatten", &[&value], Vec::new());
            }
            let all: Vec<&str> =
                [value.as_str(), &kernel].into_iter().chain(bias.as_deref()).collect();
            self.node("Gemm", &all, vec![("transB", Attribute::Int(1))])
        };
        self.ends_with(&y, own.byte(0))
    }

    fn reduce(&mut self, op: &str) -> Result<(), String> {
        self.only(&[0], 2..=2)?;
        let (x, axes) = (self.value(self.input(0)?), self.list(1)?);
        let keeps = i64::from(self.own().flag(0));
        let attributes = vec![("axes", ints(&axes)), ("keepdims", Attribute::Int(keeps))];
        let y = self.node(op, &[&x], attributes);
        self.ends(&y)
    }

    fn pool(&mut self, is_max: bool) -> Result<(), String> {
        self.only(&[0, 1, 2, 3, 4, 5], 1..=1)?;
        let own = self.own();
        let mut attributes = self.moves(None)?;
        let kernel = [own.int(4), own.int(3)].map(i64::from);
        attributes.push(("kernel_shape", ints(&kernel)));
        let mut x = self.input(0)?;
        // What is lower than any number around maps is the pool's own padding.
        if is_max
            && own.byte(0) == 1
            && let Some(pad) = self.made_by(x, "PADV2")
            && let &[Some(before), Some(pads), Some(value)] = &pad.inputs[..]
            && self.number(value).is_some_and(|value| value <= LOWEST)
            && let Some(&[0, 0, top, bottom, left, right, 0, 0]) =
                self.file.integers(pads).as_deref()
        {
            x = before;
            attributes.retain(|(name, _)| *name != "auto_pad");
            attributes.push(("pads", ints(&[top, left, bottom, right])));
        }
        let x = self.first(&self.value(x));
        let y = self.node(if is_max { "MaxPool" } else { "AveragePool" }, &[&x], attributes);
        let y = self.last(&y);
        self.ends_with(&y, own.byte(5))
    }

    fn pad(&mut self) -> Result<(), String> {
        self.only(&[], 2..=3)?;
        let (x, list) = (self.value(self.input(0)?), self.list(1)?);
        let (before, behind): (Vec<i64>, Vec<i64>) =
            list.as_chunks::<2>().0.iter().map(|&[before, behind]| (before, behind)).unzip();
        let mut attributes = vec![("pads", ints(&[before, behind].concat()))];
        if let Some(value) = self.optional(2) {
            let value = self.number(value).ok_or("its value is no single constant")?;
            // The pool behind it says what it is.
            let output = self.own().outputs.first();
            let readers = output.and_then(|output| self.readers.get(output));
            let is_pools = readers.is_some_and(|readers| {
                readers.iter().all(|&reader| self.file.operators[reader].name == "MAX_POOL_2D")
            });
            if value <= LOWEST && is_pools {
                return self.unknown();
            }
            attributes.push(("value", Attribute::Float(value)));
        }
        let y = self.node("Pad", &[&x], attributes);
        self.ends(&y)
    }

    fn concatenation(&mut self) -> Result<(), String> {
        self.only(&[0, 1], 1..=4096)?;
        let own = self.own();
        let inputs = (0..own.inputs.len()).map(|number| Ok(self.value(self.input(number)?)));
        let inputs = inputs.collect::<Result<Vec<String>, String>>()?;
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let axis = i64::from(own.int(0));
        let y = self.node("Concat", &inputs, vec![("axis", Attribute::Int(axis))]);
        self.ends_with(&y, own.byte(1))
    }

    fn resize(&mut self, is_bilinear: bool) -> Result<(), String> {
        let fields = if is_bilinear { [2, 3] } else { [0, 1] };
        self.only(&fields, 2..=2)?;
        let [corners, centers] = fields.map(|field| self.own().flag(field));
        let (x, size) = (self.value(self.input(0)?), self.list(1)?);
        let transformation = match (corners, centers) {
            (false, true) => "half_pixel",
            (true, false) => "align_corners",
            (false, false) => "asymmetric",
            (true, true) => return Err("both `align_corners` and `half_pixel_centers`".into()),
        };
        let rounding = if transformation == "asymmetric" { "floor" } else { "round_prefer_ceil" };
        let sizes = self.integers(&size);
        let attributes = vec![
            ("axes", ints(&[1, 2])),
            ("coordinate_transformation_mode", Attribute::Text(transformation)),
            ("mode", Attribute::Text(if is_bilinear { "linear" } else { "nearest" })),
            ("nearest_mode", Attribute::Text(rounding)),
        ];
        let y = self.node("Resize", &[&x, "", "", &sizes], attributes);
        self.ends(&y)
    }

    fn local_response(&mut self) -> Result<(), String> {
        self.only(&[0, 1, 2, 3], 1..=1)?;
        let own = self.own();
        let size = i64::from(own.int(0)).saturating_mul(2).saturating_add(1);
        let attributes = vec![
            ("size", Attribute::Int(size)),
            ("bias", Attribute::Float(own.float(1))),
            // ONNX's is of the mean, not of the sum.
            ("alpha", Attribute::Float(own.float(2) * size as f32)),
            ("beta", Attribute::Float(own.float(3))),
        ];
        let x = self.first(&self.value(self.input(0)?));
        let y = self.node("LRN", &[&x], attributes);
        let y = self.last(&y);
        self.ends(&y)
    }

    /// A normalization that a converter has taken apart.
    fn normalization(&mut self, found: &Normalized) -> Result<(), String> {
        let Normalized { x, axes, epsilon, gamma, beta, groups } = found;
        let epsilon = ("epsilon", Attribute::Float(*epsilon));
        let extents = self.tensor(*x).shape.clone();
        let count = |axes: &[usize]| {
            axes.iter().try_fold(1_usize, |all, &axis| {
                all.checked_mul(usize::try_from(*extents.get(axis)?).ok()?)
            })
        };
        if let Some(before) = groups {
            let channels = usize::try_from(self.channels(*before)).unwrap_or(0);
            let each = extents.last().copied().unwrap_or(1).max(1);
            let parts =
                [*gamma, *beta].into_iter().zip([1.0, 0.0]).map(|(part, default)| match part {
                    Some(part) => {
                        let (part, shape) = (self.value(part), self.integers(&[-1]));
                        Ok(self.node("Reshape", &[&part, &shape], Vec::new()))
                    }
                    None => self.full(default, channels),
                });
            let parts = parts.collect::<Result<Vec<String>, String>>()?;
            let is_map = self.rank(*before) == 4;
            let mut y = self.value(*before);
            if is_map {
                y = self.first(&y);
            }
            let number = Attribute::Int(channels as i64 / i64::from(each));
            let y = self.node(
                "GroupNormalization",
                &[&y, &parts[0], &parts[1]],
                vec![epsilon, ("num_groups", number)],
            );
            let y = if is_map { self.last(&y) } else { y };
            let shape: Vec<i64> =
                [-1].into_iter().chain(extents[1..].iter().map(|&size| i64::from(size))).collect();
            let shape = self.integers(&shape);
            let y = self.node("Reshape", &[&y, &shape], Vec::new());
            return self.ends(&y);
        }
        let value = self.value(*x);
        let gamma = match gamma {
            Some(gamma) => self.value(*gamma),
            None => self.full(1.0, count(axes).unwrap_or(usize::MAX))?,
        };
        let beta = beta.map(|beta| self.value(beta));
        let inputs: Vec<&str> =
            [value.as_str(), &gamma].into_iter().chain(beta.as_deref()).collect();
        let axis = Attribute::Int(-(axes.len() as i64));
        let y = self.node("LayerNormalization", &inputs, vec![("axis", axis), epsilon]);
        self.ends(&y)
    }
}

//! Activations, and other functions of single values.

use rekindle_nn::ops::{ActivationLayer, Prelu, Rescaling};
use rekindle_nn::{Activation, Op, SELU, Shape};

use super::constant::{Binary, Unary};
use super::data::{Data, Tag, joined, places};
use super::node::{Node, exact};
use super::read::{Erf, Known, Reader};
use super::shaping::axis;

impl Reader<'_> {
    /// An operator without settings on a constant, or on a value where we have it.
    pub fn unary(&mut self, node: &Node) -> Result<Known, String> {
        node.only(&[], 1)?;
        let function = match node.op.as_str() {
            "Neg" => Unary::Negative,
            "Sqrt" => Unary::Root,
            "Reciprocal" => Unary::Reciprocal,
            "Exp" => Unary::Exponential,
            _ => Unary::Absolute,
        };
        match (self.known(node, 0)?, function) {
            (Known::Data(data), Unary::Negative) => {
                self.over(node, Rescaling::new(-1.0, 0.0), &data, Vec::new())
            }
            (Known::Data(data), Unary::Exponential) => {
                self.over(node, ActivationLayer::named(Activation::Exponential), &data, Vec::new())
            }
            (Known::Constant(constant), function) => Ok(Known::Constant(
                constant.unary(function).map_err(|reason| node.refused(&reason))?,
            )),
            (Known::Data(_) | Known::Integers(_) | Known::Erf(_), _) => {
                Err(node.refused("this operator is supported between constants only"))
            }
        }
    }

    pub fn activation(&mut self, node: &Node) -> Result<Known, String> {
        let function = self.function(node)?;
        let data = self.data(node, 0)?;
        let (function, scale) = match (node.op.as_str(), function) {
            // Other constants than SELU's: an ELU times a number.
            ("Selu", Activation::Elu(alpha)) => (Activation::Elu(alpha), node.float("gamma")?),
            (_, function) => (function, None),
        };
        let layer = match function {
            Activation::LeakyRelu(_) | Activation::Elu(_) | Activation::ReluOf { .. } => {
                ActivationLayer::layer(function)
            }
            function => ActivationLayer::named(function),
        };
        match (self.over(node, layer, &data, Vec::new())?, scale) {
            (Known::Data(data), Some(scale)) => {
                self.over(node, Rescaling::new(scale, 0.0), &data, Vec::new())
            }
            (known, _) => Ok(known),
        }
    }

    fn function(&self, node: &Node) -> Result<Activation, String> {
        let only = |known: &[&str]| node.only(&[known, &["consumed_inputs"]].concat(), 1);
        let alpha = |default: f64| Ok::<_, String>(node.float("alpha")?.unwrap_or(default));
        Ok(match node.op.as_str() {
            "LeakyRelu" => {
                only(&["alpha"])?;
                Activation::LeakyRelu(alpha(0.01)?)
            }
            "ThresholdedRelu" => {
                only(&["alpha"])?;
                Activation::relu_of(None, 0.0, alpha(1.0)?)
            }
            "Elu" => {
                only(&["alpha"])?;
                Activation::Elu(alpha(1.0)?)
            }
            "Celu" => {
                only(&["alpha"])?;
                match alpha(1.0)? {
                    0.0 => return Err(node.wrong("alpha", 0.0, "another number")),
                    alpha => Activation::Celu(alpha),
                }
            }
            "Selu" => {
                only(&["alpha", "gamma"])?;
                let (gamma, alpha) = (node.float("gamma")?.unwrap_or(SELU.0), alpha(SELU.1)?);
                // ONNX has them as f32.
                match (gamma - SELU.0).abs() < 1e-6 && (alpha - SELU.1).abs() < 1e-6 {
                    true => Activation::Selu,
                    false => Activation::Elu(alpha),
                }
            }
            "HardSigmoid" => {
                only(&["alpha", "beta"])?;
                let (slope, offset) = (alpha(0.2)?, node.float("beta")?.unwrap_or(0.5));
                match (slope - 1.0 / 6.0).abs() < 1e-7 && offset == 0.5 {
                    true => Activation::HardSigmoid,
                    false => Activation::HardSigmoidOf { slope, offset },
                }
            }
            "Gelu" => {
                only(&["approximate"])?;
                match node.text("approximate")?.unwrap_or("none") {
                    "none" => Activation::Gelu,
                    "tanh" => Activation::GeluApproximate,
                    other => return Err(node.wrong("approximate", other, "none or tanh")),
                }
            }
            "Swish" => {
                only(&["alpha"])?;
                match alpha(1.0)? {
                    1.0 => Activation::Silu,
                    other => return Err(node.wrong("alpha", other, "1")),
                }
            }
            other => {
                only(&[])?;
                match other {
                    "Relu" => Activation::Relu,
                    "Softplus" => Activation::Softplus,
                    "Softsign" => Activation::Softsign,
                    "Tanh" => Activation::Tanh,
                    "Sigmoid" => Activation::Sigmoid,
                    "HardSwish" => Activation::HardSilu,
                    "Mish" => Activation::Mish,
                    _ => return Err(node.refused("this operator is not supported")),
                }
            }
        })
    }

    pub fn clip(&mut self, node: &Node) -> Result<Known, String> {
        node.only(&["min", "max"], 3)?;
        let limit = |name: &str, input: usize| match node.float(name)? {
            Some(limit) => Ok::<_, String>(Some(limit)),
            None => self.number(node, input),
        };
        let (low, high) = (limit("min", 1)?, limit("max", 2)?);
        // As JSON has no infinity; beyond these numbers there are no others in f32.
        let most = f64::from(f32::MAX);
        let (low, high) = (low.unwrap_or(-most).max(-most), high.unwrap_or(most).min(most));
        self.clamped(node, low, high)
    }

    pub fn clamped(&mut self, node: &Node, low: f64, high: f64) -> Result<Known, String> {
        if low > high {
            return Err(node.wrong("min", low, &format!("at most max, {high}")));
        }
        let data = self.data(node, 0).or_else(|_| self.data(node, 1))?;
        let most = f64::from(f32::MAX);
        let function = match (low, high) {
            (0.0, high) if high == most => Activation::Relu,
            (0.0, 6.0) => Activation::Relu6,
            (0.0, high) => Activation::relu_of(Some(high), 0.0, 0.0),
            (low, high) if low == -most && high == most => return Ok(Known::Data(data)),
            (low, high) => Activation::Clip { low, high },
        };
        let layer = match function {
            Activation::Clip { .. } => ActivationLayer::named(function),
            function => ActivationLayer::layer(function),
        };
        self.over(node, layer, &data, Vec::new())
    }

    pub fn prelu(&mut self, node: &Node) -> Result<Known, String> {
        node.only(&[], 2)?;
        let data = self.data(node, 0)?;
        let slope = self.constant(node, 1)?;
        if slope.count() == 1 {
            let slope = self.numbers(node, &slope)?.first().map_or(0.0, |&slope| exact(slope));
            return self.over(
                node,
                ActivationLayer::layer(Activation::LeakyRelu(slope)),
                &data,
                Vec::new(),
            );
        }
        // Before opset 7 a slope is one for each channel, wherever its axis stands.
        let slope = match slope.shape() {
            &[count] if self.graph.opset < 7 => {
                let mut shape = vec![1; data.rank() - 1];
                shape[0] = count;
                slope.reshaped(shape).map_err(|reason| node.refused(&reason))?
            }
            _ => slope,
        };
        let (covered, shape) = self.covered(node, &data, &slope)?;
        if covered == data.whole(Tag::Channels) {
            let shared_axes = match data.shape {
                Shape::Map { .. } => vec![1, 2],
                Shape::Flat(_) => Vec::new(),
            };
            let slope =
                slope.reshaped(vec![places(&covered)]).map_err(|reason| node.refused(&reason))?;
            return self.over(node, Prelu { shared_axes }, &data, vec![slope]);
        }
        if covered == data.parts() && shape == data.shape {
            let slope = self.reordered(node, &slope, &covered, 1)?;
            return self.over(node, Prelu { shared_axes: Vec::new() }, &data, vec![slope]);
        }
        Err(node.wrong(
            "slope",
            slope.shape(),
            &format!("one number, or one for each channel of {}", data.described()),
        ))
    }

    pub fn softmax(&mut self, node: &Node) -> Result<Known, String> {
        node.only(&["axis"], 1)?;
        let data = self.data(node, 0)?;
        let old = self.graph.opset < 13;
        let given = node.int("axis")?.unwrap_or(if old { 1 } else { -1 });
        let place = axis(node, given, data.rank())?;
        let Some(place) = place.checked_sub(1) else {
            return Err(node.wrong("axis", given, "that of channels or features"));
        };
        // Old softmax is over all axes from this one on.
        let over = if old { joined(data.axes[place..].concat()) } else { data.axes[place].clone() };
        let function =
            if node.op == "Softmax" { Activation::Softmax } else { Activation::LogSoftmax };
        let layer = ActivationLayer::named(function);
        if over == data.whole(Tag::Channels) && !over.is_empty() {
            return self.over(node, layer, &data, Vec::new());
        }
        if places(&over) == data.shape.count() {
            let (value, _) = self.vector(node, &data)?;
            let (source, shape) = self.layer(node, layer, &[value], Vec::new())?;
            return Ok(Known::Data(self.flattened(&data, source, shape)));
        }
        Err(node.wrong("axis", given, &format!("that of channels of {}", data.described())))
    }

    /// GELU comes as `0.5 * x * (1 + erf(x / sqrt(2)))`, in several orders.
    pub fn erf(&mut self, node: &Node) -> Result<Known, String> {
        node.only(&[], 1)?;
        let data = self.data(node, 0)?;
        let made = data.source.layer().and_then(|position| self.layers.get(position));
        match made.map(|made| (&made.layer.op, made.layer.inputs.as_slice())) {
            Some((Op::Rescaling(Rescaling { scale, offset }), &[source]))
                if offset.iter().all(|&offset| offset == 0.0) && scale.len() == 1 =>
            {
                let of = Data { source, ..data.clone() };
                Ok(Known::Erf(Erf { of, scale: scale[0], factor: 1.0, offset: 0.0, times: false }))
            }
            _ => {
                Ok(Known::Erf(Erf { of: data, scale: 1.0, factor: 1.0, offset: 0.0, times: false }))
            }
        }
    }

    pub fn with_erf(
        &mut self,
        node: &Node,
        function: Binary,
        erf: Erf,
        other: &Known,
    ) -> Result<Known, String> {
        let number = match other {
            Known::Constant(constant) if constant.count() == 1 => {
                self.numbers(node, constant)?.first().map(|&value| exact(value))
            }
            _ => None,
        };
        let mut erf = erf;
        match (function, number, other) {
            (Binary::Add, Some(number), _) if !erf.times => erf.offset += number,
            (Binary::Multiply, Some(number), _) => {
                erf.factor *= number;
                erf.offset *= number;
            }
            (Binary::Divide, Some(number), _) if number != 0.0 => {
                erf.factor /= number;
                erf.offset /= number;
            }
            (Binary::Multiply, _, Known::Data(data)) if !erf.times => {
                // Also half of it.
                let made = data.source.layer().and_then(|position| self.layers.get(position));
                let half = match made.map(|made| (&made.layer.op, made.layer.inputs.as_slice())) {
                    Some((Op::Rescaling(Rescaling { scale, offset }), &[source]))
                        if source == erf.of.source && offset == &[0.0] && scale.len() == 1 =>
                    {
                        Some(scale[0])
                    }
                    _ => None,
                };
                let by = if data.source == erf.of.source { Some(1.0) } else { half };
                let same = data.axes == erf.of.axes;
                match by.filter(|_| same) {
                    Some(by) => {
                        erf.factor *= by;
                        erf.offset *= by;
                        erf.times = true;
                    }
                    None => return Err(not_gelu(node)),
                }
            }
            _ => return Err(not_gelu(node)),
        }
        let is_near = |value: f64, wanted: f64| (value - wanted).abs() < 1e-4;
        let is_gelu = erf.times
            && is_near(erf.factor, 0.5)
            && is_near(erf.offset, 0.5)
            && is_near(erf.scale, std::f64::consts::FRAC_1_SQRT_2);
        if is_gelu {
            return self.over(node, ActivationLayer::named(Activation::Gelu), &erf.of, Vec::new());
        }
        Ok(Known::Erf(erf))
    }
}

fn not_gelu(node: &Node) -> String {
    node.refused("it takes an error function, expected that only as a part of GELU: `0.5 * x * (1 + erf(x / sqrt(2)))`")
}

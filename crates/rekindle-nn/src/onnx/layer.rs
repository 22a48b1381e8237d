//! What operations write their nodes with.

use super::{Attribute, Initial, Values, Writer};
use crate::quantized::Product;
use crate::{Layout, Shape, VariableSpec};

/// What an operation has at hand while it writes its nodes.
///
/// The node that makes the value which [`Operation::to_onnx`](crate::ops::Operation::to_onnx) gives back gets the layer's
/// name.
pub struct OnnxLayer<'a> {
    writer: &'a mut Writer,
    name: &'a str,
    inputs: Vec<(String, Shape)>,
    variables: Vec<VariableSpec>,
    /// What it multiplies bytes with.
    product: Option<&'a Product>,
    /// Whether numbers are float32 here.
    is_full: bool,
}

impl<'a> OnnxLayer<'a> {
    /// For a layer that takes these values, of these shapes, and has these variables.
    pub(super) fn new(
        writer: &'a mut Writer,
        name: &'a str,
        inputs: Vec<(String, Shape)>,
        variables: Vec<VariableSpec>,
        product: Option<&'a Product>,
    ) -> Self {
        let is_full = !writer.half;
        Self { writer, name, inputs, variables, product, is_full }
    }
}

impl OnnxLayer<'_> {
    /// The first value that the layer takes.
    #[must_use]
    pub fn input(&self) -> String {
        self.inputs.first().map(|(name, _)| name.clone()).unwrap_or_default()
    }

    /// All values that the layer takes.
    #[must_use]
    pub fn inputs(&self) -> Vec<String> {
        self.inputs.iter().map(|(name, _)| name.clone()).collect()
    }

    /// The shape of the first value that the layer takes.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.inputs.first().map_or(Shape::Flat(0), |(_, shape)| *shape)
    }

    /// Height, width and channels of the first value, which has to be maps.
    ///
    /// # Errors
    /// When it is a vector.
    pub fn map(&self) -> Result<[usize; 3], String> {
        self.shape().as_map().ok_or_else(|| format!("it takes maps, found {}", self.shape()))
    }

    /// Whether numbers are 16-bit floats here.
    #[must_use]
    pub fn is_half(&self) -> bool {
        !self.is_full
    }

    /// Adds a node, and gives the name of what it makes.
    pub fn node(
        &mut self,
        op: &'static str,
        inputs: &[&str],
        attributes: Vec<(&'static str, Attribute)>,
    ) -> String {
        let inputs = inputs.iter().map(|&input| input.to_owned()).collect();
        self.writer.node(format!("{}/{op}", self.name), op, inputs, attributes)
    }

    /// Adds a node without settings.
    pub fn plain(&mut self, op: &'static str, inputs: &[&str]) -> String {
        self.node(op, inputs, Vec::new())
    }

    /// A node of two values, the second of which is one number.
    pub fn with(&mut self, op: &'static str, value: &str, number: f64) -> String {
        let number = self.number(number);
        self.plain(op, &[value, &number])
    }

    fn initial(&mut self, name: &str, shape: Vec<usize>, values: Values) -> String {
        let half = std::mem::replace(&mut self.writer.half, !self.is_full);
        let name = self.writer.constant(name, shape, values);
        self.writer.half = half;
        name
    }

    /// One number, which all layers that take it share.
    pub fn number(&mut self, value: f64) -> String {
        let value = value as f32;
        let half = !self.is_full;
        let is_it = |initial: &&Initial| {
            initial.shape.is_empty()
                && initial.half == half
                && matches!(&initial.values, Values::Floats(known) if known[..] == [value])
        };
        match self.writer.initials.iter().find(is_it) {
            Some(initial) => initial.name.clone(),
            None => {
                self.initial(&format!("constant/{value}"), Vec::new(), Values::Floats(vec![value]))
            }
        }
    }

    /// A constant of the layer: `layer/name`.
    pub fn floats(&mut self, name: &str, shape: Vec<usize>, values: Vec<f32>) -> String {
        self.initial(&format!("{}/{name}", self.name), shape, Values::Floats(values))
    }

    /// The same in float32, whatever the network computes with.
    pub fn full_floats(&mut self, name: &str, shape: Vec<usize>, values: Vec<f32>) -> String {
        let is_full = std::mem::replace(&mut self.is_full, true);
        let name = self.floats(name, shape, values);
        self.is_full = is_full;
        name
    }

    /// One number, or one for each channel, as it stretches over the first value.
    pub fn by_channel(&mut self, name: &str, values: &[f64]) -> String {
        match values {
            &[one] => self.number(one),
            values => {
                let shape = channels_of(self.shape(), values.len());
                self.floats(name, shape, values.iter().map(|&value| value as f32).collect())
            }
        }
    }

    /// A list of integers: `layer/name`.
    pub fn integers(&mut self, name: &str, values: &[i64]) -> String {
        let integers = Values::Integers(values.to_vec());
        self.initial(&format!("{}/{name}", self.name), vec![values.len()], integers)
    }

    /// A variable in Burn's layout: `layer/variable`; nothing where the layer has none of this name.
    pub fn variable(&mut self, name: &str) -> Option<String> {
        let shape = self.variables.iter().find(|spec| spec.name == name)?.burn_shape();
        self.variable_as(name, shape)
    }

    /// A variable whose values, in Burn's order, have another shape.
    pub fn variable_as(&mut self, name: &str, shape: Vec<usize>) -> Option<String> {
        let spec = self.variables.iter().find(|spec| spec.name == name)?.clone();
        if let Some(product) = self.product {
            return Some(self.product_of(product, &spec, shape));
        }
        let values = Values::Variable { layer: self.name.to_owned(), spec };
        Some(self.initial(&format!("{}/{name}", self.name), shape, values))
    }

    /// The numbers that bytes of a kernel, or integers of a bias, stand for.
    fn product_of(&mut self, product: &Product, spec: &VariableSpec, shape: Vec<usize>) -> String {
        let name = spec.name;
        let is_kernel = name != "bias";
        let (values, steps, zeros) = if is_kernel {
            let weights = product.weights.iter().map(|&weight| f32::from(weight)).collect();
            // As many as before, each a whole number.
            let moved = spec.to_burn(weights).iter::<f32>().map(|weight| weight as i8).collect();
            (Values::Ints8(moved), &product.steps, Values::Ints8(vec![0; product.steps.len()]))
        } else {
            let zeros = Values::Ints32(vec![0; product.bias_steps.len()]);
            (Values::Ints32(product.bias.clone()), &product.bias_steps, zeros)
        };
        let axis = if is_kernel && spec.layout == Layout::Same { shape.len() - 1 } else { 0 };
        let bytes = self.initial(&format!("{}/{name}", self.name), shape, values);
        let path = format!("{}/{name}", self.name);
        let count = vec![steps.len()];
        let steps =
            self.initial(&format!("{path}/scale"), count.clone(), Values::Floats(steps.clone()));
        let zeros = self.initial(&format!("{path}/zero_point"), count, zeros);
        let axis = vec![("axis", Attribute::Int(axis as i64))];
        let inputs = vec![bytes, steps, zeros];
        self.writer.node(format!("{path}/DequantizeLinear"), "DequantizeLinear", inputs, axis)
    }

    /// A variable of one value for each channel, as it stretches over the first value.
    pub fn variable_by_channel(&mut self, name: &str) -> Option<String> {
        let shape = self.shape();
        self.variable_as(name, channels_of(shape, shape.channels()))
    }

    /// A vector variable, or where the layer has none of this name as many equal numbers.
    pub fn variable_or(&mut self, name: &str, count: usize, value: f32) -> String {
        match self.variable(name) {
            Some(variable) => variable,
            None => self.floats(name, vec![count], vec![value; count]),
        }
    }

    /// A variable along axes of one sample as Keras counts them (0 is the first), so that it stretches over the first value.
    pub fn variable_along(&mut self, name: &str, axes: &[usize]) -> Option<String> {
        let shape = self.along(axes);
        let variable = self.variable_as(name, shape)?;
        Some(self.stretched(variable))
    }

    /// The same of numbers; a single one counts for all.
    pub fn floats_along(&mut self, name: &str, axes: &[usize], values: Vec<f32>) -> String {
        if let [one] = values[..] {
            return self.number(f64::from(one));
        }
        let shape = self.along(axes);
        let constant = self.floats(name, shape, values);
        self.stretched(constant)
    }

    fn along(&self, axes: &[usize]) -> Vec<usize> {
        let sizes = match self.shape() {
            Shape::Map { height, width, channels } => vec![height, width, channels],
            Shape::Flat(count) => vec![count],
        };
        let size = |(axis, size)| if axes.contains(&axis) { size } else { 1 };
        sizes.into_iter().enumerate().map(size).collect()
    }

    /// A constant in Keras's order of axes, in ONNX's.
    fn stretched(&mut self, constant: String) -> String {
        match self.shape() {
            Shape::Map { .. } => self.transposed(&constant, &[2, 0, 1]),
            Shape::Flat(_) => constant,
        }
    }

    /// Axes in another order.
    pub fn transposed(&mut self, value: &str, order: &[usize]) -> String {
        self.writer.transposed(self.name, value, order)
    }

    /// Maps as `[batch, height, width, channels]`; vectors as they are.
    pub fn channels_last(&mut self, value: &str) -> String {
        match self.shape() {
            Shape::Map { .. } => self.transposed(value, &[0, 2, 3, 1]),
            Shape::Flat(_) => value.to_owned(),
        }
    }

    /// Other extents behind the batch, in the same order of values.
    pub fn reshaped(&mut self, value: &str, extents: &[i64]) -> String {
        let shape: Vec<i64> = [0].iter().chain(extents).copied().collect();
        let shape = self.integers("shape", &shape);
        self.plain("Reshape", &[value, &shape])
    }

    /// What `write` makes of a value in float32, whatever the network computes with: halves have too few bits for sums
    /// and squares.
    ///
    /// # Errors
    /// That of `write`.
    pub fn in_full(
        &mut self,
        value: &str,
        write: impl FnOnce(&mut Self, &str) -> Result<String, String>,
    ) -> Result<String, String> {
        if self.is_full {
            return write(self, value);
        }
        let full = self.writer.cast(self.name, value.to_owned(), false);
        self.is_full = true;
        let result = write(self, &full);
        self.is_full = false;
        Ok(self.writer.cast(self.name, result?, true))
    }
}

/// The shape of one value for each channel.
fn channels_of(shape: Shape, channels: usize) -> Vec<usize> {
    match shape {
        Shape::Map { .. } => vec![channels, 1, 1],
        Shape::Flat(_) => vec![channels],
    }
}

//! What operations write their operators with.

use super::{
    Compute, Fused, Grid, Moves, Node, Operator, Product, Stored, Tensor, TensorId, Values, Writer,
    int,
};
use crate::{Layout, Padding, Shape, VariableSpec, Window};

/// What an operation has at hand while it writes its operators.
///
/// The value which [`Operation::to_tflite`](crate::ops::Operation::to_tflite) gives back gets the layer's name.
pub struct TfliteLayer<'a> {
    writer: &'a mut Writer,
    name: &'a str,
    inputs: Vec<(TensorId, Shape)>,
    variables: Vec<VariableSpec>,
    /// What it multiplies bytes with.
    product: Option<&'a Product>,
    /// How many nodes there were before this layer's.
    start: usize,
}

impl<'a> TfliteLayer<'a> {
    /// For a layer that takes these values, of these shapes, and has these variables.
    pub(super) fn new(
        writer: &'a mut Writer,
        name: &'a str,
        inputs: Vec<(TensorId, Shape)>,
        variables: Vec<VariableSpec>,
        product: Option<&'a Product>,
    ) -> Self {
        let start = writer.nodes.len();
        Self { writer, name, inputs, variables, product, start }
    }
}

impl TfliteLayer<'_> {
    /// The first value that the layer takes.
    ///
    /// # Errors
    /// When it takes none.
    pub fn input(&self) -> Result<TensorId, String> {
        self.inputs.first().map(|(value, _)| *value).ok_or_else(|| "it takes nothing".into())
    }

    /// All values that the layer takes.
    #[must_use]
    pub fn inputs(&self) -> Vec<TensorId> {
        self.inputs.iter().map(|(value, _)| *value).collect()
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

    /// The extents of one sample of a value, or all of a constant's.
    #[must_use]
    pub fn extents(&self, value: TensorId) -> Vec<usize> {
        let tensor = &self.writer.tensors[value.0];
        tensor.shape[usize::from(tensor.has_batch)..].to_vec()
    }

    /// Adds an operator that makes a value with these extents behind the batch.
    pub fn node(&mut self, operator: Operator, inputs: &[TensorId], extents: &[usize]) -> TensorId {
        let stored = if operator == Operator::Greater { Stored::Flag } else { Stored::Float };
        let name = format!("{}/{}", self.name, operator.form().name);
        let output = self.writer.value(&name, extents, stored);
        self.writer.nodes.push(Node { operator, inputs: inputs.to_vec(), output });
        output
    }

    /// An operator that keeps the extents of its first input.
    pub fn over(&mut self, operator: Operator, inputs: &[TensorId]) -> TensorId {
        let extents = inputs.first().map(|&input| self.extents(input)).unwrap_or_default();
        self.node(operator, inputs, &extents)
    }

    /// An operator of two values, whose extents are stretched by NumPy's rule.
    pub fn two(&mut self, operator: Operator, a: TensorId, b: TensorId) -> TensorId {
        let (left, right) = (self.extents(a), self.extents(b));
        let rank = left.len().max(right.len());
        let at = |extents: &[usize], axis: usize| {
            (axis + extents.len()).checked_sub(rank).map_or(1, |axis| extents[axis])
        };
        let extents: Vec<usize> =
            (0..rank).map(|axis| at(&left, axis).max(at(&right, axis))).collect();
        self.node(operator, &[a, b], &extents)
    }

    /// An operator of a value and a number.
    pub fn with(&mut self, operator: Operator, value: TensorId, number: f64) -> TensorId {
        let number = self.number(number);
        self.two(operator, value, number)
    }

    /// An operator of one value and axes of one sample, 0 the first, along which nothing but one place is left.
    pub fn reduced(
        &mut self,
        operator: Operator,
        value: TensorId,
        axes: &[usize],
        keeps_axes: bool,
    ) -> Result<TensorId, String> {
        let own = self.extents(value).into_iter().enumerate();
        let extents: Vec<usize> = own
            .filter_map(|(axis, size)| match axes.contains(&axis) {
                true => keeps_axes.then_some(1),
                false => Some(size),
            })
            .collect();
        let axes = axes.iter().map(|&axis| int(axis + 1)).collect::<Result<Vec<_>, _>>()?;
        let axes = self.integers("axes", &axes, &[axes.len()]);
        Ok(self.node(operator, &[value, axes], &extents))
    }

    /// Ends with an activation; where the operator that made the value is this layer's, and can, as its end.
    pub fn ended(&mut self, value: TensorId, fused: Fused, operator: Operator) -> TensorId {
        let own = &mut self.writer.nodes[self.start..];
        if let Some(node) = own.last_mut().filter(|node| node.output == value)
            && let Some(ended) = node.operator.ended(fused)
        {
            node.operator = ended;
            return value;
        }
        self.over(operator, &[value])
    }

    fn constant(
        &mut self,
        name: &str,
        shape: &[usize],
        stored: Stored,
        values: Values,
    ) -> TensorId {
        let name = self.writer.names.free(name);
        self.writer.add(Tensor {
            name,
            shape: shape.to_vec(),
            has_batch: false,
            stored,
            grid: None,
            values: Some(values),
        })
    }

    /// One number, which all layers that take it share.
    pub fn number(&mut self, value: f64) -> TensorId {
        let value = value as f32;
        if let Some(known) = self.writer.numbers.get(&value.to_bits()) {
            return *known;
        }
        let name = format!("constant/{value}");
        let made = self.constant(&name, &[], Stored::Float, Values::Floats(vec![value]));
        self.writer.numbers.insert(value.to_bits(), made);
        made
    }

    /// A constant of the layer: `layer/name`.
    pub fn floats(&mut self, name: &str, shape: &[usize], values: Vec<f32>) -> TensorId {
        self.constant(
            &format!("{}/{name}", self.name),
            shape,
            Stored::Float,
            Values::Floats(values),
        )
    }

    /// One number, or one for each channel.
    pub fn by_channel(&mut self, name: &str, values: &[f64]) -> TensorId {
        match values {
            &[one] => self.number(one),
            values => {
                let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
                self.floats(name, &[values.len()], values)
            }
        }
    }

    /// Integers: `layer/name`.
    pub fn integers(&mut self, name: &str, values: &[i32], shape: &[usize]) -> TensorId {
        let integers = Values::Integers(values.to_vec());
        self.constant(&format!("{}/{name}", self.name), shape, Stored::Integer, integers)
    }

    fn spec(&self, name: &str) -> Option<VariableSpec> {
        self.variables.iter().find(|spec| spec.name == name).cloned()
    }

    /// A variable of numbers that are added or multiplied, in Keras's order with another shape; nothing where the layer has
    /// none of this name.
    pub fn variable(&mut self, name: &str, shape: &[usize]) -> Option<TensorId> {
        let spec = self.spec(name)?;
        if let Some(product) = self.product {
            let bias = self.integers(name, &product.bias, shape);
            let steps = product.bias_steps.clone();
            self.writer.tensors[bias.0].grid = Some(Grid { steps, zero: 0, axis: 0 });
            return Some(bias);
        }
        let values = Values::Variable { layer: self.name.to_owned(), spec, order: Vec::new() };
        Some(self.constant(&format!("{}/{name}", self.name), shape, Stored::Float, values))
    }

    /// A kernel, Keras's axes in another order, and then of another shape where one is given. This is what is stored as
    /// 16-bit floats.
    ///
    /// # Errors
    /// When the layer has none of this name, or of other axes.
    pub fn kernel(
        &mut self,
        name: &str,
        order: &[usize],
        shape: Option<&[usize]>,
    ) -> Result<TensorId, String> {
        let spec = self.spec(name).ok_or_else(|| format!("it has no variable `{name}`"))?;
        let own = order.iter().map(|&axis| spec.shape.get(axis).copied());
        let own: Option<Vec<usize>> = own.collect();
        let own = own.filter(|own| own.len() == spec.shape.len());
        let own =
            own.ok_or_else(|| format!("`{name}` has the shape {shape:?}", shape = spec.shape))?;
        let shape = shape.map_or(own, <[usize]>::to_vec);
        let layer = self.name.to_owned();
        let path = format!("{layer}/{name}");
        if let Some(product) = self.product {
            let is_depthwise = spec.layout == Layout::Depthwise;
            let axis = if is_depthwise { int(shape.len() - 1)? } else { 0 };
            let (values, steps) = (product.weights.clone(), product.steps.clone());
            let values = Values::Ints8 { values, spec, order: order.to_vec() };
            let made = self.constant(&path, &shape, Stored::Int8, values);
            self.writer.tensors[made.0].grid = Some(Grid { steps, zero: 0, axis });
            return Ok(made);
        }
        let values = Values::Variable { layer, spec, order: order.to_vec() };
        if !self.writer.half {
            return Ok(self.constant(&path, &shape, Stored::Float, values));
        }
        let half = self.constant(&path, &shape, Stored::Half, values);
        let full = self.writer.names.free(&format!("{path}/DEQUANTIZE"));
        let full = self.writer.add(Tensor {
            name: full,
            shape,
            has_batch: false,
            stored: Stored::Float,
            grid: None,
            values: None,
        });
        self.writer.nodes.push(Node {
            operator: Operator::Dequantize,
            inputs: vec![half],
            output: full,
        });
        Ok(full)
    }

    /// What `compute` makes of variables, those of these names that the layer has: `layer/name`.
    pub fn computed(
        &mut self,
        name: &str,
        variables: &[&str],
        shape: &[usize],
        setting: f64,
        compute: Compute,
    ) -> TensorId {
        let specs = variables.iter().filter_map(|name| self.spec(name)).collect();
        let layer = self.name.to_owned();
        let values = Values::Computed { layer, specs, setting, compute };
        self.constant(&format!("{}/{name}", self.name), shape, Stored::Float, values)
    }

    /// The shape of a constant that differs along these axes of one sample, 0 the first.
    #[must_use]
    pub fn along(&self, axes: &[usize]) -> Vec<usize> {
        let sizes = match self.shape() {
            Shape::Map { height, width, channels } => vec![height, width, channels],
            Shape::Flat(count) => vec![count],
        };
        let size = |(axis, size)| if axes.contains(&axis) { size } else { 1 };
        sizes.into_iter().enumerate().map(size).collect()
    }

    /// Numbers along axes of one sample; a single one counts for all.
    pub fn floats_along(&mut self, name: &str, axes: &[usize], values: Vec<f32>) -> TensorId {
        if let [one] = values[..] {
            return self.number(f64::from(one));
        }
        let shape = self.along(axes);
        self.floats(name, &shape, values)
    }

    /// Other extents behind the batch, in the same order of values.
    ///
    /// # Errors
    /// When they are more than a file has.
    pub fn reshaped(&mut self, value: TensorId, extents: &[usize]) -> Result<TensorId, String> {
        if self.extents(value) == extents && self.writer.tensors[value.0].values.is_none() {
            // What comes in may have to be another value than what goes out.
            let is_made = self.writer.nodes.iter().any(|node| node.output == value);
            if is_made {
                return Ok(value);
            }
        }
        let own = extents.iter().map(|&extent| int(extent)).collect::<Result<Vec<_>, _>>()?;
        // The number of samples is what is left.
        let shape: Vec<i32> = [-1].into_iter().chain(own).collect();
        let shape = self.integers("shape", &shape, &[shape.len()]);
        Ok(self.node(Operator::Reshape, &[value, shape], extents))
    }

    /// Axes of the whole value, the batch 0, in another order.
    pub fn transposed(&mut self, value: TensorId, order: [i32; 4]) -> TensorId {
        let own = self.extents(value);
        let extents: Vec<usize> =
            order[1..].iter().filter_map(|&axis| own.get(axis as usize - 1).copied()).collect();
        let order = self.integers("order", &order, &[4]);
        self.node(Operator::Transpose, &[value, order], &extents)
    }

    /// Rows above and below, columns left and right: zeros, or the value that is said.
    ///
    /// # Errors
    /// When they are more than a file has.
    pub fn padded(
        &mut self,
        value: TensorId,
        [rows, columns]: [[usize; 2]; 2],
        fill: Option<f64>,
    ) -> Result<TensorId, String> {
        let pads = [0, 0, rows[0], rows[1], columns[0], columns[1], 0, 0];
        if pads == [0; 8] {
            return Ok(value);
        }
        let pads = pads.iter().map(|&pad| int(pad)).collect::<Result<Vec<_>, _>>()?;
        let own = self.extents(value);
        let mut extents = own.clone();
        for (extent, edges) in extents.iter_mut().zip([rows, columns]) {
            *extent += edges[0] + edges[1];
        }
        let pads = self.integers("pads", &pads, &[4, 2]);
        Ok(match fill {
            None => self.node(Operator::Pad, &[value, pads], &extents),
            Some(fill) => {
                let fill = self.number(fill);
                self.node(Operator::PadV2, &[value, pads, fill], &extents)
            }
        })
    }

    /// `height` rows and `width` columns of maps.
    ///
    /// # Errors
    /// When they are more than a file has.
    pub fn cut(
        &mut self,
        value: TensorId,
        [top, left]: [usize; 2],
        [height, width]: [usize; 2],
    ) -> Result<TensorId, String> {
        let own = self.extents(value);
        let [rows, columns, channels] = own[..] else { return Err("it takes maps".into()) };
        if [rows, columns] == [height, width] {
            return Ok(value);
        }
        let begin = self.integers("begin", &[0, int(top)?, int(left)?, 0], &[4]);
        // -1 is all of an axis.
        let size = self.integers("size", &[-1, int(height)?, int(width)?, -1], &[4]);
        Ok(self.node(Operator::Slice, &[value, begin, size], &[height, width, channels]))
    }

    /// How a window moves, over maps that are padded first where TensorFlow Lite has no such padding.
    ///
    /// # Errors
    /// When the value is no maps, or a size is more than a file has.
    pub fn moves(
        &mut self,
        value: TensorId,
        window: &Window,
        fill: Option<f64>,
    ) -> Result<(TensorId, Moves, [usize; 2]), String> {
        let own = self.extents(value);
        let [height, width, channels] = own[..] else { return Err("it takes maps".into()) };
        let out = window.output(Shape::map(height, width, channels), channels)?;
        let Shape::Map { height: rows, width: columns, .. } = out else {
            return Err("it takes maps".into());
        };
        let pair = |[a, b]: [usize; 2]| Ok::<_, String>([int(a)?, int(b)?]);
        let moves = Moves {
            same: window.padding == Padding::Same,
            kernel: pair(window.kernel)?,
            stride: pair(window.stride)?,
            dilation: pair(window.dilation)?,
        };
        let value = match window.padding {
            Padding::Explicit(edges) => self.padded(value, edges, fill)?,
            Padding::Same | Padding::Valid => value,
        };
        Ok((value, moves, [rows, columns]))
    }
}

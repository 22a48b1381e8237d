use std::collections::HashMap;

use super::{Base, Graph, Layer, Source};
use crate::ops::{
    ActivationLayer, BatchNorm, Concatenate, Conv2d, Dense, DepthwiseConv2d, Dropout, Flatten,
    GlobalPool, LayerNorm, Merge, Pool2d, Rescaling, ScaledAdd, SeparableConv2d, ZeroPadding2d,
};
use crate::{Activation, Architecture, NetworkError, Op, Shape};

/// A value between two layers of a graph that is being built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value {
    source: Source,
    shape: Shape,
}

impl Value {
    /// The shape of one sample.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// How many channels or features it has.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.shape.channels()
    }

    /// Where it comes from.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source
    }
}

/// Writes a network down as Keras's functional API does: each method adds a layer and gives its output.
///
/// ```
/// use rekindle_nn::ops::{Conv2d, Dense};
/// use rekindle_nn::{Activation, GraphBuilder, Shape};
///
/// # fn main() -> Result<(), rekindle_nn::NetworkError> {
/// let (mut net, images) = GraphBuilder::new(Shape::image(32));
/// let x = net.conv2d("conv", images, Conv2d::new(8, [3, 3]).with_bias())?;
/// let x = net.relu("relu", x)?;
/// let x = net.global_average_pool("pool", x)?;
/// let x = net.dense("predictions", x, Dense::new(5, Activation::Softmax))?;
/// let graph = net.finish(x)?;
/// assert_eq!(graph.classes(), Some(5));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct GraphBuilder {
    input: Shape,
    layers: Vec<Layer>,
    shapes: Vec<Shape>,
    base: Option<Base>,
    numbers: HashMap<String, usize>,
}

/// A layer's output.
type Added = Result<Value, NetworkError>;

impl GraphBuilder {
    /// A network without layers yet, and its images.
    #[must_use]
    pub fn new(input: Shape) -> (Self, Value) {
        let (layers, shapes, numbers) = (Vec::new(), Vec::new(), HashMap::new());
        let builder = Self { input, layers, shapes, base: None, numbers };
        (builder, Value { source: Source::Input, shape: input })
    }

    /// Goes on behind the output of a network, which becomes the base of what is built.
    #[must_use]
    pub fn on(graph: &Graph) -> (Self, Value) {
        let builder = Self {
            input: graph.input,
            layers: graph.layers.clone(),
            shapes: graph.shapes.clone(),
            base: Some(graph.base),
            numbers: HashMap::new(),
        };
        (builder, Value { source: graph.output, shape: graph.output_shape() })
    }

    /// Any layer.
    ///
    /// # Errors
    /// When it cannot take its inputs.
    pub fn layer(&mut self, name: impl Into<String>, op: impl Into<Op>, inputs: &[Value]) -> Added {
        let name = name.into();
        let op = op.into();
        let shapes: Vec<Shape> = inputs.iter().map(|input| input.shape).collect();
        let shape = op.output_shape(&name, &shapes)?;
        let op = op.settled(&shapes);
        let inputs = inputs.iter().map(|input| input.source).collect();
        self.layers.push(Layer { name, op, inputs });
        self.shapes.push(shape);
        Ok(Value { source: Source::Layer(self.layers.len() - 1), shape })
    }

    /// Keras's next automatic name for a class: `conv2d`, `conv2d_1`, ...
    pub fn numbered(&mut self, class: &str) -> String {
        let number = self.numbers.entry(class.to_owned()).or_default();
        *number += 1;
        if *number == 1 { class.to_owned() } else { format!("{class}_{}", *number - 1) }
    }

    /// Ends the base here: what comes behind is a head.
    pub fn mark_base(&mut self, output: Value, architecture: Option<Architecture>) {
        let (layers, output) = (self.layers.len(), output.source);
        self.base = Some(Base { layers, output, architecture });
    }

    /// The network, whose output is `output`.
    ///
    /// # Errors
    /// When two layers have one name.
    pub fn finish(self, output: Value) -> Result<Graph, NetworkError> {
        let (layers, output) = (self.layers, output.source);
        let whole = Base { layers: layers.len(), output, architecture: None };
        Graph::new(self.input, layers, output, self.base.unwrap_or(whole))
    }
}

/// One method for each kind of layer.
impl GraphBuilder {
    /// A convolution.
    pub fn conv2d(&mut self, name: impl Into<String>, x: Value, conv: Conv2d) -> Added {
        self.layer(name, conv, &[x])
    }

    /// A convolution of each channel with filters of its own.
    pub fn depthwise_conv2d(
        &mut self,
        name: impl Into<String>,
        x: Value,
        conv: DepthwiseConv2d,
    ) -> Added {
        self.layer(name, conv, &[x])
    }

    /// A convolution of each channel, and one over the channels.
    pub fn separable_conv2d(
        &mut self,
        name: impl Into<String>,
        x: Value,
        conv: SeparableConv2d,
    ) -> Added {
        self.layer(name, conv, &[x])
    }

    /// A fully connected layer.
    pub fn dense(&mut self, name: impl Into<String>, x: Value, dense: Dense) -> Added {
        self.layer(name, dense, &[x])
    }

    /// Batch normalization.
    pub fn batch_norm(&mut self, name: impl Into<String>, x: Value, norm: BatchNorm) -> Added {
        self.layer(name, norm, &[x])
    }

    /// Layer normalization.
    pub fn layer_norm(&mut self, name: impl Into<String>, x: Value, norm: LayerNorm) -> Added {
        self.layer(name, norm, &[x])
    }

    /// Keras's `Activation` layer.
    pub fn activation(&mut self, name: impl Into<String>, x: Value, function: Activation) -> Added {
        self.layer(name, ActivationLayer::named(function), &[x])
    }

    /// Keras's `Activation("relu")`.
    pub fn relu(&mut self, name: impl Into<String>, x: Value) -> Added {
        self.activation(name, x, Activation::Relu)
    }

    /// Keras's `ReLU` layer with `max_value` 6.
    pub fn relu6(&mut self, name: impl Into<String>, x: Value) -> Added {
        self.layer(name, ActivationLayer::layer(Activation::Relu6), &[x])
    }

    /// A pool.
    pub fn pool2d(&mut self, name: impl Into<String>, x: Value, pool: Pool2d) -> Added {
        self.layer(name, pool, &[x])
    }

    /// The mean of each channel.
    pub fn global_average_pool(&mut self, name: impl Into<String>, x: Value) -> Added {
        self.layer(name, GlobalPool::average(), &[x])
    }

    /// The maximum of each channel.
    pub fn global_max_pool(&mut self, name: impl Into<String>, x: Value) -> Added {
        self.layer(name, GlobalPool::max(), &[x])
    }

    /// Zeros around maps: rows above and below, columns left and right.
    pub fn zero_padding2d(
        &mut self,
        name: impl Into<String>,
        x: Value,
        padding: [[usize; 2]; 2],
    ) -> Added {
        self.layer(name, ZeroPadding2d { padding }, &[x])
    }

    /// Keras's `ZeroPadding2D(correct_pad(x, kernel))`.
    pub fn correct_pad(&mut self, name: impl Into<String>, x: Value, kernel: usize) -> Added {
        let [height, width, _] = x.shape.as_map().unwrap_or_default();
        self.layer(name, ZeroPadding2d::correct(height, width, kernel), &[x])
    }

    /// All values in a row, in Keras's order: height, width, channels.
    pub fn flatten(&mut self, name: impl Into<String>, x: Value) -> Added {
        self.layer(name, Flatten {}, &[x])
    }

    /// `x * scale + offset`.
    pub fn rescaling(
        &mut self,
        name: impl Into<String>,
        x: Value,
        scale: f64,
        offset: f64,
    ) -> Added {
        self.layer(name, Rescaling::new(scale, offset), &[x])
    }

    /// Zeros at random while training.
    pub fn dropout(&mut self, name: impl Into<String>, x: Value, rate: f64) -> Added {
        self.layer(name, Dropout { rate }, &[x])
    }

    /// Element-wise sum.
    pub fn add(&mut self, name: impl Into<String>, values: &[Value]) -> Added {
        self.layer(name, Merge::ADD, values)
    }

    /// The first value and the second times a number.
    pub fn scaled_add(&mut self, name: impl Into<String>, values: [Value; 2], scale: f64) -> Added {
        self.layer(name, ScaledAdd { scale }, &values)
    }

    /// Element-wise product.
    pub fn multiply(&mut self, name: impl Into<String>, values: &[Value]) -> Added {
        self.layer(name, Merge::MULTIPLY, values)
    }

    /// Channels side by side.
    pub fn concatenate(&mut self, name: impl Into<String>, values: &[Value]) -> Added {
        self.layer(name, Concatenate::new(), values)
    }
}

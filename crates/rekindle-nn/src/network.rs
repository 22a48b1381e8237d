use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};

use crate::interpret::{Eager, Features, Summarize, Summary};
use crate::layers::{BatchNorm, Conv2d, Dense};
use crate::{NetworkError, Op, Pool, Shape};

/// Something that gives the layers of a network a meaning: computes them, counts them, lists them.
///
/// An interpreter implements [`Interpreter::layer`]; the other methods are what a network's `walk` calls.
pub trait Interpreter<B: Backend> {
    /// What flows between layers: a tensor, a shape, nothing.
    type Value: Clone;

    /// One layer: its Keras name, what it does and what goes in.
    ///
    /// # Errors
    /// When the layer cannot take its inputs.
    fn layer(
        &mut self,
        name: &str,
        op: Op<'_, B>,
        inputs: Vec<Self::Value>,
    ) -> Result<Self::Value, NetworkError>;

    /// A convolution, full or depthwise.
    fn conv2d(&mut self, layer: &Conv2d<B>, x: Self::Value) -> Result<Self::Value, NetworkError> {
        self.layer(&layer.name, Op::Conv2d(layer), vec![x])
    }

    /// A batch normalization.
    fn batch_norm(
        &mut self,
        layer: &BatchNorm<B>,
        x: Self::Value,
    ) -> Result<Self::Value, NetworkError> {
        self.layer(&layer.name, Op::BatchNorm(layer), vec![x])
    }

    /// A fully connected layer with its activation.
    fn dense(&mut self, layer: &Dense<B>, x: Self::Value) -> Result<Self::Value, NetworkError> {
        self.layer(&layer.name, Op::Dense(layer), vec![x])
    }

    /// Keras's `ReLU` layer with `max_value` 6.
    fn relu6(&mut self, name: &str, x: Self::Value) -> Result<Self::Value, NetworkError> {
        self.layer(name, Op::Relu6, vec![x])
    }

    /// Keras's `Activation("relu")` layer.
    fn relu(&mut self, name: &str, x: Self::Value) -> Result<Self::Value, NetworkError> {
        self.layer(name, Op::Relu, vec![x])
    }

    /// Keras's `ZeroPadding2D(correct_pad(x, kernel))`.
    fn correct_pad(
        &mut self,
        name: &str,
        kernel: usize,
        x: Self::Value,
    ) -> Result<Self::Value, NetworkError> {
        self.layer(name, Op::CorrectPad { kernel }, vec![x])
    }

    /// Max pooling.
    fn max_pool(
        &mut self,
        name: &str,
        pool: Pool,
        x: Self::Value,
    ) -> Result<Self::Value, NetworkError> {
        self.layer(name, Op::MaxPool(pool), vec![x])
    }

    /// Average pooling; padding does not count.
    fn avg_pool(
        &mut self,
        name: &str,
        pool: Pool,
        x: Self::Value,
    ) -> Result<Self::Value, NetworkError> {
        self.layer(name, Op::AvgPool(pool), vec![x])
    }

    /// The mean of each channel.
    fn global_avg_pool(&mut self, name: &str, x: Self::Value) -> Result<Self::Value, NetworkError> {
        self.layer(name, Op::GlobalAvgPool, vec![x])
    }

    /// Element-wise sum.
    fn add(
        &mut self,
        name: &str,
        a: Self::Value,
        b: Self::Value,
    ) -> Result<Self::Value, NetworkError> {
        self.layer(name, Op::Add, vec![a, b])
    }

    /// Concatenation of channels.
    fn concat(&mut self, name: &str, xs: Vec<Self::Value>) -> Result<Self::Value, NetworkError> {
        self.layer(name, Op::Concat, xs)
    }
}

impl<B: Backend, I: Interpreter<B>> Interpreter<B> for &mut I {
    type Value = I::Value;

    fn layer(
        &mut self,
        name: &str,
        op: Op<'_, B>,
        inputs: Vec<I::Value>,
    ) -> Result<I::Value, NetworkError> {
        (**self).layer(name, op, inputs)
    }
}

/// A network, or a part of one, that an [`Interpreter`] can walk.
pub trait Network<B: Backend>: Module<B> {
    /// Hands every layer to `interpreter`, in the order in which Keras makes them.
    ///
    /// # Errors
    /// The first error of the interpreter.
    fn walk<I: Interpreter<B>>(
        &self,
        interpreter: &mut I,
        x: I::Value,
    ) -> Result<I::Value, NetworkError>;

    /// Inference on `images`: `[batch, channels, height, width]`, preprocessed.
    ///
    /// # Errors
    /// When the images are too small or have other channels than the network takes.
    fn forward(&self, images: Tensor<B, 4>) -> Result<Features<B>, NetworkError> {
        self.walk(&mut Eager::inference(), Features::Map(images))
    }

    /// The table of layers for an input of this shape.
    ///
    /// # Errors
    /// When the input is too small for the network.
    fn summary(&self, input: Shape) -> Result<Summary, NetworkError> {
        let mut summarize = Summarize::default();
        let x = summarize.input("input_layer", input);
        self.walk(&mut summarize, x)?;
        Ok(summarize.finish())
    }

    /// The shape of what comes out for an input of this shape.
    ///
    /// # Errors
    /// When the input is too small for the network.
    fn output_shape(&self, input: Shape) -> Result<Shape, NetworkError> {
        let mut summarize = Summarize::default();
        let x = summarize.input("input_layer", input);
        Ok(self.walk(&mut summarize, x)?.0)
    }
}

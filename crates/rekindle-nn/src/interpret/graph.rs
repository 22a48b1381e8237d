use burn::tensor::backend::Backend;

use crate::{Interpreter, Network, NetworkError, Op, Pool, VariableSpec};

/// One layer of a [`Graph`].
#[derive(Debug, Clone)]
pub struct GraphLayer {
    /// The layer's Keras name.
    pub name: String,
    /// Keras's layer class.
    pub kind: &'static str,
    /// The layers whose outputs it takes, by their numbers; nothing stands for the network's input.
    pub inputs: Vec<Option<usize>>,
    /// Kernel, stride and padding, where it has them.
    pub window: Option<Pool>,
    /// Its variables, in Keras's order.
    pub variables: Vec<VariableSpec>,
    /// What normalization adds to the variance; 0 for other layers.
    pub epsilon: f64,
}

/// A network's layers and how they hang together, as an importer compares them with a file's.
#[derive(Debug, Clone)]
pub struct Graph {
    /// In the order of the network's `walk`: what a layer takes comes before it.
    pub layers: Vec<GraphLayer>,
    /// The last layer; nothing for a network without layers.
    pub output: Option<usize>,
}

impl Graph {
    /// The layers of `network`.
    pub fn of<B: Backend, N: Network<B>>(network: &N) -> Self {
        let mut layers = Collect::default();
        // Nothing is computed, so nothing can fail.
        let output = network.walk(&mut layers, None).ok().flatten();
        Self { layers: layers.0, output }
    }

    /// The layers' numbers in the order of Keras's `model.layers`, which decides on names and order in its
    /// files (`keras/src/ops/function.py`, `map_graph`): by distance to the output, the farthest first, then
    /// in the order in which a search from the output meets them.
    #[must_use]
    pub fn keras_order(&self) -> Vec<usize> {
        let count = self.layers.len();
        let (mut met, mut meetings, mut finished) = (vec![usize::MAX; count], 0, Vec::new());
        if let Some(output) = self.output {
            // A layer and how many of its inputs have been looked at.
            let mut path = vec![(output, 0)];
            while let Some((layer, next)) = path.last_mut() {
                let layer = *layer;
                if met[layer] == usize::MAX {
                    met[layer] = meetings;
                    meetings += 1;
                }
                match self.layers[layer].inputs.get(*next) {
                    Some(input) => {
                        *next += 1;
                        // Keras counts its InputLayer too, but that moves all others alike.
                        if let Some(input) = input.filter(|&input| met[input] == usize::MAX) {
                            path.push((input, 0));
                        }
                    }
                    None => {
                        finished.push(layer);
                        path.pop();
                    }
                }
            }
        }
        let mut depths = vec![0_usize; count];
        for &layer in finished.iter().rev() {
            for input in self.layers[layer].inputs.iter().flatten() {
                depths[*input] = depths[*input].max(depths[layer] + 1);
            }
        }
        finished.sort_by_key(|&layer| (usize::MAX - depths[layer], met[layer]));
        finished
    }
}

#[derive(Default)]
struct Collect(Vec<GraphLayer>);

impl<B: Backend> Interpreter<B> for Collect {
    type Value = Option<usize>;

    fn layer(
        &mut self,
        name: &str,
        op: Op<'_, B>,
        inputs: Vec<Option<usize>>,
    ) -> Result<Option<usize>, NetworkError> {
        let (window, epsilon) = match op {
            Op::Conv2d(conv) => {
                let (kernel, stride, padding) = (conv.kernel, conv.stride, conv.padding);
                (Some(Pool { kernel, stride, padding }), 0.0)
            }
            Op::MaxPool(pool) | Op::AvgPool(pool) => (Some(pool), 0.0),
            Op::BatchNorm(norm) => (None, norm.epsilon),
            _ => (None, 0.0),
        };
        let (name, kind, variables) = (name.to_owned(), op.kind(), op.variables());
        self.0.push(GraphLayer { name, kind, inputs, window, variables, epsilon });
        Ok(Some(self.0.len() - 1))
    }
}

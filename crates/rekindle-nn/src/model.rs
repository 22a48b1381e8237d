use burn::module::Module;
use burn::tensor::backend::Backend;

use crate::{
    Backbone, Graph, GraphLayer, Head, Interpreter, Network, NetworkError, Shape, Summarize,
    Summary,
};

/// A network that tells classes apart: a backbone with a head on it, or with its own top.
#[derive(Module, Debug)]
pub struct Model<B: Backend> {
    /// The pre-trained network.
    pub backbone: Backbone<B>,
    /// What stands on it; nothing, where the network has its own top.
    pub head: Option<Head<B>>,
}

impl<B: Backend> Network<B> for Model<B> {
    fn walk<I: Interpreter<B>>(&self, it: &mut I, x: I::Value) -> Result<I::Value, NetworkError> {
        let features = self.backbone.walk(it, x)?;
        self.walk_head(it, features)
    }
}

impl<B: Backend> Model<B> {
    fn walk_head<I: Interpreter<B>>(
        &self,
        it: &mut I,
        x: I::Value,
    ) -> Result<I::Value, NetworkError> {
        match &self.head {
            Some(head) => head.walk(it, x),
            None => Ok(x),
        }
    }

    /// How many classes it tells apart; 0 for a network with neither head nor top.
    #[must_use]
    pub fn classes(&self) -> usize {
        let top = self.backbone.architecture().classes();
        self.head.as_ref().map(Head::classes).or(top).unwrap_or_default()
    }

    /// The table of layers, with the backbone's parameters counted as frozen.
    ///
    /// # Errors
    /// When the input is too small for the network.
    pub fn summary_frozen(&self, input: Shape) -> Result<Summary, NetworkError> {
        let mut summarize = Summarize::default();
        let x = summarize.input("input_layer", input);
        summarize.freeze(true);
        let features = self.backbone.walk(&mut summarize, x)?;
        summarize.freeze(false);
        self.walk_head(&mut summarize, features)?;
        Ok(summarize.finish())
    }

    /// The last layer behind which the model can be cut so that nothing before the cut trains or is random, where
    /// `trains` says which layers do, by their Keras names: up to here a sample's values never change. Nothing, where
    /// only the input is before all that trains.
    #[must_use]
    pub fn cut(&self, trains: &dyn Fn(&str) -> bool) -> Option<String> {
        let layers = Graph::of(self).layers;
        let changes = |layer: &GraphLayer| {
            layer.kind == "Dropout" || (!layer.variables.is_empty() && trains(&layer.name))
        };
        let first = layers.iter().position(changes).unwrap_or(layers.len());
        // The earliest layer that any layer from a number on takes the output of; 0 is the input here.
        let mut earliest = vec![usize::MAX; layers.len() + 1];
        for (number, layer) in layers.iter().enumerate().rev() {
            let own = layer.inputs.iter().map(|input| input.map_or(0, |input| input + 1)).min();
            earliest[number] = earliest[number + 1].min(own.unwrap_or_default());
        }
        let is_cut = |&number: &usize| earliest[number + 1] > number;
        let cut = (0..first).rev().find(is_cut)?;
        Some(layers[cut].name.clone())
    }
}

use burn::module::Module;
use burn::tensor::backend::Backend;

use crate::{Backbone, Head, Interpreter, Network, NetworkError, Op, Shape, Summarize, Summary};

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

    /// The last layer before anything that trains or is random, where the backbone is frozen: up to
    /// here a sample's values never change.
    #[must_use]
    pub fn frozen_end(&self) -> String {
        let mut end = LastFixed::default();
        let _ = self.backbone.walk(&mut end, ());
        end.frozen = false;
        let _ = self.walk_head(&mut end, ());
        end.name
    }
}

/// Remembers the name of the last layer of the part that is always the same.
struct LastFixed {
    name: String,
    frozen: bool,
    ended: bool,
}

impl Default for LastFixed {
    fn default() -> Self {
        Self { name: String::new(), frozen: true, ended: false }
    }
}

impl<B: Backend> Interpreter<B> for LastFixed {
    type Value = ();

    fn layer(&mut self, name: &str, op: Op<'_, B>, _: Vec<()>) -> Result<(), NetworkError> {
        self.ended |= !self.frozen && !op.is_fixed();
        if !self.ended {
            name.clone_into(&mut self.name);
        }
        Ok(())
    }
}

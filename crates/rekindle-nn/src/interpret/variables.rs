use std::collections::{HashMap, HashSet};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Tensor, TensorData, backend::Backend};

use crate::{Interpreter, Network, NetworkError, Op, VariableSpec};

/// One variable of a network: the layer that has it, and what Keras knows of it.
#[derive(Debug, Clone)]
pub struct Variable {
    /// The layer's Keras name.
    pub layer: String,
    /// Keras's layer class.
    pub kind: &'static str,
    /// Name, shape and layout.
    pub spec: VariableSpec,
}

impl Variable {
    /// `layer/variable`, as in `Conv1/kernel`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}", self.layer, self.spec.name)
    }
}

/// Every variable of a network, in the order of its layers.
pub fn variables<B: Backend, N: Network<B>>(network: &N) -> Vec<Variable> {
    let mut collect = Collect::default();
    // Nothing is computed, so nothing can fail.
    let _ = network.walk(&mut collect, ());
    collect.0
}

#[derive(Default)]
struct Collect(Vec<Variable>);

impl<B: Backend> Interpreter<B> for Collect {
    type Value = ();

    fn layer(&mut self, name: &str, op: Op<'_, B>, _: Vec<()>) -> Result<(), NetworkError> {
        let kind = op.kind();
        let variable = |spec| Variable { layer: name.to_owned(), kind, spec };
        self.0.extend(op.variables().into_iter().map(variable));
        Ok(())
    }
}

/// The module with new values, in Burn's layout, for the parameters in `values`.
///
/// Each value must have its parameter's shape: the importers check that.
pub fn assign<B: Backend, M: Module<B>>(module: M, values: HashMap<ParamId, TensorData>) -> M {
    struct Assign(HashMap<ParamId, TensorData>);

    impl<B: Backend> ModuleMapper<B> for Assign {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
            match self.0.remove(&param.id) {
                Some(data) => {
                    let tensor = Tensor::from_data(data, &param.lazy_device());
                    let id = param.id;
                    param.transform_for_load(tensor, id)
                }
                None => param,
            }
        }
    }
    module.map(&mut Assign(values))
}

/// The network with gradients for its trainable variables: a copy from a backend without gradients has none.
pub fn require_gradients<B: Backend, N: Network<B>>(network: N) -> N {
    require_gradients_of(network, &|_| true)
}

/// The network with gradients for the trainable variables of the layers that `trains` picks by their Keras names, and
/// for no others.
pub fn require_gradients_of<B: Backend, N: Network<B>>(
    network: N,
    trains: &dyn Fn(&str) -> bool,
) -> N {
    struct Require(HashSet<ParamId>);

    impl<B: Backend> ModuleMapper<B> for Require {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
            let trainable = self.0.contains(&param.id);
            param.set_require_grad(trainable)
        }
    }
    let trainable = variables(&network)
        .into_iter()
        .filter(|variable| variable.spec.trainable && trains(&variable.layer));
    let trainable = trainable.map(|variable| variable.spec.id).collect();
    network.map(&mut Require(trainable))
}

/// The values of every parameter, in Burn's layout.
pub fn read<B: Backend, M: Module<B>>(module: &M) -> HashMap<ParamId, TensorData> {
    struct Read(HashMap<ParamId, TensorData>);

    impl<B: Backend> ModuleVisitor<B> for Read {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            self.0.insert(param.id, param.val().into_data());
        }
    }
    let mut values = Read(HashMap::new());
    module.visit(&mut values);
    values.0
}

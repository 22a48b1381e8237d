use std::collections::{HashMap, HashSet};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Tensor, TensorData, backend::Backend};

use crate::Network;

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
pub fn require_gradients<B: Backend>(network: Network<B>) -> Network<B> {
    require_gradients_of(network, &|_| true)
}

/// The network with gradients for the trainable variables of the layers that `trains` picks by their Keras names, and
/// for no others.
pub fn require_gradients_of<B: Backend>(
    network: Network<B>,
    trains: &dyn Fn(&str) -> bool,
) -> Network<B> {
    struct Require(HashSet<ParamId>);

    impl<B: Backend> ModuleMapper<B> for Require {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
            let trainable = self.0.contains(&param.id);
            param.set_require_grad(trainable)
        }
    }
    let trainable = network
        .variables()
        .into_iter()
        .filter(|variable| variable.spec.trainable && trains(&variable.layer));
    let trainable = trainable.map(|variable| variable.id).collect();
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

use burn::module::{Param, ParamId};
use burn::tensor::{Shape, Tensor, TensorData, backend::Backend};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::VariableSpec;
use crate::variable::Initializer;

/// A stream of random numbers that depends on the seed and the layer's name only, so that a network
/// starts with the same numbers on every backend and whatever was made before it.
pub(crate) fn stream(seed: u64, name: &str) -> ChaCha8Rng {
    // FNV-1a: the name picks the stream.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(hash);
    rng
}

/// A layer's parameter, as Keras starts it; made only if nothing is loaded over it.
pub(crate) fn parameter<B: Backend, const D: usize>(
    shape: [usize; D],
    layer: &str,
    spec: &VariableSpec,
    seed: u64,
    device: &B::Device,
) -> Param<Tensor<B, D>> {
    // A layer's second kernel has a stream of its own.
    let name =
        if spec.name == "kernel" { layer.to_owned() } else { format!("{layer}/{}", spec.name) };
    let initializer = spec.initializer;
    let init = move |device: &B::Device, require_grad: bool| {
        let count = shape.iter().product();
        let values: Vec<f32> = match initializer {
            Initializer::Constant(value) => vec![value; count],
            Initializer::Glorot([fan_in, fan_out]) => {
                let limit = (6.0 / (fan_in + fan_out) as f64).sqrt() as f32;
                let mut rng = stream(seed, &name);
                (0..count).map(|_| limit * (2.0 * rng.random::<f32>() - 1.0)).collect()
            }
        };
        let tensor = Tensor::from_data(TensorData::new(values, shape), device);
        tensor.set_require_grad(require_grad)
    };
    Param::uninitialized(ParamId::new(), init, device.clone(), spec.trainable, Shape::from(shape))
}

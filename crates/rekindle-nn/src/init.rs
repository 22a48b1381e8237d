use burn::module::{Param, ParamId};
use burn::tensor::{Shape, Tensor, TensorData, backend::Backend};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

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

/// Keras's default kernel initializer, Glorot uniform; made only if nothing is loaded over it.
pub(crate) fn glorot_uniform<B: Backend, const D: usize>(
    shape: [usize; D],
    [fan_in, fan_out]: [usize; 2],
    seed: u64,
    name: &str,
    device: &B::Device,
) -> Param<Tensor<B, D>> {
    let limit = (6.0 / (fan_in + fan_out) as f64).sqrt() as f32;
    let name = name.to_owned();
    lazy(shape, true, device, move |count| {
        let mut rng = stream(seed, &name);
        (0..count).map(|_| limit * (2.0 * rng.random::<f32>() - 1.0)).collect()
    })
}

pub(crate) fn constant<B: Backend>(
    value: f32,
    size: usize,
    trainable: bool,
    device: &B::Device,
) -> Param<Tensor<B, 1>> {
    lazy([size], trainable, device, move |count| vec![value; count])
}

fn lazy<B: Backend, const D: usize>(
    shape: [usize; D],
    trainable: bool,
    device: &B::Device,
    values: impl Fn(usize) -> Vec<f32> + Send + Sync + 'static,
) -> Param<Tensor<B, D>> {
    let init = move |device: &B::Device, require_grad: bool| {
        let data = TensorData::new(values(shape.iter().product()), shape);
        Tensor::from_data(data, device).set_require_grad(require_grad)
    };
    Param::uninitialized(ParamId::new(), init, device.clone(), trainable, Shape::from(shape))
}

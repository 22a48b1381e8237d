use super::attempt;

/// Weights of two layers, `conv2d` and `dense`, for the index to lead to.
const SHARD: &[u8] = include_bytes!("../seeds/hdf5/keras3.weights.h5");

/// An index of Keras 3's sharded weights.
pub fn run(data: &[u8]) {
    let files = [("x.weights.json", data), ("x_00000.weights.h5", SHARD)];
    attempt::attempt_folder(&files, "x.weights.json");
}

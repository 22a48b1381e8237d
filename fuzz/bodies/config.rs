use super::attempt;
use std::io::{Cursor, Write};

/// Weights of two layers, `conv2d` and `dense`, so that configurations get as far as their tensors.
const WEIGHTS: &[u8] = include_bytes!("../seeds/hdf5/keras3.weights.h5");

/// A `.keras` file whose configuration is the input: a fuzzer does not find its way through a zip's checksums.
pub fn run(data: &[u8]) {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in [("config.json", data), ("model.weights.h5", WEIGHTS)] {
        archive.start_file(name, options).expect("starts");
        archive.write_all(bytes).expect("writes");
    }
    let bytes = archive.finish().expect("finishes").into_inner();
    attempt::attempt(&bytes, ".keras");
}

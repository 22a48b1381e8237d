use super::attempt;
use std::io::{Cursor, Write};

/// A zip as it is, or behind a first byte of 1 one array of an archive: a fuzzer does not find its way through a zip's
/// checksums.
pub fn run(data: &[u8]) {
    let [1, array @ ..] = data else { return attempt::attempt(data, ".npz") };
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    archive.start_file("layer/kernel.npy", options).expect("starts");
    archive.write_all(array).expect("writes");
    let bytes = archive.finish().expect("finishes").into_inner();
    attempt::attempt(&bytes, ".npz");
}

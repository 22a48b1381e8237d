use std::io::Write;

use rekindle_weights::Checkpoint;

/// Opens a file of these bytes, finds out what it holds, and reads every tensor. Errors are fine.
pub fn attempt(data: &[u8], ending: &str) {
    let mut file = tempfile::Builder::new().suffix(ending).tempfile().expect("a file");
    file.write_all(data).expect("writes");
    let Ok(checkpoint) = Checkpoint::open(file.path()) else { return };
    let Ok(mut checkpoint) = checkpoint.resolve() else { return };
    for index in 0..checkpoint.tensors().len() {
        // The largest that a file can claim is a thousand times its size; a fuzzer's memory is less.
        if checkpoint.tensors()[index].count() < 1 << 22 {
            let _ = checkpoint.read(index);
        }
    }
}

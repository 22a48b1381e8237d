use super::attempt;

/// A file of these bytes.
pub fn run(data: &[u8]) {
    attempt::attempt(data, ".tflite");
}

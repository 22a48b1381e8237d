//! The Burn code that burn-onnx generates of exported networks.

/// A network's code.
macro_rules! generated {
    ($($name:ident),*) => {$(
        #[allow(warnings, clippy::all)]
        pub mod $name {
            include!(concat!(env!("OUT_DIR"), "/model/", stringify!($name), ".rs"));
        }
    )*};
}

generated!(mobilenet_v2, resnet_50, efficientnet_b0, convnext_tiny, head);

/// What was written of a network beside its code: `input` or `output`.
#[must_use]
pub fn values(name: &str, what: &str) -> Vec<f32> {
    let path = format!("{}/{name}.{what}", env!("OUT_DIR"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    bytes.as_chunks::<4>().0.iter().map(|&word| f32::from_le_bytes(word)).collect()
}

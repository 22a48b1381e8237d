/// MobileNetV2 1.0 without top, in f16: `crates/rekindle-weights/bundled/README.md` says what it is.
#[cfg(feature = "bundled")]
pub(crate) const MOBILENET_V2: Option<&[u8]> =
    Some(include_bytes!("../bundled/mobilenet_v2_1.0_160_dogs_f16.safetensors"));
#[cfg(not(feature = "bundled"))]
pub(crate) const MOBILENET_V2: Option<&[u8]> = None;

//! The architectures, one file each.

pub mod inception_v3;
pub mod mobilenet_v2;

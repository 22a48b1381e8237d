//! What each target does with its input. libFuzzer's programs in `targets/` call one of them;
//! `crates/rekindle-weights/tests/seeds.rs` calls all of them with changed seeds, on stable Rust.

#![allow(dead_code, reason = "a program of libFuzzer calls one")]

mod attempt;
pub mod config;
pub mod hdf5;
pub mod hugging_face;
pub mod keras;
pub mod npz;
pub mod onnx;
pub mod photos;
pub mod safetensors;
pub mod saved_model;
pub mod sharded;
pub mod tf_checkpoint;
pub mod tfjs;
pub mod tflite;

/// What is done with an input.
pub type Target = fn(&[u8]);

/// Every target, by the name of its seeds' folder.
pub const ALL: &[(&str, Target)] = &[
    ("config", config::run),
    ("hdf5", hdf5::run),
    ("hugging_face", hugging_face::run),
    ("keras", keras::run),
    ("npz", npz::run),
    ("onnx", onnx::run),
    ("photos", photos::run),
    ("safetensors", safetensors::run),
    ("saved_model", saved_model::run),
    ("sharded", sharded::run),
    ("tf_checkpoint", tf_checkpoint::run),
    ("tfjs", tfjs::run),
    ("tflite", tflite::run),
];

//! Tests that cross crates. Each prints what it skipped, and why.

mod api;
mod checkpoints;
mod dogs;
mod fine_tune;
mod gpu;
mod gpu_dense;
mod gpu_kernels;
mod house;
mod images;
mod networks;
mod plan;
mod train;
mod trainer;

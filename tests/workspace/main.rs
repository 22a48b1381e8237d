//! Tests that cross crates. Each prints what it skipped, and why.

mod dogs;
mod images;
mod networks;
mod train;
mod wgpu;

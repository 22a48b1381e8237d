//! One file for each command.

pub mod demo;
pub mod evaluate;
pub mod predict;
pub mod summary;
pub mod train;

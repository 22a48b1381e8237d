//! Nothing: the benches are `forward.rs` and `head.rs`; docs/performance.md has the commands and figures.

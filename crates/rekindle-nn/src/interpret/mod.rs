//! What a walk over a network's layers can mean.

mod eager;
mod graph;
mod section;
mod summarize;
mod variables;

pub use eager::{Eager, Features, as_type, pad};
pub use graph::{Graph, GraphLayer};
pub use section::{Section, unknown_layer};
pub use summarize::{LayerRow, Parameters, Summarize, Summary};
pub use variables::{Variable, assign, read, require_gradients, require_gradients_of, variables};

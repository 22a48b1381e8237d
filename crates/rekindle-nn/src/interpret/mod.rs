//! What a walk over a network's layers can mean.

mod eager;
mod section;
mod summarize;
mod variables;

pub use eager::{Eager, Features};
pub use section::Section;
pub use summarize::{LayerRow, Parameters, Summarize, Summary};
pub use variables::{Variable, assign, read, variables};

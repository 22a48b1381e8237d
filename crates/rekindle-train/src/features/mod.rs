//! What the frozen part of a network makes of photos, once or in each epoch, and how it is kept.

mod ahead;
mod batches;
mod cache;
mod compute;
mod prefix;
mod rows;
mod source;
mod store;

pub(crate) use batches::{Batch, Batches, Live, Stored};
pub use cache::FeatureCache;
pub(crate) use compute::{Recipe, Views};
pub(crate) use prefix::Prefix;
pub use source::FeatureSource;
pub use store::FeatureStore;

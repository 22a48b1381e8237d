use super::Settings;
use crate::ops::Dense;
use crate::{Activation, Graph, GraphBuilder, NetworkError, Value};

/// How most of Keras's networks end: the base, and where there is a top the means of its maps and a dense layer.
pub(super) fn pooled_top(
    mut net: GraphBuilder,
    mut x: Value,
    settings: &Settings,
    pool: &str,
) -> Result<Graph, NetworkError> {
    net.mark_base(x, None);
    if let Some(classes) = settings.classes {
        x = net.global_average_pool(pool, x)?;
        x = net.dense("predictions", x, Dense::new(classes, Activation::Softmax))?;
    }
    net.finish(x)
}

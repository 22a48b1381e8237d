//! What a model does to RGB from 0 to 255 before its first weights, as PyTorch's programs say it.

use std::collections::HashSet;

use rekindle_nn::{Graph, Op, Source};
use rekindle_pixels::{Linear, Middle, Preprocessing};
use serde_json::{Map, Value, json};

use crate::ModelCard;
use crate::export::Variables;
use crate::graph::without;
use crate::torch::Scaling;

/// The least deviation that Keras's `Normalization` divides by.
const LEAST: f64 = 1e-7;

/// A network's images.
pub(super) struct Photos {
    /// The network without the layers that scale its images.
    pub graph: Graph,
    /// What images from 0 to 1 are scaled by, channel by channel of RGB.
    pub scaling: Scaling,
    /// Which channel of RGB each channel is that the network takes.
    pub order: Vec<usize>,
}

impl Photos {
    /// Those of a model.
    pub fn of(card: &ModelCard, variables: &Variables) -> Result<Self, String> {
        let mode: Preprocessing = card.preprocessing.parse()?;
        let channels = card.graph.input().channels();
        let Linear { source: order, mut scale, mut offset } = mode.linear(channels);
        let graph = &card.graph;
        let (mut gone, mut source) = (HashSet::new(), Source::Input);
        loop {
            let mut readers = graph.layers().iter().enumerate();
            let mut readers = readers.by_ref().filter(|(_, layer)| layer.inputs == [source]);
            let (Some((position, layer)), None) = (readers.next(), readers.next()) else { break };
            let (by, plus) = match &layer.op {
                Op::Rescaling(rescaling) => (rescaling.scale.clone(), rescaling.offset.clone()),
                Op::Normalization(norm) if !norm.invert => {
                    let given = match &norm.given {
                        Some(given) => Some((given.mean.clone(), given.variance.clone())),
                        None => {
                            let values = |variable: &str| {
                                let name = (layer.name.clone(), variable.to_owned());
                                let (_, values) = variables.get(&name)?;
                                Some(values.iter().map(|value| f64::from(*value)).collect())
                            };
                            values("mean").zip(values("variance"))
                        }
                    };
                    let (mean, variance): (Vec<f64>, Vec<f64>) = given
                        .ok_or_else(|| format!("`{}` has no mean and variance", layer.name))?;
                    let by: Vec<f64> =
                        variance.iter().map(|one| 1.0 / one.sqrt().max(LEAST)).collect();
                    let plus = mean.iter().zip(&by).map(|(mean, by)| -mean * by).collect();
                    (by, plus)
                }
                _ => break,
            };
            let each = |numbers: &[f64]| -> Option<Vec<f64>> {
                match numbers {
                    [one] => Some(vec![*one; channels]),
                    all => (all.len() == channels).then(|| all.to_vec()),
                }
            };
            let (Some(by), Some(plus)) = (each(&by), each(&plus)) else { break };
            for channel in 0..channels {
                scale[channel] *= by[channel];
                offset[channel] = offset[channel] * by[channel] + plus[channel];
            }
            gone.insert(position);
            source = Source::Layer(position);
        }
        let mut scaling = Scaling { mean: vec![0.0; channels], deviation: vec![1.0; channels] };
        for (channel, &from) in order.iter().enumerate() {
            let (by, plus) = (scale[channel], offset[channel]);
            if !(by.is_finite() && by > 0.0 && plus.is_finite()) {
                return Err(format!(
                    "its images are multiplied by {by}: PyTorch's programs take a mean and a deviation, which is more than 0"
                ));
            }
            scaling.mean[from] = -plus / by / 255.0;
            scaling.deviation[from] = 1.0 / (by * 255.0);
        }
        Ok(Self { graph: without(graph, &gone)?, scaling, order })
    }
}

/// A card's settings of photos in the words of timm's `pretrained_cfg`: what it has words for.
pub(super) fn settings(card: &ModelCard, scaling: &Scaling) -> Map<String, Value> {
    let mut settings = Map::new();
    if let Some([height, width, channels]) = card.graph.input().as_map() {
        settings.insert("input_size".into(), json!([channels, height, width]));
    }
    settings.insert("mean".into(), json!(scaling.mean));
    settings.insert("std".into(), json!(scaling.deviation));
    // Pillow's filters; TensorFlow's are none of timm's.
    let resize = card.resize.as_deref().unwrap_or(ModelCard::RESIZE);
    if card.photo_resize.is_some() || resize.starts_with("tf-") {
        return settings;
    }
    let (share, mode) = match card.photo_middle {
        Some(Middle { shorter, kept }) => (kept as f64 / shorter as f64, "center"),
        None => (1.0, "squash"),
    };
    settings.insert("interpolation".into(), resize.into());
    settings.insert("crop_pct".into(), json!(share));
    settings.insert("crop_mode".into(), mode.into());
    settings
}

//! What images are scaled by.

use rekindle_nn::ops::Rescaling;
use rekindle_nn::{Base, Graph, Layer, Source};

use crate::ModelCard;

/// Means and deviations of images from 0 to 1, by their channels.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scaling {
    pub mean: Vec<f64>,
    pub deviation: Vec<f64>,
}

/// Scales a network's images: by a card's own word for it, or else in a layer in front.
pub(super) fn scale(card: &mut ModelCard, scaling: &Scaling) -> Result<(), String> {
    let Scaling { mean, deviation } = scaling;
    let is = |means: [f64; 3], deviations: [f64; 3]| {
        let near = |a: &[f64], b: [f64; 3]| {
            a.len() == 3 && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6)
        };
        near(mean, means) && near(deviation, deviations)
    };
    card.preprocessing = if is([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]) {
        "torch".into()
    } else if is([0.5; 3], [0.5; 3]) {
        "tf".into()
    } else if is([0.0; 3], [1.0 / 255.0; 3]) {
        "none".into()
    } else {
        let channels = card.graph.input().channels();
        if mean.len() != channels || deviation.len() != channels {
            return Err(format!(
                "found {} means and {} deviations, expected {channels}, one for each channel",
                mean.len(),
                deviation.len()
            ));
        }
        let scale: Vec<f64> = deviation.iter().map(|deviation| 1.0 / (255.0 * deviation)).collect();
        let offset =
            mean.iter().zip(deviation).map(|(mean, deviation)| -mean / deviation).collect();
        card.graph = behind(&card.graph, Rescaling { scale, offset })?;
        "none".into()
    };
    Ok(())
}

/// The graph with a layer in front that scales its images.
fn behind(graph: &Graph, rescaling: Rescaling) -> Result<Graph, String> {
    let moved = |source: &Source| match source {
        Source::Input => Source::Layer(0),
        Source::Layer(position) => Source::Layer(position + 1),
    };
    let mut layers =
        vec![Layer { name: "rescaling".into(), op: rescaling.into(), inputs: vec![Source::Input] }];
    layers.extend(
        graph.layers().iter().map(|layer| Layer {
            inputs: layer.inputs.iter().map(moved).collect(),
            ..layer.clone()
        }),
    );
    let base = graph.base();
    let base = Base { layers: base.layers + 1, output: moved(&base.output), ..base };
    Graph::new(graph.input(), layers, moved(&graph.output()), base)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use rekindle_nn::{Architecture, Op};

    use super::*;

    #[test]
    fn channels_of_other_means_are_scaled_in_front() {
        let known = Architecture::by_name("resnet-50").expect("known").with_size(32);
        let mut card = ModelCard::new(known.graph().expect("valid"));
        let before = card.graph.layers().len();
        let scaling = Scaling { mean: vec![0.1, 0.2, 0.3], deviation: vec![1.0, 0.5, 0.25] };
        scale(&mut card, &scaling).expect("scales");
        assert_eq!((card.preprocessing.as_str(), card.graph.layers().len()), ("none", before + 1));
        let Op::Rescaling(rescaling) = &card.graph.layers()[0].op else {
            panic!("a layer in front")
        };
        assert!(
            (rescaling.scale[2] * 255.0 - 4.0).abs() < 1e-9
                && (rescaling.offset[1] + 0.4).abs() < 1e-9
        );
        let wrong = Scaling { mean: vec![0.1], deviation: vec![1.0] };
        assert!(scale(&mut card, &wrong).expect_err("one channel").contains("expected 3"));
    }
}

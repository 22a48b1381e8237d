//! The size of the photos that a model takes, where its own input says none: a `Resizing` in front of it decides.

use rekindle_nn::keras::LayerConfig;
use rekindle_nn::ops::{Fit, Interpolation, Resizing};
use rekindle_nn::{Op, Shape};

use super::config::{Flat, Link, Node};
use super::operators::is_operation;

/// What a model's input says of its images.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Images {
    /// The shape of the images that the graph takes; nothing where the file does not say their size.
    pub shape: Option<Shape>,
    /// How many channels they have.
    pub channels: usize,
    /// The node that resizes photos to that, which is then no layer of the graph.
    pub resizing: Option<(usize, Resizing)>,
}

/// The most values of an image that is believed of a file.
const MOST_PIXELS: usize = 1 << 28;

/// Finds out what images a model takes; `size` is for files that do not say it.
pub(super) fn images(flat: &Flat, size: Option<[usize; 2]>) -> Result<Images, String> {
    let mut sizes = [None; 3];
    for said in &flat.images {
        for (known, said) in sizes.iter_mut().zip(said) {
            match (*known, *said) {
                (Some(known), Some(said)) if known != said => {
                    return Err(format!(
                        "the model's inputs do not agree on the images: found {said}, expected {known}"
                    ));
                }
                (None, Some(said)) => *known = Some(said),
                _ => {}
            }
        }
    }
    let [height, width, channels] = sizes;
    if let (true, Some(&count)) = (flat.images.is_empty(), flat.vectors.first()) {
        return Ok(Images { shape: Some(Shape::Flat(count)), channels: count, resizing: None });
    }
    let Some(channels) = channels else {
        return Err("the model does not say how many channels its images have".into());
    };
    let shape = |height: usize, width: usize| {
        let shape = Shape::map(height, width, channels);
        match shape.checked_count() {
            Some(1..=MOST_PIXELS) => Ok(shape),
            _ => Err(format!(
                "the model takes images of {shape}, expected at most {MOST_PIXELS} values"
            )),
        }
    };
    if let (Some(height), Some(width)) = (height, width) {
        return Ok(Images { shape: Some(shape(height, width)?), channels, resizing: None });
    }
    if let Some((position, resizing)) = leading(flat)? {
        let shape = Some(shape(resizing.height, resizing.width)?);
        return Ok(Images { shape, channels, resizing: Some((position, resizing)) });
    }
    let shape = match size {
        Some([rows, columns]) => Some(shape(height.unwrap_or(rows), width.unwrap_or(columns))?),
        None => None,
    };
    Ok(Images { shape, channels, resizing: None })
}

/// The `Resizing` that all of the image goes through, before anything that needs its size.
fn leading(flat: &Flat) -> Result<Option<(usize, Resizing)>, String> {
    let mut link = Link::Image;
    let mut is_changed = false;
    loop {
        let mut readers = flat.nodes.iter().enumerate();
        let is_reader = |(_, node): &(usize, &Node)| node.inputs().any(|input| input == link);
        let Some((position, node)) = readers.find(is_reader) else { return Ok(None) };
        if readers.any(|other| is_reader(&other)) {
            return Ok(None);
        }
        if node.class == "Resizing" {
            let config = LayerConfig::new(&node.name, &node.class, node.generation, &node.config);
            let read = Op::from_keras(config).map_err(|error| error.to_string())?;
            let Some(Op::Resizing(resizing)) = read else { return Ok(None) };
            // What is put around an image would be scaled too.
            if is_changed && matches!(resizing.fit, Fit::Pad(_)) {
                return Err(format!(
                    "layer `{}` (Resizing): `pad_to_aspect_ratio` is true behind layers that change the pixels, expected false",
                    node.name
                ));
            }
            return Ok(Some((position, resizing)));
        }
        let is_scaling = node.class == "Rescaling" || is_operation(node);
        if !is_scaling && !node.class.starts_with("Random") || node.class == "RandomCrop" {
            return Ok(None);
        }
        is_changed |= is_scaling;
        link = Link::Node(position);
    }
}

/// How a card names a resize; nothing for one whose settings it has to have.
pub(super) fn plain(resizing: &Resizing) -> Option<&'static str> {
    let is_plain = !resizing.antialias && resizing.fit == Fit::Stretch;
    match resizing.interpolation {
        Interpolation::Bilinear if is_plain => Some("tf-bilinear"),
        Interpolation::Nearest if is_plain => Some("nearest"),
        _ => None,
    }
}

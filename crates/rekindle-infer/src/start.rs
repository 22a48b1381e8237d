//! What was found and what is assumed, in one line at the start.

use std::fmt;

use burn::tensor::backend::Backend;
use rekindle_nn::Graph;
use rekindle_vision::{ImageFolder, Middle};
use rekindle_weights::{Origin, Origins};

use crate::photos::Photos;
use crate::trained::TrainedModel;

/// The most classes that are named.
const NAMED: usize = 6;

/// What a training run begins with; prints as one line.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Start {
    /// The network's name, or how many layers it has.
    pub network: String,
    /// The classes that there are photos of, and how many there are of each, to train on and to validate on. Whether they
    /// can be decoded is not known yet.
    pub classes: Vec<(String, usize)>,
    /// Photos to train on.
    pub train_images: usize,
    /// Photos to validate on.
    pub valid_images: usize,
    /// How photos become the network's input.
    pub photos: Photos,
    /// Where that comes from.
    pub origins: Origins,
}

impl Start {
    /// Of photos by class, and how many of them are to train on and to validate on.
    #[doc(hidden)]
    pub fn new(
        network: String,
        classes: Vec<(String, usize)>,
        [train_images, valid_images]: [usize; 2],
        photos: Photos,
        origins: Origins,
    ) -> Self {
        Self { network, classes, train_images, valid_images, photos, origins }
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { network, classes, train_images, valid_images, photos, origins } = self;
        write!(
            f,
            "{} of {}, {train_images} to train on, {valid_images} to validate on; {network}; {}",
            count(train_images + valid_images, "photo"),
            classes_of(classes.iter().map(|(name, count)| (name.as_str(), Some(*count)))),
            photos.described(*origins)
        )
    }
}

/// `1 photo`, `2 photos`.
pub fn count(count: usize, what: &str) -> String {
    match (count, what.strip_suffix("s")) {
        (1, _) => format!("1 {what}"),
        (_, Some(_)) => format!("{count} {what}es"),
        _ => format!("{count} {what}s"),
    }
}

/// `3 classes (a 5, b 7, c 1)`.
pub(crate) fn classes_of<'a>(
    classes: impl ExactSizeIterator<Item = (&'a str, Option<usize>)>,
) -> String {
    let total = classes.len();
    let name = |(name, count): (&str, Option<usize>)| match count {
        Some(count) => format!("{name} {count}"),
        None => name.to_owned(),
    };
    let mut named: Vec<String> = classes.take(NAMED).map(name).collect();
    if total > named.len() {
        named.push(format!("and {} more", total - named.len()));
    }
    format!("{} ({})", count(total, "class"), named.join(", "))
}

/// The known network's name, without what the rest of the line says; or how many layers it has.
pub fn network_name(graph: &Graph) -> String {
    match graph.base().architecture {
        Some(known) => {
            let name = known.to_string();
            name.split_once(',').map_or(name.clone(), |(name, _)| name.to_owned())
        }
        None => format!("a network of {} layers", graph.layers().len()),
    }
}

impl Photos {
    /// How photos become the network's input, and where each setting comes from, in one line.
    #[must_use]
    pub fn described(&self, origins: Origins) -> String {
        let Self { height, width, preprocessing, transparency, orientation, .. } = *self;
        let decoding = self.decoding();
        let resize = match (self.resizing, self.middle) {
            (Some(_), _) => "as the model's layer Resizing does".to_owned(),
            (None, Some(Middle { shorter, kept })) if shorter == kept => {
                format!("{} of the middle square", self.resize.name())
            }
            (None, Some(Middle { shorter, kept })) => {
                format!("{} of the middle, {kept} of {shorter} pixels", self.resize.name())
            }
            (None, None) => self.resize.name().to_owned(),
        };
        let channels = match self.channels {
            1 => ", grey",
            4 => ", with opacity",
            _ => "",
        };
        let fast = match self.fast_decode {
            true => format!(", large ones decoded in part ({})", Origin::User),
            false => String::new(),
        };
        format!(
            "size {height} x {width}{channels} ({}), resize {resize} ({}), JPEG decoder {} (goes with the resize){fast}, \
             preprocessing {} ({}), transparency {} ({}), orientation {} ({})",
            origins.size,
            origins.resize,
            decoding.jpeg.name(),
            preprocessing.name(),
            origins.preprocessing,
            transparency.name(),
            origins.transparency,
            orientation.name(),
            origins.orientation
        )
    }
}

impl<B: Backend> TrainedModel<B> {
    /// What it is, and how it takes photos, in one line.
    #[must_use]
    pub fn described(&self) -> String {
        let classes = classes_of(self.classes().iter().map(|class| (class.as_str(), None)));
        let network = network_name(self.model().graph());
        format!("{network} of {classes}; {}", self.photos().described(self.origins()))
    }
}

/// The photos of a folder, in a few words: `5 photos of 2 classes (a 3, b 2)`.
#[must_use]
pub fn describe_folder(folder: &ImageFolder) -> String {
    let mut counts = vec![0; folder.classes().len()];
    folder.samples().iter().flat_map(|sample| &sample.labels).for_each(|&label| counts[label] += 1);
    let classes = folder.classes().iter().zip(counts);
    let classes = classes_of(classes.map(|(class, count)| (class.as_str(), Some(count))));
    format!("{} of {classes}", count(folder.samples().len(), "photo"))
}

#[cfg(test)]
mod tests {
    use rekindle_nn::Shape;
    use rekindle_vision::{Preprocessing, Resize};

    use super::*;

    #[test]
    fn one_line_says_what_was_found_and_assumed() {
        let input = Shape::map(160, 224, 3);
        let photos = Photos::new(input, Resize::TfBilinear, Preprocessing::Tf).expect("fits");
        let origins = Origins { size: Origin::User, resize: Origin::Assumed, ..Origins::default() };
        let classes = (0..8).map(|class| (format!("c{class}"), class)).collect();
        let start = Start {
            network: "mobilenet-v2".into(),
            classes,
            train_images: 20,
            valid_images: 8,
            photos,
            origins: Origins { preprocessing: Origin::Network, ..origins },
        };
        assert_eq!(
            start.to_string(),
            "28 photos of 8 classes (c0 0, c1 1, c2 2, c3 3, c4 4, c5 5, and 2 more), 20 to train on, 8 to validate on; \
             mobilenet-v2; size 160 x 224 (as asked), resize tf-bilinear (assumed), JPEG decoder tensorflow (goes with \
             the resize), preprocessing tf (the network's own), transparency white (from the file), orientation ignore \
             (from the file)"
        );
        assert_eq!(count(1, "photo"), "1 photo");
    }
}

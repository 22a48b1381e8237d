//! How a learner takes photos.

use burn::tensor::backend::AutodiffBackend;
use rekindle_nn::ops::Resizing;
use rekindle_nn::{Op, Shape};
use rekindle_vision::{Orientation, Preprocessing, Resize, Transparency, UnknownName};
use rekindle_weights::{ModelCard, Origin};

use super::TransferLearner;
use crate::error::TrainError;

impl<B: AutodiffBackend> TransferLearner<B> {
    /// Takes photos as the file that the network came from says, where it says anything of them.
    ///
    /// # Errors
    /// When it says what is not known here.
    pub fn photos_of(mut self, card: &ModelCard) -> Result<Self, TrainError> {
        let (origins, file) = (card.photo_origins(), Origin::File);
        let unknown = |setting, expected| {
            move |error: UnknownName| {
                let found = format!("`{}`", error.found);
                TrainError::Setting { setting, found, expected }
            }
        };
        if origins.size == file {
            self.origins.size = file;
        }
        if origins.preprocessing == file {
            let wrong = unknown("preprocessing", "one that this version knows");
            self.preprocessing = card.preprocessing.parse().map_err(wrong)?;
            self.origins.preprocessing = file;
        }
        if let (Some(resize), true) = (&card.resize, origins.resize == file) {
            let wrong = unknown("resize", "one that this version knows");
            self.resize = resize.parse().map_err(wrong)?;
            self.origins.resize = file;
        }
        if let Some(Op::Resizing(resizing)) = card.photo_resize {
            self.resizing = Some(resizing);
            self.origins.resize = file;
        }
        if let (Some(middle), true) = (card.photo_middle, origins.resize == file) {
            self.middle = Some(middle);
        }
        if let (Some(transparency), true) = (&card.transparency, origins.transparency == file) {
            let wrong = unknown("transparency", "one that this version knows");
            self.transparency = transparency.parse().map_err(wrong)?;
            self.origins.transparency = file;
        }
        if let (Some(orientation), true) = (&card.orientation, origins.orientation == file) {
            let wrong = unknown("orientation", "one that this version knows");
            self.orientation = orientation.parse().map_err(wrong)?;
            self.origins.orientation = file;
        }
        Ok(self)
    }

    /// Takes photos of this height and width in pixels; default is what the network was made for.
    ///
    /// # Errors
    /// When the network cannot take that size.
    pub fn images(mut self, height: usize, width: usize) -> Result<Self, TrainError> {
        let channels = self.network.graph().input().channels();
        self.network = self.network.with_input(Shape::map(height, width, channels))?;
        self.resizing = self.resizing.map(|own| Resizing { height, width, ..own });
        self.origins.size = Origin::User;
        Ok(self)
    }

    /// How photos are brought to the network's size; default [`Resize::Bilinear`].
    #[must_use]
    pub fn resize(mut self, resize: Resize) -> Self {
        self.resize = resize;
        self.resizing = None;
        self.middle = None;
        self.origins.resize = Origin::User;
        self
    }

    /// What becomes of photos' transparency; default [`Transparency::White`].
    #[must_use]
    pub fn transparency(mut self, transparency: Transparency) -> Self {
        self.transparency = transparency;
        self.origins.transparency = Origin::User;
        self
    }

    /// What becomes of photos' EXIF orientation; default [`Orientation::Ignore`], as in Keras.
    #[must_use]
    pub fn orientation(mut self, orientation: Orientation) -> Self {
        self.orientation = orientation;
        self.origins.orientation = Origin::User;
        self
    }

    /// Decodes large JPEGs at a half, quarter or eighth of their size: faster, with slightly other pixels than Keras's.
    #[must_use]
    pub fn fast_decode(mut self, fast: bool) -> Self {
        self.fast_decode = fast;
        self
    }

    /// How pixels become the network's input; default is what Keras's network takes.
    #[must_use]
    pub fn preprocessing(mut self, preprocessing: Preprocessing) -> Self {
        self.preprocessing = preprocessing;
        self.origins.preprocessing = Origin::User;
        self
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::{Autodiff, Flex};
    use rekindle_nn::{Architecture, Network};
    use rekindle_weights::Origins;

    use super::*;

    #[test]
    fn a_file_says_how_its_network_takes_photos() {
        let known = Architecture::by_name("mobilenet-v2").expect("known").with_size(32);
        let network: Network<Autodiff<Flex>> = known.init(&Default::default()).expect("fits");
        let mut card = ModelCard::new(network.graph().clone());
        card.preprocessing = "rescale:0.5:1".into();
        card.resize = Some("tf-bilinear".into());
        card.transparency = Some("drop".into());
        card.origins.transparency = Origin::Assumed;
        let learner = TransferLearner::new(network).photos_of(&card).expect("known settings");
        assert_eq!(learner.preprocessing.name(), "rescale:0.5:1");
        assert_eq!(
            (learner.resize, learner.transparency),
            (Resize::TfBilinear, Transparency::White)
        );
        assert_eq!(
            learner.origins,
            Origins {
                size: Origin::File,
                resize: Origin::File,
                preprocessing: Origin::File,
                transparency: Origin::Default,
                orientation: Origin::Default,
            }
        );
        let learner = learner.images(64, 48).expect("fits").resize(Resize::Nearest);
        assert_eq!((learner.origins.size, learner.origins.resize), (Origin::User, Origin::User));
        card.preprocessing = "unheard of".into();
        let error = learner.photos_of(&card).expect_err("unknown").to_string();
        assert!(error.contains("preprocessing") && error.contains("unheard of"), "{error}");
    }
}

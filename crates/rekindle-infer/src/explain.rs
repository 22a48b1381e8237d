use std::path::Path;

use burn::tensor::backend::Backend;
use image::RgbImage;
use rekindle_kernels::Precision;
use rekindle_kernels::train::{Pass, Trainer, TrainerConfig};
use rekindle_nn::{Op, Shape, Source};
use rekindle_vision::{Channels, Resize, resize};
use rekindle_weights::replace_file;

use crate::error::InferError;
use crate::frozen::Frozen;
use crate::prediction::{Prediction, best_class};
use crate::trained::TrainedModel;

/// Where a network looks when it takes a photo for a class: Grad-CAM (Selvaraju et al. 2017), the maps of the last layer
/// that still has places, each weighted by the mean gradient of the class's logit.
#[derive(Debug, Clone)]
pub struct Heatmap {
    /// The layer whose maps are weighted.
    pub layer: String,
    /// Rows and columns of `values`.
    pub size: [usize; 2],
    /// From 0 to 1.
    pub values: Vec<f32>,
    /// What the network says of the photo.
    pub prediction: Prediction,
    /// The class that is explained.
    pub class: usize,
    photo: RgbImage,
}

impl<B: Backend> TrainedModel<B> {
    /// Where the network looks in a photo for its best class, or for the class of this number.
    ///
    /// # Errors
    /// When the file is not an image, there is no such class, or the network has no pooling or flattening layer before
    /// its classes.
    pub fn explain(
        &self,
        path: impl AsRef<Path>,
        class: Option<usize>,
    ) -> Result<Heatmap, InferError> {
        // The heatmap is drawn on its colors.
        let decoding = self.photos().decoding().with_channels(Channels::Rgb);
        self.explain_image(&decoding.open(path)?.into_rgb(), class)
    }

    /// The same for a decoded photo.
    ///
    /// # Errors
    /// As [`explain`](Self::explain).
    pub fn explain_image(
        &self,
        photo: &RgbImage,
        class: Option<usize>,
    ) -> Result<Heatmap, InferError> {
        let prediction = self.predict_image(photo)?;
        let class = class.unwrap_or_else(|| best_class(prediction.probabilities()));
        if class >= self.classes().len() {
            let (found, expected) = (class.to_string(), "the number of one of the model's classes");
            return Err(InferError::Setting { setting: "class", found, expected });
        }
        let Some(cut) = self.last_maps() else {
            let found = "no layer that pools or flattens maps".to_owned();
            return Err(InferError::Setting {
                setting: "model",
                found,
                expected: "one before its classes",
            });
        };
        let photos = *self.photos();
        let (until, device) = (Some(cut), self.device());
        let frozen = Frozen::new(self.model(), until, Precision::F32, &device)?;
        let images = photos.input(&photos.of_rgb(photo))?;
        let (features, shape) =
            frozen.start(self.model(), until, images, &photos, &device)?.finish()?;
        let Shape::Map { height, width, channels } = shape else {
            unreachable!("what pools or flattens takes maps")
        };
        let config = TrainerConfig {
            after: Some(cut),
            input: shape,
            trains: &|_| false,
            live: &|_| false,
            input_gradient: true,
        };
        let mut trainer = Trainer::new(self.model(), &config)?;
        let outputs = trainer.forward(&features, Pass::Inference)?.len();
        let mut of_class = vec![0.0; outputs];
        of_class[class] = 1.0;
        let Some(gradient) = trainer.backward(&of_class)? else {
            unreachable!("a trainer that is asked for the input's gradient gives it")
        };
        let pixels = height * width;
        let mut values = vec![0.0_f32; pixels];
        for channel in 0..channels {
            let part = channel * pixels..(channel + 1) * pixels;
            let weight = gradient[part.clone()].iter().sum::<f32>() / pixels as f32;
            values.iter_mut().zip(&features[part]).for_each(|(value, x)| *value += weight * x);
        }
        let highest = values.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
        values.iter_mut().for_each(|value| *value = value.max(0.0) / highest);
        let (layer, photo) = (cut.to_owned(), photo.clone());
        Ok(Heatmap { layer, size: [height, width], values, prediction, class, photo })
    }
}

impl<B: Backend> TrainedModel<B> {
    /// The layer whose maps the network's outputs are made of, where a vector is made of maps on the way to them: the
    /// last one from which all of the outputs come.
    fn last_maps(&self) -> Option<&str> {
        let graph = self.model().graph();
        let mut source = graph.output();
        loop {
            let layer = &graph.layers()[source.layer()?];
            let [input] = layer.inputs[..] else { return None };
            if let (Shape::Flat(_), Shape::Map { .. }, Source::Layer(position)) =
                (graph.shape(source), graph.shape(input), input)
            {
                // Maps of one pixel have no places to show: a pool that keeps them, a classifier that is a convolution of them.
                let has_places = |position: usize| {
                    let shape = graph.shape(Source::Layer(position));
                    let is_dropout = matches!(graph.layers()[position].op, Op::Dropout(_));
                    !is_dropout
                        && shape.as_map().is_some_and(|[rows, columns, _]| rows * columns > 1)
                };
                let mut at = position;
                while !has_places(at) {
                    let &[Source::Layer(before)] = &graph.layers()[at].inputs[..] else { break };
                    at = before;
                }
                let found = if has_places(at) { at } else { position };
                return Some(&graph.layers()[found].name);
            }
            source = input;
        }
    }
}

impl Heatmap {
    /// The photo with the places that count in warm colors.
    ///
    /// # Errors
    /// When the photo is empty.
    pub fn overlay(&self) -> Result<RgbImage, InferError> {
        let [height, width] = self.size;
        let byte = |value: &f32| (value * 255.0).round() as u8;
        let bytes: Vec<u8> = self.values.iter().flat_map(|value| [byte(value); 3]).collect();
        let (columns, rows) = (width as u32, height as u32);
        let Some(small) = RgbImage::from_raw(columns, rows, bytes) else {
            unreachable!("three bytes for each place")
        };
        let (across, down) = (self.photo.width() as usize, self.photo.height() as usize);
        let heat = resize(&small, across, down, Resize::TfBilinear)?;
        let mut overlay = self.photo.clone();
        for (pixel, heat) in overlay.pixels_mut().zip(heat.values.as_chunks::<3>().0) {
            let color = jet(heat[0] / 255.0);
            for (value, color) in pixel.0.iter_mut().zip(color) {
                *value = (0.6 * f32::from(*value) + 0.4 * 255.0 * color).round() as u8;
            }
        }
        Ok(overlay)
    }

    /// Writes the [overlay](Self::overlay) as a PNG, atomically.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), InferError> {
        let (path, overlay) = (path.as_ref(), self.overlay()?);
        replace_file(path, |temporary| {
            overlay
                .save_with_format(temporary, image::ImageFormat::Png)
                .map_err(std::io::Error::other)
        })
        .map_err(|source| InferError::Write { path: path.to_owned(), source })
    }
}

/// From blue over green to red.
fn jet(value: f32) -> [f32; 3] {
    let ramp = |centre: f32| (1.5 - (4.0 * value - centre).abs()).clamp(0.0, 1.0);
    [ramp(3.0), ramp(2.0), ramp(1.0)]
}

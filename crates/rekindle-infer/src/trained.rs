use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use burn::module::Module;
use burn::tensor::backend::Backend;
use image::RgbImage;
use rekindle_kernels::{Precision, quantized};
use rekindle_nn::{Family, Network, Op, Quantization, Shape};
use rekindle_vision::{Orientation, Photo, Preprocessing, Resize, Transparency, UnknownName};
use rekindle_weights::{
    Checkpoint, ExportFormat, ExportOptions, ModelCard, Origin, Origins, export, export_quantized,
    load, save, variables_to_save,
};

use crate::error::InferError;
use crate::frozen::Frozen;
use crate::history::{FitReport, History};
use crate::names::{beside, imagenet_classes};
use crate::photos::{Images, Photos};
use crate::prediction::Prediction;

/// By the photos' shape.
type Made<B> = Arc<Mutex<HashMap<(Shape, Precision), Arc<Frozen<B>>>>>;

/// A network that tells classes of photos apart, with all that it needs to do so.
#[derive(Clone)]
pub struct TrainedModel<B: Backend> {
    model: Network<B>,
    photos: Photos,
    classes: Arc<[String]>,
    /// Whether somebody has named the classes.
    is_named: bool,
    card: ModelCard,
    report: FitReport,
    precision: Precision,
    /// Made for the first prediction.
    frozen: OnceLock<Arc<Frozen<B>>>,
    /// Those made for each size and precision, also by clones.
    made: Made<B>,
}

impl<B: Backend> std::fmt::Debug for TrainedModel<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrainedModel").field("card", &self.card).finish_non_exhaustive()
    }
}

impl<B: Backend> TrainedModel<B> {
    /// A network that was trained, and what `fit` did: for rekindle-train.
    #[doc(hidden)]
    pub fn of_training(
        model: Network<B>,
        photos: Photos,
        classes: Vec<String>,
        report: FitReport,
    ) -> Self {
        let mut card = ModelCard::new(model.graph().clone());
        card.classes.clone_from(&classes);
        card.preprocessing = photos.preprocessing.name();
        card.resize = Some(photos.resize.name().into());
        card.photo_resize = photos.resizing.map(Op::Resizing);
        card.photo_middle = photos.middle;
        card.transparency = Some(photos.transparency.name().into());
        card.orientation = Some(photos.orientation.name().into());
        Self {
            model,
            photos,
            classes: classes.into(),
            is_named: true,
            card,
            report,
            precision: Precision::F32,
            frozen: OnceLock::new(),
            made: Made::<B>::default(),
        }
    }

    /// Loads a file that [`TrainedModel::save`] wrote, or any image classifier of the supported layers: `.keras`, HDF5,
    /// ONNX. Where a file does not name its classes, a `labels.txt` beside it does; else they are numbers, see
    /// [`TrainedModel::with_classes`]. What the file does not say, and so is assumed, is in [`TrainedModel::assumed`].
    ///
    /// # Errors
    /// When the file is foreign, truncated, altered, holds weights only, or has a layer that is not supported.
    pub fn load(path: impl AsRef<Path>, device: &B::Device) -> Result<Self, InferError> {
        Self::load_for(path, None, device)
    }

    /// The same with the height and width of the photos, for files that do not say them; for others as
    /// [`TrainedModel::with_images`].
    ///
    /// # Errors
    /// As [`TrainedModel::load`], and when the network cannot take photos of this size.
    pub fn load_for(
        path: impl AsRef<Path>,
        size: Option<[usize; 2]>,
        device: &B::Device,
    ) -> Result<Self, InferError> {
        let path = path.as_ref();
        let wrong = |reason: String| InferError::Model { path: path.to_owned(), reason };
        let mut checkpoint = Checkpoint::open(path)?.resolve_for(size)?;
        let Some(card) = checkpoint.card().cloned() else {
            return Err(wrong(match checkpoint.problem() {
                Some(problem) => format!("holds a model that is not supported: {problem}"),
                None => format!(
                    "holds weights of no network that Rekindle knows ({})",
                    Family::names().join(", ")
                ),
            }));
        };
        if let Some(problem) = checkpoint.problem() {
            return Err(wrong(format!(
                "holds a model that is not supported: {problem}; `rekindle train DIR --weights FILE` starts from its network"
            )));
        }
        let graph = card.graph.clone();
        let what = card.architecture().map_or("a network".into(), |known| known.to_string());
        if graph.head().is_empty() {
            return Err(wrong(format!(
                "holds {what}: weights to start from, not a trained model; use it as `rekindle train DIR --weights FILE`"
            )));
        }
        let Some(outputs) = graph.classes() else {
            return Err(wrong(format!(
                "is no classifier: its output is {}, expected a vector of classes",
                graph.output_shape()
            )));
        };
        let mut assumed = card.assumed.clone();
        // TF-Slim's networks have a class for the background before the others.
        let is_imagenet = matches!(outputs, 1000 | 1001)
            && (card.architecture().is_some() || card.published_as.is_some());
        let named = match card.classes.is_empty() {
            true => beside(path, outputs).and_then(|file| {
                assumed.push(file.said);
                file.names
            }),
            false => Some(card.classes.clone()),
        };
        let is_named = named.is_some() || is_imagenet;
        let card = ModelCard { classes: named.unwrap_or_default(), ..card };
        let classes = match card.classes.len() {
            0 if is_imagenet => {
                let (also, background) = match outputs {
                    1001 => {
                        (", behind `background` as TF-Slim has them,", vec!["background".into()])
                    }
                    _ => ("", Vec::new()),
                };
                assumed
                    .push(format!("the file names no classes: ImageNet's 1000{also} are assumed"));
                background.into_iter().chain(imagenet_classes()).collect()
            }
            0 => {
                assumed.push(format!(
                    "the file names no classes: they are called 0 to {}",
                    outputs - 1
                ));
                (0..outputs).map(|class| class.to_string()).collect()
            }
            named if named == outputs => card.classes.clone(),
            named => {
                return Err(wrong(format!(
                    "names {named} classes, but the network has {outputs} outputs"
                )));
            }
        };
        let or =
            |value: &Option<String>, default: &str| value.as_deref().unwrap_or(default).to_owned();
        let unknown = |error: UnknownName| wrong(error.to_string());
        let resize = or(&card.resize, ModelCard::RESIZE).parse().map_err(unknown)?;
        let preprocessing = card.preprocessing.parse().map_err(unknown)?;
        let mut photos = Photos::new(graph.input(), resize, preprocessing)?;
        let transparency = or(&card.transparency, ModelCard::TRANSPARENCY);
        photos.transparency = transparency.parse().map_err(unknown)?;
        photos.orientation =
            or(&card.orientation, ModelCard::ORIENTATION).parse().map_err(unknown)?;
        photos.resizing = match &card.photo_resize {
            Some(Op::Resizing(resizing)) => Some(*resizing),
            Some(other) => {
                return Err(wrong(format!("its photos are resized by a {}", other.class())));
            }
            None => None,
        };
        photos.middle = card.photo_middle;
        let loaded = load(Network::init(graph, 0, device), &what, &mut checkpoint)?;
        if let Some(tensor) = loaded.unused.first() {
            return Err(wrong(format!("`{tensor}` belongs to no layer of {what}")));
        }
        let origins = card.photo_origins();
        let precision = match card.quantization {
            None => Precision::F32,
            Some(_) if Frozen::<B>::has_int8(device) => Precision::Int8,
            Some(_) => {
                assumed.push(
                    "the model is quantized to int8, which is not computed here: its weights are taken as f32".into(),
                );
                Precision::F32
            }
        };
        let model = Self {
            model: loaded.network,
            photos,
            classes: classes.into(),
            is_named,
            card: ModelCard { assumed, origins, ..card },
            report: FitReport::default(),
            precision,
            frozen: OnceLock::new(),
            made: Made::<B>::default(),
        };
        match size {
            Some([height, width]) => model.with_images(height, width),
            None => Ok(model),
        }
    }

    /// Writes the model for another program, as the path's ending says: `.keras`, `.h5`, `.weights.h5`, `.onnx`,
    /// `.tflite`, `.safetensors`. Gives what has to be known to load it there, in sentences.
    ///
    /// # Errors
    /// When the format has no place for a layer, a setting or an option, or the file cannot be written; an existing one is
    /// then as it was.
    pub fn export(
        &self,
        path: impl AsRef<Path>,
        options: ExportOptions,
    ) -> Result<Vec<String>, InferError> {
        let path = path.as_ref();
        let has_bytes =
            matches!(ExportFormat::of(path)?, ExportFormat::Onnx | ExportFormat::Tflite);
        let is_of_bytes = has_bytes && !options.half && !options.dequantized;
        if let Some(quantization) = self.quantization().filter(|_| is_of_bytes) {
            let network = quantized(&self.model, quantization)?;
            export_quantized(path, &self.card, network, options)?;
            return Ok(Vec::new());
        }
        let (tensors, values) = variables_to_save(&self.model);
        Ok(export(path, &self.card, &tensors, values, options)?)
    }

    /// Writes everything that predicting needs into one safetensors file, atomically.
    ///
    /// # Errors
    /// When the file cannot be written; an existing one is then as it was.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), InferError> {
        let (tensors, values) = variables_to_save(&self.model);
        Ok(save(path.as_ref(), &self.card, &tensors, &mut |index| Ok(values[index].clone()))?)
    }

    /// Predicts a photo.
    ///
    /// # Errors
    /// When the file is not an image that can be decoded.
    pub fn predict(&self, path: impl AsRef<Path>) -> Result<Prediction, InferError> {
        self.predict_photo(&self.photos.decoding().open(path)?)
    }

    /// Predicts a decoded photo.
    ///
    /// # Errors
    /// When the image is empty.
    pub fn predict_image(&self, image: &RgbImage) -> Result<Prediction, InferError> {
        self.predict_photo(&self.photos.of_rgb(image))
    }

    pub(crate) fn predict_photo(&self, photo: &Photo) -> Result<Prediction, InferError> {
        let probabilities = self.probabilities(self.photos.input(photo)?)?;
        Ok(Prediction { probabilities, classes: self.classes.clone() })
    }

    pub(crate) fn probabilities(&self, images: Images) -> Result<Vec<f32>, InferError> {
        let device = self.device();
        let frozen = match self.frozen.get() {
            Some(frozen) => frozen,
            None => {
                let made = self.frozen(&device)?;
                self.frozen.get_or_init(|| made)
            }
        };
        let found = frozen.start(&self.model, None, images, &self.photos, &device)?.finish()?.0;
        if found.iter().any(|value| value.is_nan()) {
            let preprocessing = self.photos.preprocessing.name();
            return Err(InferError::NotANumber { preprocessing });
        }
        Ok(found)
    }

    /// The network for photos of this size, made once for all that share its weights.
    pub(crate) fn frozen(&self, device: &B::Device) -> Result<Arc<Frozen<B>>, InferError> {
        let (shape, precision) = (self.photos.shape(), self.precision);
        // What is in there is whole, whoever panicked.
        let mut made = self.made.lock().unwrap_or_else(|error| error.into_inner());
        if let Some(frozen) = made.get(&(shape, precision)) {
            return Ok(frozen.clone());
        }
        let frozen = Arc::new(match &self.card.quantization {
            Some(quantization) if precision == Precision::Int8 => {
                Frozen::quantized(&self.model, quantization, device)?
            }
            _ => Frozen::new(&self.model, None, precision, device)?,
        });
        made.insert((shape, precision), frozen.clone());
        Ok(frozen)
    }

    /// Takes square photos of another size; a head that flattens cannot.
    ///
    /// # Errors
    /// When the network cannot take that size.
    pub fn with_size(self, size: usize) -> Result<Self, InferError> {
        self.with_images(size, size)
    }

    /// Takes photos of another height and width; a head that flattens cannot.
    ///
    /// # Errors
    /// When the network cannot take that size.
    pub fn with_images(mut self, height: usize, width: usize) -> Result<Self, InferError> {
        let input = Shape::map(height, width, self.photos.channels);
        self.model = self.model.with_input(input)?;
        self.photos = self.photos.with_images(height, width);
        self.card.photo_resize = self.photos.resizing.map(Op::Resizing);
        self.card.graph = self.model.graph().clone();
        self.card.origins.size = Origin::User;
        self.frozen = OnceLock::new();
        Ok(self)
    }

    /// Computes with another precision; not saved, since it is the machine's.
    ///
    /// # Errors
    /// When this machine, or the backend, has no such products.
    pub fn with_precision(mut self, precision: Precision) -> Result<Self, InferError> {
        self.precision = precision;
        self.frozen = OnceLock::new();
        let frozen = self.frozen(&self.device())?;
        self.frozen.get_or_init(|| frozen);
        Ok(self)
    }

    /// The same with weights that are bytes, and what is known of its values.
    pub(crate) fn with_quantization(
        mut self,
        model: Network<B>,
        quantization: Quantization,
    ) -> Self {
        self.model = model;
        self.card.quantization = Some(quantization);
        self.precision = Precision::Int8;
        self.frozen = OnceLock::new();
        self.made = Made::<B>::default();
        self
    }

    /// What is known of its values, where it is [quantized](Self::quantize).
    #[must_use]
    pub fn quantization(&self) -> Option<&Quantization> {
        self.card.quantization.as_ref()
    }

    /// What its products are computed with.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Takes photos that are resized in another way.
    #[must_use]
    pub fn with_resize(mut self, resize: Resize) -> Self {
        self.photos.resize = resize;
        self.photos.resizing = None;
        self.photos.middle = None;
        self.card.photo_middle = None;
        self.card.resize = Some(resize.name().into());
        self.card.origins.resize = Origin::User;
        self.card.photo_resize = None;
        self
    }

    /// Takes photos whose transparency becomes something else.
    #[must_use]
    pub fn with_transparency(mut self, transparency: Transparency) -> Self {
        self.photos.transparency = transparency;
        self.card.transparency = Some(transparency.name().into());
        self.card.origins.transparency = Origin::User;
        self
    }

    /// Takes photos whose EXIF orientation is applied, or ignored.
    #[must_use]
    pub fn with_orientation(mut self, orientation: Orientation) -> Self {
        self.photos.orientation = orientation;
        self.card.orientation = Some(orientation.name().into());
        self.card.origins.orientation = Origin::User;
        self
    }

    /// Decodes large JPEGs at a part of their size: faster, with slightly other pixels. Not recorded in the file.
    #[must_use]
    pub fn with_fast_decode(mut self, fast: bool) -> Self {
        self.photos.fast_decode = fast;
        self
    }

    /// Names the classes, in the order of the outputs.
    ///
    /// # Errors
    /// When there are more or fewer names than outputs, or two are the same.
    pub fn with_classes(mut self, classes: Vec<String>) -> Result<Self, InferError> {
        let (found, expected) = (classes.len(), self.classes.len());
        let distinct: std::collections::HashSet<&String> = classes.iter().collect();
        if found != expected || distinct.len() != found {
            let distinct = distinct.len();
            return Err(InferError::Classes { found, distinct, expected });
        }
        self.card.classes.clone_from(&classes);
        self.card.assumed.retain(|sentence| !sentence.starts_with("the file names no classes"));
        self.classes = classes.into();
        self.is_named = true;
        Ok(self)
    }

    /// Takes photos that are preprocessed in another way.
    #[must_use]
    pub fn with_preprocessing(mut self, preprocessing: Preprocessing) -> Self {
        self.photos.preprocessing = preprocessing;
        self.card.preprocessing = preprocessing.name();
        self.card.assumed.retain(|sentence| !sentence.starts_with("the file has no preprocessing"));
        self.card.origins.preprocessing = Origin::User;
        self
    }

    /// The names of the classes, in the order of the probabilities.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The results of every epoch; empty for a model that was loaded.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.report.history
    }

    /// What `fit` did, and how long it took; empty for a model that was loaded.
    #[must_use]
    pub fn report(&self) -> &FitReport {
        &self.report
    }

    /// Whether the classes have names, of the file or of [`TrainedModel::with_classes`]; else they are numbers.
    #[must_use]
    pub fn is_named(&self) -> bool {
        self.is_named
    }

    /// What was assumed where the file that it came from says nothing, a sentence each.
    #[must_use]
    pub fn assumed(&self) -> &[String] {
        &self.card.assumed
    }

    /// Where what is known of its photos comes from.
    #[must_use]
    pub fn origins(&self) -> Origins {
        self.card.origins
    }

    /// How photos become its input.
    #[must_use]
    pub fn photos(&self) -> &Photos {
        &self.photos
    }

    /// The network.
    #[must_use]
    pub fn model(&self) -> &Network<B> {
        &self.model
    }

    pub(crate) fn device(&self) -> B::Device {
        self.model.devices().into_iter().next().unwrap_or_default()
    }
}

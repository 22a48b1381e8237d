//! What is said of a model beside its own file: class names, the images' size, how photos are prepared.

use rekindle_nn::Op;
use rekindle_pixels::Middle;

use crate::ModelCard;
use crate::record::Record;
use crate::torch::Scaling;

/// What other files than the model's say of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Beside {
    /// The file that says it, for errors.
    pub file: String,
    /// The names of the classes, in the order of the outputs; empty where it has none.
    pub classes: Vec<String>,
    /// Height and width of the images.
    pub size: Option<[usize; 2]>,
    /// The preprocessing, in a card's words, where the model has none itself; and the sentence that says why.
    pub preprocessing: Option<(String, String)>,
    /// How photos are resized; and the sentence that says why.
    pub photo_resize: Option<(Op, String)>,
    /// What PyTorch's programs call the network.
    pub model: Option<String>,
    /// What photos are scaled by, of a network of PyTorch.
    pub scaling: Option<Scaling>,
    /// How photos are resized, of a network of PyTorch, in a card's words.
    pub interpolation: Option<&'static str>,
    /// The middle of photos that such a network takes.
    pub middle: Option<Middle>,
    /// Whether such a network takes stretched photos.
    pub stretched: bool,
    /// The normalizations' epsilon, of a network of PyTorch.
    pub epsilon: Option<f64>,
    /// Whether such a network has as many zeros on both sides of maps.
    pub symmetric: Option<bool>,
    /// The blocks of transformers' EfficientNet that have as many zeros on both sides of maps.
    pub symmetric_blocks: Option<Vec<usize>>,
    /// The epsilon of the last LayerNormalization, of a network of PyTorch.
    pub last_epsilon: Option<f64>,
    /// Whether timm was told to pad and normalize as Keras does, where its network of that name does not.
    pub arguments: bool,
    /// What an exported file has for Rekindle.
    pub record: Option<Record>,
    /// What else is to be said; each is a sentence.
    pub assumed: Vec<String>,
}

impl Beside {
    /// Puts what is said into a model's card; the error is what does not fit together.
    pub fn apply(&self, card: &mut ModelCard) -> Result<(), String> {
        let Self { file, classes, size, .. } = self;
        if let (Some([height, width]), Some([rows, columns, _])) =
            (size, card.graph.input().as_map())
            && [*height, *width] != [rows, columns]
        {
            return Err(format!(
                "`{file}` says that images are {height} x {width}, but the model takes {rows} x {columns}: the files are of two models"
            ));
        }
        if !classes.is_empty() {
            match card.graph.classes() {
                Some(outputs) if outputs == classes.len() => card.classes.clone_from(classes),
                Some(outputs) => {
                    return Err(format!(
                        "`{file}` names {} classes, but the model has {outputs} outputs: the files are of two models",
                        classes.len()
                    ));
                }
                None => {
                    return Err(format!(
                        "`{file}` names {} classes, but the model is no classifier: its output is {}",
                        classes.len(),
                        card.graph.output_shape()
                    ));
                }
            }
        }
        card.assumed.extend(self.assumed.iter().cloned());
        if let Some((resize, why)) = &self.photo_resize
            && card.resize.is_none()
            && card.photo_resize.is_none()
        {
            card.photo_resize = Some(resize.clone());
            card.assumed.push(why.clone());
        }
        Ok(())
    }
}

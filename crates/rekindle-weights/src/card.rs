use rekindle_nn::{Architecture, Graph, HeadConfig, NetworkError, Op, Quantization};
use rekindle_pixels::Middle;
use serde::{Deserialize, Serialize};

use crate::{Origin, Origins};

/// What a file of ours says about its weights, as JSON in the safetensors metadata under `rekindle`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct ModelCard {
    /// The version of this layout; what is written is [`ModelCard::FORMAT`].
    pub format: u32,
    /// The network: base and head.
    pub graph: Graph,
    /// The names of the classes, in the order of the outputs; empty where they are unknown, and for a network without
    /// head.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// Keras's mode of `preprocess_input`: `tf`, `caffe`, `torch` or `none`; `rescale:SCALE:OFFSET` else.
    pub preprocessing: String,
    /// How photos are resized: `nearest`, `bilinear` or `tf-bilinear`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<String>,
    /// How photos are resized where that takes more settings: Keras's `Resizing`, of photos of any size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub photo_resize: Option<Op>,
    /// The middle of photos that is taken, where they are not stretched; `resize` says how they are resized for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub photo_middle: Option<Middle>,
    /// The network of another program that the base is, as `resnet50`, where that computes otherwise than the family of Keras's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_as: Option<String>,
    /// What becomes of photos' transparency: `white`, `drop` or `black`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transparency: Option<String>,
    /// What becomes of photos' EXIF orientation: `ignore` or `apply`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orientation: Option<String>,
    /// What was assumed since the file does not say it; each is a sentence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assumed: Vec<String>,
    /// Where what it says of photos comes from; [`Origin::Assumed`] for what it does not say.
    #[serde(default, skip_serializing_if = "Origins::is_file")]
    pub origins: Origins,
    /// Whether the normalizations are folded into the convolutions, as ONNX's exporters do: for inference, and
    /// as a frozen network, all is the same, but the statistics of the training are gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub folded: bool,
    /// What is known of a network with products of bytes; weights are bytes then, but for those of layers that are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Quantization>,
    /// What the weights are.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Where they come from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Their licence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub licence: String,
}

impl ModelCard {
    /// The version that this library writes.
    pub const FORMAT: u32 = 2;
    /// How photos are resized where a card does not say it.
    pub const RESIZE: &str = "bilinear";
    /// What becomes of transparency where a card does not say it.
    pub const TRANSPARENCY: &str = "white";
    /// What becomes of EXIF's orientation where a card does not say it.
    pub const ORIENTATION: &str = "ignore";

    /// A card of a network, with the preprocessing of its family where it is known.
    #[must_use]
    pub fn new(graph: Graph) -> Self {
        let known = graph.base().architecture;
        Self {
            format: Self::FORMAT,
            preprocessing: known.map_or("none", |known| known.family.preprocessing).into(),
            graph,
            classes: Vec::new(),
            resize: None,
            photo_resize: None,
            photo_middle: None,
            published_as: None,
            transparency: None,
            orientation: None,
            assumed: Vec::new(),
            origins: Origins::default(),
            folded: false,
            quantization: None,
            description: String::new(),
            source: String::new(),
            licence: String::new(),
        }
    }

    /// Where what is known of its photos comes from: what the card does not say is assumed.
    #[must_use]
    pub fn photo_origins(&self) -> Origins {
        let said = |is_said: bool, origin: Origin| match (is_said, origin) {
            (false, Origin::File) => Origin::Assumed,
            _ => origin,
        };
        let Origins { size, resize, preprocessing, transparency, orientation } = self.origins;
        let is_resized = self.resize.is_some() || self.photo_resize.is_some();
        Origins {
            size,
            resize: said(is_resized, resize),
            preprocessing,
            transparency: said(self.transparency.is_some(), transparency),
            orientation: said(self.orientation.is_some(), orientation),
        }
    }

    /// What the base is, where that is known.
    #[must_use]
    pub fn architecture(&self) -> Option<Architecture> {
        self.graph.base().architecture
    }
}

/// As files have it: layout 2 has the graph, layout 1 a known network, and the settings of a head on it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: u32,
    #[serde(default)]
    graph: Option<Graph>,
    #[serde(default)]
    architecture: Option<Architecture>,
    #[serde(default)]
    head: Option<HeadConfig>,
    #[serde(default)]
    classes: Vec<String>,
    preprocessing: String,
    #[serde(default)]
    resize: Option<String>,
    #[serde(default)]
    photo_resize: Option<Op>,
    #[serde(default)]
    photo_middle: Option<Middle>,
    #[serde(default)]
    published_as: Option<String>,
    #[serde(default)]
    transparency: Option<String>,
    #[serde(default)]
    orientation: Option<String>,
    #[serde(default)]
    assumed: Vec<String>,
    #[serde(default)]
    origins: Origins,
    #[serde(default)]
    folded: bool,
    #[serde(default)]
    quantization: Option<Quantization>,
    #[serde(default)]
    description: String,
    #[serde(default)]
    source: String,
    #[serde(default)]
    licence: String,
}

impl TryFrom<Written> for ModelCard {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let text = |error: NetworkError| error.to_string();
        let graph = match (written.format, written.graph, written.architecture) {
            (2, Some(graph), None) => graph,
            (1, None, Some(architecture)) => {
                let base = architecture.graph().map_err(text)?;
                match written.head {
                    Some(_) if architecture.classes().is_some() => {
                        return Err("the network has both a top and a head".into());
                    }
                    Some(head) => head.graph(&base, written.classes.len()).map_err(text)?,
                    None => base,
                }
            }
            (1 | 2, _, _) => return Err("the card does not say which network it is of".into()),
            (format, _, _) => {
                return Err(format!(
                    "the card has layout {format}, this program reads up to {}: update rekindle",
                    Self::FORMAT
                ));
            }
        };
        Ok(Self {
            format: Self::FORMAT,
            graph,
            classes: written.classes,
            preprocessing: written.preprocessing,
            resize: written.resize,
            photo_resize: written.photo_resize,
            photo_middle: written.photo_middle,
            published_as: written.published_as,
            transparency: written.transparency,
            orientation: written.orientation,
            assumed: written.assumed,
            origins: written.origins,
            folded: written.folded,
            quantization: written.quantization,
            description: written.description,
            source: written.source,
            licence: written.licence,
        })
    }
}

use std::fmt;

use burn::tensor::backend::Backend;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{FAMILIES, Family};
use crate::{Graph, Network, NetworkError, Shape};

/// Height and width of images in pixels; one number in files where they are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Size {
    /// Squares.
    Square(usize),
    /// Height and width.
    Rectangle([usize; 2]),
}

impl Size {
    /// Height and width.
    #[must_use]
    pub fn of(height: usize, width: usize) -> Self {
        if height == width { Self::Square(height) } else { Self::Rectangle([height, width]) }
    }

    /// Height and width.
    #[must_use]
    pub fn pixels(self) -> [usize; 2] {
        match self {
            Self::Square(size) => [size, size],
            Self::Rectangle(size) => size,
        }
    }
}

impl From<usize> for Size {
    fn from(size: usize) -> Self {
        Self::Square(size)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [height, width] = self.pixels();
        match self {
            Self::Square(size) => write!(f, "{size}"),
            Self::Rectangle(_) => write!(f, "{height} x {width}"),
        }
    }
}

/// What can be set of a family's networks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Width multiplier, for families that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// Without squeeze-and-excite blocks, hard swishes and 5x5 kernels, for families that have such a form.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub minimalistic: bool,
    /// Height and width of the images in pixels.
    pub size: Size,
    /// Channels of the images.
    #[serde(default = "rgb", skip_serializing_if = "is_rgb")]
    pub channels: usize,
    /// Classes of the top; none leaves the top off.
    pub classes: Option<usize>,
}

fn rgb() -> usize {
    3
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_rgb(channels: &usize) -> bool {
    *channels == 3
}

impl Settings {
    /// The first where there is a top, the second where there is none.
    pub(super) fn by_top<T>(&self, [top, no_top]: [T; 2]) -> T {
        if self.classes.is_some() { top } else { no_top }
    }

    /// The shape of one image.
    #[must_use]
    pub fn input(&self) -> Shape {
        let [height, width] = self.size.pixels();
        Shape::map(height, width, self.channels)
    }
}

/// A family and its settings: a network that is known by name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Architecture {
    /// The family.
    pub family: &'static Family,
    /// Its settings.
    pub settings: Settings,
}

impl Architecture {
    /// A family's network with its default settings and no top.
    #[must_use]
    pub fn new(family: &'static Family) -> Self {
        Self { family, settings: family.settings() }
    }

    /// Every family, width and form, with default sizes and no top.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let of = |family: &&'static Family| {
            let plain = Self::new(family);
            let mut alphas = family.alphas.to_vec();
            alphas.sort_by(f64::total_cmp);
            let mut all: Vec<Self> =
                alphas.into_iter().map(|alpha| plain.with_alpha(alpha)).collect();
            if all.is_empty() {
                all.push(plain);
            }
            if family.minimalistic {
                all.extend(all.clone().into_iter().map(|other| other.with_minimalistic(true)));
            }
            all
        };
        FAMILIES.iter().flat_map(of).collect()
    }

    /// A network by its family's name, with its default settings and no top.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Family::by_name(name).map(Self::new)
    }

    /// The family's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.family.name
    }

    /// Height and width of the images in pixels.
    #[must_use]
    pub fn size(&self) -> Size {
        self.settings.size
    }

    /// Classes of the top, if there is one.
    #[must_use]
    pub fn classes(&self) -> Option<usize> {
        self.settings.classes
    }

    /// The same for square images of this many pixels a side.
    #[must_use]
    pub fn with_size(self, size: usize) -> Self {
        Self { settings: Settings { size: size.into(), ..self.settings }, ..self }
    }

    /// The same for other images.
    #[must_use]
    pub fn with_images(self, height: usize, width: usize, channels: usize) -> Self {
        let size = Size::of(height, width);
        Self { settings: Settings { size, channels, ..self.settings }, ..self }
    }

    /// The same with another width.
    #[must_use]
    pub fn with_alpha(self, alpha: f64) -> Self {
        Self { settings: Settings { alpha: Some(alpha), ..self.settings }, ..self }
    }

    /// The same in the `minimalistic` form, or in the other.
    #[must_use]
    pub fn with_minimalistic(self, minimalistic: bool) -> Self {
        Self { settings: Settings { minimalistic, ..self.settings }, ..self }
    }

    /// The same with a top of this many classes, or without one.
    #[must_use]
    pub fn with_top(self, classes: Option<usize>) -> Self {
        Self { settings: Settings { classes, ..self.settings }, ..self }
    }

    /// The shape of one image.
    #[must_use]
    pub fn input(&self) -> Shape {
        self.settings.input()
    }

    /// The network's layers. The base ends before the top, if there is one, which is the head.
    ///
    /// # Errors
    /// When a setting is outside of what Keras allows.
    pub fn graph(&self) -> Result<Graph, NetworkError> {
        let mut graph = self.family.graph(&self.settings)?;
        graph.set_architecture(self.with_top(None));
        Ok(graph)
    }

    /// What a head may be on: the network without top, and what its top is on, where that is another.
    ///
    /// # Errors
    /// When a setting is outside of what Keras allows.
    pub fn bases(&self) -> Result<Vec<Graph>, NetworkError> {
        let plain = self.with_top(None).graph()?;
        let topped = self.with_top(Some(1)).graph()?.without_head();
        let is_other = topped.layers().len() != plain.layers().len();
        Ok([plain].into_iter().chain(is_other.then_some(topped)).collect())
    }

    /// The network, with random weights until others are loaded.
    ///
    /// # Errors
    /// When a setting is outside of what Keras allows.
    pub fn init<B: Backend>(&self, device: &B::Device) -> Result<Network<B>, NetworkError> {
        Ok(Network::init(self.graph()?, 0, device))
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name())?;
        if let Some(alpha) = self.settings.alpha {
            write!(f, " {alpha:?}")?;
        }
        if self.settings.minimalistic {
            write!(f, " minimalistic")?;
        }
        let [height, width] = self.settings.size.pixels();
        write!(f, ", {height} x {width}")?;
        if self.settings.channels != 3 {
            write!(f, " x {}", self.settings.channels)?;
        }
        match self.classes() {
            Some(classes) => write!(f, ", {classes} classes"),
            None => write!(f, ", no top"),
        }
    }
}

/// As files have it: the family's name beside its settings.
#[derive(Serialize, Deserialize)]
struct Written {
    name: String,
    #[serde(flatten)]
    settings: Settings,
}

impl Serialize for Architecture {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Written { name: self.name().into(), settings: self.settings }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Architecture {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Written { name, settings } = Written::deserialize(deserializer)?;
        match Family::by_name(&name) {
            Some(family) => Ok(Self { family, settings }),
            None => Err(serde::de::Error::custom(format!(
                "no network is called `{name}`; known are {}",
                Family::names().join(", ")
            ))),
        }
    }
}

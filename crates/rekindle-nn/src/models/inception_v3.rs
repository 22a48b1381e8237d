//! InceptionV3 (Szegedy et al. 2015, <https://arxiv.org/abs/1512.00567>), as in Keras's
//! `keras/src/applications/inception_v3.py`.
//!
//! Keras numbers most of its layers (`conv2d`, `conv2d_1`, ...); the names here are those of the first
//! network that a Keras session makes.

use burn::module::Module;
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

use crate::layers::{
    Activation, BatchNormConfig, Conv2dConfig, ConvNorm, Dense, DenseConfig, Padding,
};
use crate::{Interpreter, Network, NetworkError, Pool};

/// One step of a branch. Convolutions are followed by BatchNorm and ReLU.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Filters, kernel height, kernel width; stride 1, padding `same`.
    Conv(usize, usize, usize),
    /// The same without padding.
    Valid(usize, usize, usize),
    /// The same with stride 2 and no padding.
    Down(usize, usize, usize),
    /// 3x3 average, stride 1, padding `same`.
    Avg,
    /// 3x3 maximum, stride 2, no padding.
    Max,
    /// A 1x3 and a 3x1 convolution side by side, concatenated; the name, or Keras's next number.
    Fork(usize, Option<&'static str>),
}
use Step::{Avg, Conv, Down, Fork, Max, Valid};

const STEM: &[Step] =
    &[Down(32, 3, 3), Valid(32, 3, 3), Conv(64, 3, 3), Max, Valid(80, 1, 1), Valid(192, 3, 3), Max];

/// The name of each block and its branches, which are concatenated.
const BLOCKS: [(&str, &[&[Step]]); 11] = [
    ("mixed0", &inception_a::<32>()),
    ("mixed1", &inception_a::<64>()),
    ("mixed2", &inception_a::<64>()),
    ("mixed3", &[&[Down(384, 3, 3)], &[Conv(64, 1, 1), Conv(96, 3, 3), Down(96, 3, 3)], &[Max]]),
    ("mixed4", &inception_b::<128>()),
    ("mixed5", &inception_b::<160>()),
    ("mixed6", &inception_b::<160>()),
    ("mixed7", &inception_b::<192>()),
    (
        "mixed8",
        &[
            &[Conv(192, 1, 1), Down(320, 3, 3)],
            &[Conv(192, 1, 1), Conv(192, 1, 7), Conv(192, 7, 1), Down(192, 3, 3)],
            &[Max],
        ],
    ),
    (
        "mixed9",
        &[
            &[Conv(320, 1, 1)],
            &[Conv(384, 1, 1), Fork(384, Some("mixed9_0"))],
            &[Conv(448, 1, 1), Conv(384, 3, 3), Fork(384, None)],
            &[Avg, Conv(192, 1, 1)],
        ],
    ),
    (
        "mixed10",
        &[
            &[Conv(320, 1, 1)],
            &[Conv(384, 1, 1), Fork(384, Some("mixed9_1"))],
            &[Conv(448, 1, 1), Conv(384, 3, 3), Fork(384, None)],
            &[Avg, Conv(192, 1, 1)],
        ],
    ),
];

/// 35 x 35 maps; the filters of the pooling branch differ.
const fn inception_a<const POOL: usize>() -> [&'static [Step]; 4] {
    [
        &[Conv(64, 1, 1)],
        &[Conv(48, 1, 1), Conv(64, 5, 5)],
        &[Conv(64, 1, 1), Conv(96, 3, 3), Conv(96, 3, 3)],
        const { &[Avg, Conv(POOL, 1, 1)] },
    ]
}

/// 17 x 17 maps; the filters inside the 7x7 branches differ.
const fn inception_b<const N: usize>() -> [&'static [Step]; 4] {
    [
        &[Conv(192, 1, 1)],
        const { &[Conv(N, 1, 1), Conv(N, 1, 7), Conv(192, 7, 1)] },
        const { &[Conv(N, 1, 1), Conv(N, 7, 1), Conv(N, 1, 7), Conv(N, 7, 1), Conv(192, 1, 7)] },
        &[Avg, Conv(192, 1, 1)],
    ]
}

/// The settings of [`InceptionV3`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InceptionV3Config {
    /// Height and width of the images in pixels, from 75.
    pub size: usize,
    /// Classes of the top; none leaves the top off.
    pub classes: Option<usize>,
}

impl Default for InceptionV3Config {
    fn default() -> Self {
        Self { size: 299, classes: None }
    }
}

impl InceptionV3Config {
    /// 299 pixels, no top.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Height and width of the images in pixels, from 75.
    #[must_use]
    pub fn with_size(self, size: usize) -> Self {
        Self { size, ..self }
    }

    /// With a top of this many classes (1000 for ImageNet).
    #[must_use]
    pub fn with_classes(self, classes: usize) -> Self {
        Self { classes: Some(classes), ..self }
    }

    /// The network, with random weights until others are loaded.
    ///
    /// # Errors
    /// When a setting is outside of what Keras allows.
    pub fn init<B: Backend>(self, device: &B::Device) -> Result<InceptionV3<B>, NetworkError> {
        let wrong = |setting, found: usize, expected: &str| {
            let (architecture, found, expected) =
                ("inception-v3", found.to_string(), expected.to_owned());
            Err(NetworkError::Setting { architecture, setting, found, expected })
        };
        if self.size < 75 {
            return wrong("size", self.size, "at least 75");
        }
        if self.classes == Some(0) {
            return wrong("classes", 0, "at least 1");
        }
        let mut builder = Builder { device, channels: 3, numbers: Numbers::default() };
        let stem = builder.branch(STEM);
        let blocks = BLOCKS.iter().map(|(name, branches)| builder.mixed(name, branches)).collect();
        let top = self.classes.map(|classes| {
            DenseConfig::new("predictions", builder.channels, classes)
                .classifier(Activation::Softmax)
                .init(device)
        });
        Ok(InceptionV3 { stem, blocks, top, config: self })
    }
}

/// InceptionV3.
#[derive(Module, Debug)]
pub struct InceptionV3<B: Backend> {
    stem: Branch<B>,
    blocks: Vec<Mixed<B>>,
    top: Option<Dense<B>>,
    #[module(skip)]
    config: InceptionV3Config,
}

impl<B: Backend> InceptionV3<B> {
    /// The settings that it was made with.
    #[must_use]
    pub fn config(&self) -> InceptionV3Config {
        self.config
    }

    /// The same for other images: no weight depends on their size.
    #[must_use]
    pub fn with_size(self, size: usize) -> Self {
        Self { config: self.config.with_size(size), ..self }
    }
}

impl<B: Backend> Network<B> for InceptionV3<B> {
    fn walk<I: Interpreter<B>>(&self, it: &mut I, x: I::Value) -> Result<I::Value, NetworkError> {
        let mut x = self.stem.walk(it, x)?;
        for block in &self.blocks {
            let branches = block.branches.iter().map(|branch| branch.walk(it, x.clone()));
            let branches = branches.collect::<Result<_, _>>()?;
            x = it.concat(&block.name, branches)?;
        }
        match &self.top {
            Some(top) => {
                let x = it.global_avg_pool("avg_pool", x)?;
                it.dense(top, x)
            }
            None => Ok(x),
        }
    }
}

/// Branches side by side, concatenated.
#[derive(Module, Debug)]
struct Mixed<B: Backend> {
    #[module(skip)]
    name: String,
    branches: Vec<Branch<B>>,
}

/// Steps one after the other. `convs` holds the units of all steps, in order; `steps` says how they run.
#[derive(Module, Debug)]
struct Branch<B: Backend> {
    convs: Vec<ConvUnit<B>>,
    #[module(skip)]
    steps: Vec<(Step, String)>,
}

/// Convolution, BatchNorm without gamma, ReLU.
#[derive(Module, Debug)]
struct ConvUnit<B: Backend> {
    unit: ConvNorm<B>,
    #[module(skip)]
    activation: String,
}

impl<B: Backend> ConvUnit<B> {
    fn walk<I: Interpreter<B>>(&self, it: &mut I, x: I::Value) -> Result<I::Value, NetworkError> {
        let x = it.conv2d(&self.unit.conv, x)?;
        let x = it.batch_norm(&self.unit.norm, x)?;
        it.relu(&self.activation, x)
    }
}

impl<B: Backend> Branch<B> {
    fn walk<I: Interpreter<B>>(
        &self,
        it: &mut I,
        mut x: I::Value,
    ) -> Result<I::Value, NetworkError> {
        let pool = |stride, padding| Pool { kernel: [3, 3], stride: [stride, stride], padding };
        let mut convs = self.convs.as_slice();
        for (step, name) in &self.steps {
            x = match (step, convs) {
                (Avg, _) => it.avg_pool(name, pool(1, Padding::Same), x)?,
                (Max, _) => it.max_pool(name, pool(2, Padding::Valid), x)?,
                (Fork(..), [wide, tall, rest @ ..]) => {
                    convs = rest;
                    let sides = vec![wide.walk(it, x.clone())?, tall.walk(it, x)?];
                    it.concat(name, sides)?
                }
                (_, [conv, rest @ ..]) => {
                    convs = rest;
                    conv.walk(it, x)?
                }
                (_, []) => unreachable!("the builder makes a unit for every convolution"),
            };
        }
        Ok(x)
    }
}

/// How many layers of each class Keras would have named so far.
#[derive(Default)]
struct Numbers {
    convs: usize,
    max_pools: usize,
    avg_pools: usize,
    concats: usize,
}

/// The class's name, and from the second on its number.
fn numbered(class: &str, number: &mut usize) -> String {
    *number += 1;
    if *number == 1 { class.to_owned() } else { format!("{class}_{}", *number - 1) }
}

struct Builder<'a, B: Backend> {
    device: &'a B::Device,
    /// Channels of the value that the next step takes.
    channels: usize,
    numbers: Numbers,
}

impl<B: Backend> Builder<'_, B> {
    fn mixed(&mut self, name: &str, branches: &[&[Step]]) -> Mixed<B> {
        let (input, mut output) = (self.channels, 0);
        let branches = branches.iter().map(|steps| {
            self.channels = input;
            let branch = self.branch(steps);
            output += self.channels;
            branch
        });
        let branches = branches.collect();
        self.channels = output;
        Mixed { name: name.to_owned(), branches }
    }

    fn branch(&mut self, steps: &[Step]) -> Branch<B> {
        let mut convs = Vec::new();
        let named = steps.iter().map(|&step| {
            let name = match step {
                Avg => numbered("average_pooling2d", &mut self.numbers.avg_pools),
                Max => numbered("max_pooling2d", &mut self.numbers.max_pools),
                Fork(filters, name) => {
                    convs.push(self.conv(filters, [1, 3], 1, Padding::Same));
                    convs.push(self.conv(filters, [3, 1], 1, Padding::Same));
                    self.channels = 2 * filters;
                    match name {
                        Some(name) => name.to_owned(),
                        None => numbered("concatenate", &mut self.numbers.concats),
                    }
                }
                Conv(filters, rows, columns)
                | Valid(filters, rows, columns)
                | Down(filters, rows, columns) => {
                    let (stride, padding) = match step {
                        Conv(..) => (1, Padding::Same),
                        Valid(..) => (1, Padding::Valid),
                        _ => (2, Padding::Valid),
                    };
                    convs.push(self.conv(filters, [rows, columns], stride, padding));
                    self.channels = filters;
                    String::new()
                }
            };
            (step, name)
        });
        let steps = named.collect();
        Branch { convs, steps }
    }

    fn conv(
        &mut self,
        filters: usize,
        kernel: [usize; 2],
        stride: usize,
        padding: Padding,
    ) -> ConvUnit<B> {
        let numbers = &mut self.numbers.convs;
        let [conv, norm, activation] = ["conv2d", "batch_normalization", "activation"]
            .map(|class| numbered(class, &mut numbers.clone()));
        *numbers += 1;
        let conv = Conv2dConfig::new(conv, [self.channels, filters], kernel)
            .with_stride(stride)
            .with_padding(padding)
            .init(self.device);
        let norm = BatchNormConfig::new(norm, filters).with_scale(false).init(self.device);
        ConvUnit { unit: ConvNorm { conv, norm }, activation }
    }
}

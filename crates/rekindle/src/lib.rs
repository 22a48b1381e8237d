//! Transfer learning for Rust, on the Burn framework: take a network that Keras trained on ImageNet,
//! keep it frozen, put a new head on it, train the head on your own photos, save it, predict.
//!
//! ```no_run
//! use rekindle::prelude::*;
//! type B = Autodiff<Flex>; // or Wgpu, or Cuda: nothing else changes
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = Default::default();
//! let base = MobileNetV2::<B>::pretrained(Weights::Demo, &device)?;
//! let photos = ImageFolder::open("photos")?; // photos/<class>/*.jpg
//! let trained = TransferLearner::new(base).data(photos).epochs(10).fit()?;
//! println!("{}", trained.history());
//! println!("{}", trained.predict("cat.jpg")?.top(5));
//! trained.save("cats.rekindle")?;
//! # Ok(())
//! # }
//! ```
//!
//! | layer | what it is |
//! | --- | --- |
//! | [`scale`] | features and predictions of one shard of a data set: the unit of work beyond one machine (feature `train`) |
//! | [`train`] | `TransferLearner`, the fit loop, logs and reports (feature `train`) |
//! | [`infer`] | `TrainedModel`: trained models that predict |
//! | [`weights`] | checkpoints: Keras's files in, safetensors out |
//! | [`vision`] | photos: decoding, Keras-exact resizing and preprocessing, folders, labels |
//! | [`kernels`] | the CPU engine: frozen networks as compiled plans |
//! | [`devices`] | devices by name, chosen when a program runs |
//! | [`nn`] | the networks, each written once, and the interpreters that walk them |

pub mod devices;

pub use burn;
/// The crate that photos and pictures are of: what takes an `RgbImage` takes this version's.
pub use image;
#[cfg(feature = "cloud")]
pub use rekindle_cloud as cloud;
pub use rekindle_infer as infer;
pub use rekindle_kernels as kernels;
pub use rekindle_nn as nn;
#[cfg(feature = "train")]
pub use rekindle_scale as scale;
#[cfg(feature = "train")]
pub use rekindle_train as train;
pub use rekindle_vision as vision;
pub use rekindle_weights as weights;

/// What a program that trains and predicts needs.
pub mod prelude {
    #[cfg(feature = "train")]
    pub use burn::backend::Autodiff;
    #[cfg(feature = "cuda")]
    pub use burn::backend::Cuda;
    #[cfg(feature = "flex")]
    pub use burn::backend::Flex;
    #[cfg(feature = "wgpu-untuned")]
    pub use burn::backend::Wgpu;
    pub use rekindle_infer::{Precision, TrainedModel};
    pub use rekindle_nn::families::networks::*;
    pub use rekindle_nn::{Activation, Architecture, Graph, GraphBuilder, HeadConfig, Network};
    #[cfg(feature = "train")]
    pub use rekindle_train::{
        BatchNormMode, ClassWeights, DrawConfusion, EarlyStopping, FineTune, Freeze, Rule,
        Schedule, TransferLearner, draw_curves,
    };
    pub use rekindle_vision::{Augment, Augmentation, ImageFolder, Mix, Preprocessing, Resize};
    pub use rekindle_weights::{Pretrained, Weights};
}

/// The guide's snippets, as tests.
#[cfg(doctest)]
mod guide {
    macro_rules! chapters {
        ($($name:ident: $path:literal,)*) => {
            $(#[doc = include_str!(concat!("../../../docs/guide/src/", $path))] mod $name {})*
        };
    }
    chapters! {
        start: "start.md",
        settings: "settings.md",
        fine_tuning: "fine-tuning.md",
        runs: "runs.md",
        judging: "judging.md",
        devices: "devices.md",
        deploying: "deploying.md",
        own_networks: "own-networks.md",
        keras: "keras.md",
        reading: "in.md",
        out: "out.md",
        beyond: "beyond.md",
    }
}

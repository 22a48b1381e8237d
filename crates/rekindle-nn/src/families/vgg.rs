//! VGG (Simonyan and Zisserman 2014), as in Keras's `keras/src/applications/vgg16.py` and `vgg19.py`, with its layer
//! names.

use super::typed::typed_network;
use super::{Accuracy, Family, Published, Settings};
use crate::ops::{Conv2d, Dense, Padding, Pool2d};
use crate::{Activation, Graph, GraphBuilder, NetworkError};

/// VGG16.
pub static VGG_16: Family = Family {
    name: "vgg-16",
    title: "VGG16",
    paper: "https://arxiv.org/abs/1409.1556",
    source: "keras/src/applications/vgg16.py",
    default_size: 224,
    least_size: 32,
    alphas: &[],
    minimalistic: false,
    preprocessing: "caffe",
    depth: Some(16),
    accuracy: Accuracy::new(71.3, 90.1),
    published: |settings| {
        let md5s = ["64373286793e3c8b2b4e3219cbf3544b", "6d6bbae143d832006294945121d1f1fc"];
        Published::usual(settings, "vgg16/", "vgg16", md5s)
    },
    build: |settings| build(settings, [2, 2, 3, 3, 3]),
};

/// VGG19.
pub static VGG_19: Family = Family {
    name: "vgg-19",
    title: "VGG19",
    paper: "https://arxiv.org/abs/1409.1556",
    source: "keras/src/applications/vgg19.py",
    default_size: 224,
    least_size: 32,
    alphas: &[],
    minimalistic: false,
    preprocessing: "caffe",
    depth: Some(19),
    accuracy: Accuracy::new(71.3, 90.0),
    published: |settings| {
        let md5s = ["cbe5617147190e668d6c5d5026f83318", "253f8cb515780f3b799900260a226db6"];
        Published::usual(settings, "vgg19/", "vgg19", md5s)
    },
    build: |settings| build(settings, [2, 2, 4, 4, 4]),
};

typed_network!(
    /// VGG16 (Simonyan and Zisserman 2014), a Burn module.
    Vgg16, Vgg16Config, VGG_16
);

typed_network!(
    /// VGG19 (Simonyan and Zisserman 2014), a Burn module.
    Vgg19, Vgg19Config, VGG_19
);

/// Each block's filters.
const FILTERS: [usize; 5] = [64, 128, 256, 512, 512];

/// The network of this many convolutions in each block (columns D and E of table 1 of the paper).
fn build(settings: &Settings, blocks: [usize; 5]) -> Result<Graph, NetworkError> {
    let (mut net, mut x) = GraphBuilder::new(settings.input());
    for (index, (filters, convs)) in FILTERS.into_iter().zip(blocks).enumerate() {
        let block = index + 1;
        for conv in 1..=convs {
            let layer = Conv2d::new(filters, [3, 3]).with_bias().activation(Activation::Relu);
            x = net.conv2d(format!("block{block}_conv{conv}"), x, layer)?;
        }
        x = net.pool2d(format!("block{block}_pool"), x, Pool2d::max(2, 2, Padding::Valid))?;
    }

    net.mark_base(x, None);
    if let Some(classes) = settings.classes {
        x = net.flatten("flatten", x)?;
        x = net.dense("fc1", x, Dense::new(4096, Activation::Relu))?;
        x = net.dense("fc2", x, Dense::new(4096, Activation::Relu))?;
        x = net.dense("predictions", x, Dense::new(classes, Activation::Softmax))?;
    }
    net.finish(x)
}

//! Which photos, and how they become the network's input.

use clap::Args;
use rekindle::nn::Size;
use rekindle::prelude::{Preprocessing, Resize};
use rekindle::vision::{Orientation, Transparency};

use super::parse;

/// How photos become the network's input.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Photos")]
pub struct PhotoArgs {
    /// Height and width of the network's images in pixels, as SIZE or HEIGHTxWIDTH [default: the model's]
    #[arg(long, value_parser = parse::size)]
    pub size: Option<Size>,
    /// How photos are resized: as Pillow does, or with tf- as TensorFlow does; each brings its JPEG decoder [default: the model's, else bilinear]
    #[arg(long, value_parser = parse::named(Resize::ALL, Resize::name))]
    pub resize: Option<Resize>,
    /// How pixels are scaled: Keras's modes tf, caffe and torch, none, or rescale:SCALE:OFFSET [default: the model's]
    #[arg(long, value_parser = parse::preprocessing)]
    pub preprocess: Option<Preprocessing>,
    /// What transparent pixels become; Keras drops the transparency [default: the model's, else white]
    #[arg(long, value_parser = parse::named(Transparency::ALL, Transparency::name))]
    pub transparency: Option<Transparency>,
    /// Whether the EXIF orientation is applied; Keras ignores it [default: the model's, else ignore]
    #[arg(long, value_parser = parse::named(Orientation::ALL, Orientation::name))]
    pub orientation: Option<Orientation>,
    /// Decode large JPEGs at a half, quarter or eighth of their size: faster, but pixels differ slightly from Keras's
    #[arg(long)]
    pub fast_decode: bool,
}

/// How folders are read.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Photos")]
pub struct FolderArgs {
    /// Stop at a file that is not a photo, instead of skipping it
    #[arg(long)]
    pub strict: bool,
    /// Take every folder as a class, also `train`, `validation` and `test`, which are otherwise the parts of a split if they have the same class folders
    #[arg(long)]
    pub classes_are_folders: bool,
}

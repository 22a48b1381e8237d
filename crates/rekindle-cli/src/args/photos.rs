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
    /// Height and width in pixels, as SIZE or HEIGHTxWIDTH [default: the model's]
    #[arg(long, value_parser = parse::size)]
    pub size: Option<Size>,
    /// How they are brought there: Pillow's ways, or with tf- TensorFlow's, each with its JPEG decoder [default: the model's, else bilinear]
    #[arg(long, value_parser = parse::named(Resize::ALL, Resize::name))]
    pub resize: Option<Resize>,
    /// tf, caffe, torch, none or rescale:SCALE:OFFSET [default: the model's]
    #[arg(long, value_parser = parse::preprocessing)]
    pub preprocess: Option<Preprocessing>,
    /// What becomes of transparency; Keras drops it [default: the model's, else white]
    #[arg(long, value_parser = parse::named(Transparency::ALL, Transparency::name))]
    pub transparency: Option<Transparency>,
    /// What becomes of the orientation that cameras write into files; Keras ignores it [default: the model's, else ignore]
    #[arg(long, value_parser = parse::named(Orientation::ALL, Orientation::name))]
    pub orientation: Option<Orientation>,
    /// Decode large JPEGs at a half, quarter or eighth of their size: faster, with slightly other pixels than Keras's
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
    /// Every folder is a class; else `train`, `validation` (or `val`, `valid`) and `test` with the same class folders are the parts of a split
    #[arg(long)]
    pub classes_are_folders: bool,
}

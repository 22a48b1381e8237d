//! What is made of nodes before they have a place: none of these takes another.

mod commute;
mod ends;
mod fuse;
mod groups;
mod strips;

pub(crate) use commute::pools_last;
pub(crate) use ends::{pad_input, scale_input};
pub(crate) use fuse::fuse;
pub(crate) use groups::split_groups;
pub(crate) use strips::join_strips;

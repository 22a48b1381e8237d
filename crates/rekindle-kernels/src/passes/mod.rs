//! What is made of nodes, up to their places in memory: none of these takes another.

mod commute;
mod ends;
mod fuse;
mod groups;
mod place;
mod points;
mod precision;
mod quantize;
mod shortcuts;
mod strips;

pub(crate) use commute::pools_last;
pub(crate) use ends::{pad_input, scale_input};
pub(crate) use fuse::fuse;
pub(crate) use groups::split_groups;
pub(crate) use place::{Place, Places, place};
pub(crate) use points::{Points, split_points};
pub(crate) use precision::round_to_bf16;
pub(crate) use quantize::{byte_values, keys, quantize};
pub(crate) use shortcuts::{clamp, part_shortcuts};
pub(crate) use strips::join_strips;

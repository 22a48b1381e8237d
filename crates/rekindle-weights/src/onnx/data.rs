//! What a value of the file's graph is in ours: which of its axes is which of a map's.
//!
//! ONNX has channels first, exporters of Keras's models both orders, and reshapes between them. None of that moves a
//! number here: a value of ours keeps its layout, and only what the file's axes mean is kept up to date. So a transpose
//! is free, and a pair of them is nothing.

use rekindle_nn::{Shape, Source};

/// An axis of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tag {
    Height,
    Width,
    /// Also of vectors.
    Channels,
}

/// An axis of ours, or a part of one that a reshape has split. Axes of one place are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Atom {
    pub tag: Tag,
    /// How many places along the whole axis a step along this part is.
    pub stride: usize,
    pub size: usize,
}

/// A value of the file that depends on the image.
#[derive(Debug, Clone)]
pub(super) struct Data {
    pub source: Source,
    /// The shape of one sample in our graph.
    pub shape: Shape,
    /// What each of the file's axes is made of, behind that of the samples, which comes first: parts from the outer to
    /// the inner; nothing for an axis of one place.
    pub axes: Vec<Vec<Atom>>,
}

/// The whole of an axis.
pub(super) fn whole(tag: Tag, size: usize) -> Vec<Atom> {
    if size == 1 { Vec::new() } else { vec![Atom { tag, stride: 1, size }] }
}

/// How many places parts have.
pub(super) fn places(parts: &[Atom]) -> usize {
    parts.iter().map(|atom| atom.size).product()
}

/// Parts of one axis that follow each other are one part.
pub(super) fn joined(parts: impl IntoIterator<Item = Atom>) -> Vec<Atom> {
    let mut result: Vec<Atom> = Vec::new();
    for next in parts {
        if next.size == 1 {
            continue;
        }
        match result.last_mut() {
            Some(last) if last.tag == next.tag && last.stride == next.stride * next.size => {
                *last = Atom { tag: last.tag, stride: next.stride, size: last.size * next.size };
            }
            _ => result.push(next),
        }
    }
    result
}

impl Data {
    /// A value whose axes are height, width and channels, or features.
    pub fn channels_last(source: Source, shape: Shape) -> Self {
        let axes = match shape {
            Shape::Map { .. } => {
                [Tag::Height, Tag::Width, Tag::Channels].map(|tag| whole_of(shape, tag)).into()
            }
            Shape::Flat(_) => vec![whole_of(shape, Tag::Channels)],
        };
        Self { source, shape, axes }
    }

    /// A value whose axes are channels, height and width, or features.
    pub fn channels_first(source: Source, shape: Shape) -> Self {
        let mut data = Self::channels_last(source, shape);
        data.axes.rotate_right(1);
        data
    }

    /// The whole of one of our axes.
    pub fn whole(&self, tag: Tag) -> Vec<Atom> {
        whole_of(self.shape, tag)
    }

    /// Whether one of the file's axes (0 is that behind the samples) is the whole of one of ours.
    pub fn is(&self, axis: usize, tag: Tag) -> bool {
        self.axes.get(axis).is_some_and(|parts| *parts == self.whole(tag))
    }

    /// The file's extents, without the samples.
    pub fn extents(&self) -> Vec<usize> {
        self.axes.iter().map(|parts| places(parts)).collect()
    }

    /// The file's rank.
    pub fn rank(&self) -> usize {
        self.axes.len() + 1
    }

    /// All parts, in the file's order.
    pub fn parts(&self) -> Vec<Atom> {
        joined(self.axes.iter().flatten().copied())
    }

    /// All parts in our order, each as small as in the file's.
    pub fn own_order(parts: &[Atom]) -> Vec<Atom> {
        let mut own = parts.to_vec();
        own.sort_by_key(|atom| (atom.tag, std::cmp::Reverse(atom.stride)));
        own
    }

    /// The same value where the file's axes have other extents, in the same order of values; nothing where a reshape
    /// cuts across our axes.
    pub fn reshaped(&self, extents: &[usize]) -> Option<Self> {
        let mut left: Vec<Atom> = self.axes.iter().flatten().copied().rev().collect();
        let mut axes = Vec::with_capacity(extents.len());
        for &extent in extents {
            let (mut parts, mut need) = (Vec::new(), extent);
            while need > 1 {
                let atom = left.pop()?;
                if need.is_multiple_of(atom.size) {
                    need /= atom.size;
                    parts.push(atom);
                } else if atom.size.is_multiple_of(need) {
                    let inner = atom.size / need;
                    left.push(Atom { size: inner, ..atom });
                    parts.push(Atom { stride: atom.stride * inner, size: need, ..atom });
                    need = 1;
                } else {
                    return None;
                }
            }
            axes.push(joined(parts));
        }
        (left.is_empty() && !extents.contains(&0)).then(|| Self { axes, ..self.clone() })
    }

    /// What the file says of its shape, for messages.
    pub fn described(&self) -> String {
        let axis = |parts: &Vec<Atom>| {
            let names = parts.iter().map(|atom| match atom.tag {
                Tag::Height => "height",
                Tag::Width => "width",
                Tag::Channels => "channels",
            });
            let names: Vec<&str> = names.collect();
            format!(
                "{} ({})",
                places(parts),
                if names.is_empty() { "-".into() } else { names.join(" x ") }
            )
        };
        let axes: Vec<String> = self.axes.iter().map(axis).collect();
        format!("[samples, {}]", axes.join(", "))
    }
}

fn whole_of(shape: Shape, tag: Tag) -> Vec<Atom> {
    let size = match (tag, shape) {
        (Tag::Height, Shape::Map { height, .. }) => height,
        (Tag::Width, Shape::Map { width, .. }) => width,
        (Tag::Channels, shape) => shape.channels(),
        (Tag::Height | Tag::Width, Shape::Flat(_)) => 1,
    };
    whole(tag, size)
}

#[cfg(test)]
mod tests {
    use rekindle_nn::{Shape, Source};

    use super::{Atom, Data, Tag};

    #[test]
    fn reshapes_keep_track_of_axes() {
        let data = Data::channels_first(Source::Input, Shape::map(4, 6, 8));
        assert_eq!(data.extents(), [8, 4, 6]);
        let flat = data.reshaped(&[8 * 24]).expect("all in a row");
        assert_eq!(flat.extents(), [192]);
        assert_eq!(flat.reshaped(&[8, 1, 4, 6]).expect("back").axes[2], data.axes[1]);
        // A channel shuffle: [2, 4, ...] as [4, 2, ...].
        let mut split = data.reshaped(&[2, 4, 4, 6]).expect("groups");
        split.axes.swap(0, 1);
        let shuffled = split.reshaped(&[8, 4, 6]).expect("one axis again");
        let part = |stride, size| Atom { tag: Tag::Channels, stride, size };
        assert_eq!(shuffled.axes[0], [part(1, 4), part(4, 2)]);
        assert!(!shuffled.is(0, Tag::Channels) && shuffled.is(1, Tag::Height));
        assert!(data.reshaped(&[5, 4, 6]).is_none());
        assert!(data.reshaped(&[8, 4, 0]).is_none());
    }
}

use serde::{Deserialize, Serialize};

use crate::Pixels;

/// The middle of a photo, as PyTorch's programs take it: the photo is resized until its shorter side is a little longer than the
/// network's images, and as much is left off at its edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Middle {
    /// What the shorter side becomes.
    pub shorter: usize,
    /// How many pixels of it are kept, of a square image.
    pub kept: usize,
}

/// A photo that is resized and cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Height and width that the photo is resized to.
    pub size: [usize; 2],
    /// The first row and column that are kept.
    pub start: [usize; 2],
}

impl Middle {
    /// Nothing left off but what a square has not.
    #[must_use]
    pub const fn whole(size: usize) -> Self {
        Self { shorter: size, kept: size }
    }

    /// What becomes of a photo for images of some size, both height and width; nothing, where either is empty or the photo is so
    /// long that nobody has the memory for it.
    ///
    /// Of square images it is what torchvision's `Resize` and `CenterCrop` do. For others the photo covers both sides.
    #[must_use]
    pub fn cut(self, photo: [usize; 2], image: [usize; 2]) -> Option<Cut> {
        // More pixels are no photo's: a line of pixels.
        const MOST: usize = 1 << 28;
        let wanted =
            |side: usize| Some((side.checked_mul(self.shorter)? / self.kept.max(1)).max(side));
        let wanted = [wanted(image[0])?, wanted(image[1])?];
        if photo.contains(&0) || image.contains(&0) {
            return None;
        }
        let is_rows = wanted[0].checked_mul(photo[1])? >= wanted[1].checked_mul(photo[0])?;
        let size = match is_rows {
            true => [wanted[0], wanted[0] * photo[1] / photo[0]],
            false => [wanted[1].checked_mul(photo[0])? / photo[1], wanted[1]],
        };
        size[0].checked_mul(size[1]).filter(|count| *count <= MOST)?;
        // Python rounds halves to even numbers.
        let half = |more: usize| more / 2 + usize::from(more % 4 == 3);
        let start = [half(size[0].checked_sub(image[0])?), half(size[1].checked_sub(image[1])?)];
        Some(Cut { size, start })
    }
}

impl Pixels {
    /// A part of it; it has to be within.
    #[must_use]
    pub fn part(&self, start: [usize; 2], height: usize, width: usize) -> Self {
        let channels = self.channels();
        let rows = self.values.chunks_exact((self.width * channels).max(1));
        let rows = rows.skip(start[0]).take(height);
        let columns = start[1] * channels..(start[1] + width) * channels;
        let values = rows.flat_map(|row| row[columns.clone()].iter().copied()).collect();
        Self { width, height, values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn torchvision_s_numbers() {
        // torchvision 0.29's Resize and CenterCrop on photos of these heights and widths.
        let middle = Middle { shorter: 256, kept: 224 };
        for (photo, size, start) in [
            ([480, 640], [256, 341], [16, 58]),
            ([641, 480], [341, 256], [58, 16]),
            ([333, 500], [256, 384], [16, 80]),
            ([300, 300], [256, 256], [16, 16]),
            ([100, 149], [256, 381], [16, 78]),
        ] {
            assert_eq!(middle.cut(photo, [224, 224]), Some(Cut { size, start }), "{photo:?}");
        }
        assert_eq!(
            Middle::whole(3).cut([6, 12], [3, 3]),
            Some(Cut { size: [3, 6], start: [0, 2] })
        );
        assert_eq!(middle.cut([1, 60_000_000], [224, 224]), None);
        assert_eq!(middle.cut([0, 5], [224, 224]), None);
        // Images that are no squares are covered.
        let found = middle.cut([100, 100], [112, 224]).expect("fits");
        assert_eq!(found, Cut { size: [256, 256], start: [72, 16] });
    }

    #[test]
    fn a_part_has_its_own_pixels() {
        let values = (0..24).map(|value| value as f32).collect();
        let part = Pixels { width: 4, height: 3, values }.part([1, 2], 2, 1);
        assert_eq!((part.width, part.height), (1, 2));
        assert_eq!(part.values, [12.0, 13.0, 20.0, 21.0]);
    }
}

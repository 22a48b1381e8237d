use serde::{Deserialize, Serialize};

use crate::Shape;

/// What stands around the values that a window moves over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Padding {
    /// So that the output has `ceil(size / stride)` rows; if odd, one more after than before.
    Same,
    /// None.
    Valid,
    /// Rows above and below, columns left and right, as ONNX has it.
    Explicit([[usize; 2]; 2]),
}

/// The kernel of a convolution or a pool and how it moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Height and width.
    pub kernel: [usize; 2],
    /// Step, down and right.
    pub stride: [usize; 2],
    /// What stands around the values.
    pub padding: Padding,
    /// The distance of the kernel's taps, down and right; 1 where they are neighbours.
    #[serde(default = "ones", skip_serializing_if = "is_ones")]
    pub dilation: [usize; 2],
}

fn ones() -> [usize; 2] {
    [1, 1]
}

fn is_ones(dilation: &[usize; 2]) -> bool {
    *dilation == [1, 1]
}

impl Window {
    /// With stride 1.
    #[must_use]
    pub const fn new(kernel: [usize; 2], padding: Padding) -> Self {
        Self { kernel, stride: [1, 1], padding, dilation: [1, 1] }
    }

    /// The same step down and right.
    #[must_use]
    pub const fn with_stride(self, stride: usize) -> Self {
        Self { stride: [stride, stride], ..self }
    }

    /// Rows (0) or columns (1) that the kernel covers.
    #[must_use]
    pub fn extent(&self, axis: usize) -> usize {
        (self.kernel[axis].saturating_sub(1)).saturating_mul(self.dilation[axis]).saturating_add(1)
    }

    /// Padding before and after a dimension of `size`.
    #[must_use]
    pub fn amount(&self, axis: usize, size: usize) -> [usize; 2] {
        match self.padding {
            Padding::Valid => [0, 0],
            Padding::Explicit(edges) => edges[axis],
            Padding::Same => {
                let stride = self.stride[axis].max(1);
                let steps = size.div_ceil(stride).max(1) - 1;
                let total = (steps * stride).saturating_add(self.extent(axis)).saturating_sub(size);
                [total / 2, total - total / 2]
            }
        }
    }

    /// Padding of maps: above and below, left and right.
    #[must_use]
    pub fn edges(&self, height: usize, width: usize) -> [[usize; 2]; 2] {
        [self.amount(0, height), self.amount(1, width)]
    }

    /// The shape of what comes out; the error says what the window takes.
    pub(crate) fn output(&self, input: Shape, channels: usize) -> Result<Shape, String> {
        let Shape::Map { height, width, .. } = input else {
            return Err("(None, height, width, channels)".into());
        };
        let zeros = [self.kernel, self.stride, self.dilation].concat();
        if zeros.contains(&0) {
            return Err("kernel, strides and dilation from 1".into());
        }
        let along = |axis: usize, size: usize| {
            let [before, after] = self.amount(axis, size);
            let padded = size.checked_add(before)?.checked_add(after).filter(|_| size > 0)?;
            Some(padded.checked_sub(self.extent(axis))? / self.stride[axis] + 1)
        };
        match (along(0, height), along(1, width)) {
            (Some(height), Some(width)) => Ok(Shape::map(height, width, channels)),
            _ => Err(format!("at least {} x {} pixels", self.extent(0), self.extent(1))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Padding, Window};
    use crate::Shape;

    #[test]
    fn same_padding_is_tensorflow_s() {
        let same =
            |kernel, stride| Window::new([kernel, kernel], Padding::Same).with_stride(stride);
        assert_eq!(same(3, 2).amount(0, 224), [0, 1]);
        assert_eq!(same(3, 2).amount(0, 97), [1, 1]);
        assert_eq!(same(7, 1).amount(0, 17), [3, 3]);
        assert_eq!(same(1, 2).amount(0, 5), [0, 0]);
        let dilated = Window { dilation: [2, 2], ..same(3, 1) };
        assert_eq!(dilated.amount(0, 9), [2, 2]);
        let valid = Window::new([3, 3], Padding::Valid);
        assert!(valid.output(Shape::map(2, 2, 1), 1).is_err());
        assert_eq!(valid.with_stride(2).output(Shape::image(299), 8), Ok(Shape::map(149, 149, 8)));
    }
}

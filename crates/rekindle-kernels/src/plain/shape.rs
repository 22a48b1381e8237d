//! Values in other places: paddings, crops, other shapes and sizes.

use rekindle_nn::ops::Resizing;

use crate::view::View;

/// Zeros around an image.
///
/// # Safety
/// As [`Plain::run`](super::Plain::run), like all here.
pub(super) unsafe fn pad_row([above, left]: [usize; 2], from: View, out: View, row: usize) {
    let y = row.checked_sub(above).filter(|&y| y < from.height);
    for x in 0..out.width {
        // SAFETY: the caller's.
        let to = unsafe { out.values_mut(row * out.width + x) };
        match (y, x.checked_sub(left).filter(|&x| x < from.width)) {
            // SAFETY: the pixel lies on the image.
            (Some(y), Some(x)) => to.copy_from_slice(unsafe { from.values(y * from.width + x) }),
            _ => to.fill(0.0),
        }
    }
}

/// A part of an image.
pub(super) unsafe fn crop_row([top, left]: [usize; 2], from: View, out: View, row: usize) {
    for x in 0..out.width {
        let pixel = (row + top) * from.width + x + left;
        // SAFETY: the caller's; the part lies on the image.
        unsafe { out.values_mut(row * out.width + x).copy_from_slice(from.values(pixel)) };
    }
}

/// The same values, in the order of pixels and channels.
pub(super) unsafe fn reshape(from: View, out: View) {
    // SAFETY: the caller's.
    let pixels = (0..from.height * from.width).map(|pixel| unsafe { from.values(pixel) });
    let mut values = pixels.flatten().copied();
    for pixel in 0..out.height * out.width {
        // SAFETY: the caller's.
        let to = unsafe { out.values_mut(pixel) };
        to.iter_mut().zip(&mut values).for_each(|(to, value)| *to = value);
    }
}

/// Axes in another order.
pub(super) unsafe fn permute_row(axes: [usize; 3], from: View, out: View, row: usize) {
    let mut at = [0; 3];
    at[axes[0]] = row;
    for x in 0..out.width {
        at[axes[1]] = x;
        // SAFETY: the caller's.
        let to = unsafe { out.values_mut(row * out.width + x) };
        for (channel, to) in to.iter_mut().enumerate() {
            at[axes[2]] = channel;
            // SAFETY: the caller's; each axis has as many places as that of the output.
            *to = unsafe { from.values(at[0] * from.width + at[1]) }[at[2]];
        }
    }
}

/// An image of another size.
pub(super) unsafe fn resize(resizing: &Resizing, from: View, out: View) {
    // SAFETY: the caller's.
    let pixels = (0..from.height * from.width).map(|pixel| unsafe { from.values(pixel) });
    let image: Vec<f32> = pixels.flatten().copied().collect();
    let resized = resizing.resize(&image, [from.height, from.width, from.channels]);
    // The graph has seen that it takes these sizes; if it does not, no number stands for one.
    let resized = resized.unwrap_or_else(|_| vec![f32::NAN; out.height * out.width * out.channels]);
    for (pixel, values) in resized.chunks_exact(out.channels).enumerate() {
        // SAFETY: the caller's.
        unsafe { out.values_mut(pixel) }.copy_from_slice(values);
    }
}

//! Inverted residual blocks, strip by strip: a convolution that widens, a depthwise one and one that narrows again.
//! Between them there are only the rows that the next strip needs, which fit the second-level cache; the whole
//! widened map would be written to memory and read again.

use std::cell::RefCell;
use std::ops::Range;

use super::conv::{Operands, View};
use super::{Gemm, Plan, Window};
use crate::simd::{Values, zeros};

/// Values that the rows between the convolutions may take: half a megabyte.
const STRIP_VALUES: usize = 128 * 1024;

thread_local! {
    static ROWS: RefCell<Values> = RefCell::new(zeros(0));
}

/// The three convolutions; a second input is a residual to add to the last.
pub(crate) struct Strip {
    pub expand: Gemm,
    /// Height, width and channels, padded to whole blocks, of the widened map.
    pub expanded: [usize; 3],
    pub depthwise: Window,
    pub project: Gemm,
}

impl Plan {
    /// Some rows of a block's output.
    pub(super) fn run_strip(
        &self,
        strip: &Strip,
        input: View,
        residual: Option<View>,
        out: View,
        rows: Range<usize>,
    ) {
        let Strip { expand, expanded: [height, width, channels], depthwise, project } = strip;
        let (&height, &width, &channels) = (height, width, channels);
        let ([kernel, _], [step, _], [above, _]) =
            (depthwise.kernel, depthwise.stride, depthwise.before);
        // Output rows at a time.
        let lines = |strip_rows: usize| (strip_rows - 1) * step + kernel;
        let fits = |strip_rows: &usize| {
            (lines(*strip_rows) * width + strip_rows * out.width) * channels <= STRIP_VALUES
        };
        let at_once = (1..=rows.len()).take_while(fits).last().unwrap_or(1);
        let ring = lines(at_once);
        ROWS.with_borrow_mut(|values| {
            let (between, narrowed) = (ring * width * channels, at_once * out.width * channels);
            if values.len() < between + narrowed {
                values.resize(between + narrowed, 0.0);
            }
            let (between, narrowed) = values.split_at_mut(between);
            // Row `y` of the widened map is row `y % ring` here.
            let widened = View {
                base: between.as_mut_ptr(),
                height: ring,
                width,
                channels,
                stride: channels,
            };
            let filtered = View {
                base: narrowed.as_mut_ptr(),
                height: at_once,
                width: out.width,
                channels,
                stride: channels,
            };
            let widen = self.product(expand, width);
            let narrow = self.product(project, out.width);
            let panels = |gemm: &Gemm, channels: usize| 0..channels.div_ceil(gemm.panel);
            let mut done = (rows.start * step).saturating_sub(above);
            for first in rows.clone().step_by(at_once) {
                let end = (first + at_once).min(rows.end);
                let needed = (((end - 1) * step + kernel).saturating_sub(above)).min(height);
                while done < needed {
                    // Up to the end of the ring.
                    let until = needed.min((done / ring + 1) * ring);
                    let to = View { base: widened.pixel(done % ring * width), ..widened };
                    let pixels = done * width..until * width;
                    let image = Operands { input, out: to, residual: None };
                    widen.run_at(pixels, panels(expand, channels), &[image], done * width);
                    done = until;
                }
                let map = View { height, ..widened };
                let line = |y: usize| widened.pixel(y % ring * width).cast_const();
                for row in first..end {
                    let to = filtered.pixel((row - first) * out.width);
                    self.depthwise_row(depthwise, map, line, row, to, filtered);
                }
                let start = first * out.width;
                let image = Operands {
                    input: filtered,
                    out: out.starting_at(start),
                    residual: residual.map(|view| view.starting_at(start)),
                };
                let pixels = 0..(end - first) * out.width;
                narrow.run(pixels, panels(project, out.channels), &[image]);
            }
        });
    }
}

//! Inverted residual blocks, strip by strip: a convolution that widens, a depthwise one and one that narrows again.
//! Between them there are only the rows that the next strip needs, which fit the second-level cache; the whole
//! widened map would be written to memory and read again.

use std::cell::RefCell;
use std::ops::Range;

use super::conv::Operands;
use super::{Depthwise, Gemm, Plan};
use crate::simd::{Buffer, zeros};
use crate::view::View;

/// Values that the rows between the convolutions may take: half a megabyte. Few in tests, whose maps are small, so that
/// they have more than one strip.
const STRIP_VALUES: usize = if cfg!(test) { 4 * 1024 } else { 128 * 1024 };

/// What a thread keeps between strips.
struct Space {
    /// To the pixels that rows of the first product take.
    pointers: Vec<*const f32>,
    /// The rows between the convolutions.
    values: Buffer<f32>,
}

thread_local! {
    static SPACE: RefCell<Space> = RefCell::new(Space { pointers: Vec::new(), values: zeros(0) });
}

/// The three convolutions; a second input is a residual to add to the last.
pub(crate) struct Strip {
    pub expand: Gemm,
    /// Height, width and channels, padded to whole blocks, of the widened map.
    pub expanded: [usize; 3],
    pub depthwise: Depthwise,
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
            (depthwise.window.kernel, depthwise.window.stride, depthwise.window.before);
        // Output rows at a time.
        let lines = |strip_rows: usize| (strip_rows - 1) * step + kernel;
        let fits = |strip_rows: &usize| {
            (lines(*strip_rows) * width + strip_rows * out.width) * channels <= STRIP_VALUES
        };
        let at_once = (1..=rows.len()).take_while(fits).last().unwrap_or(1);
        let ring = lines(at_once);
        // A panel of the widened rows lies by itself, so that it is read line after line of the cache.
        let (pixels, panel, panels) = (ring * width, expand.shape.panel, expand.shape.panels());
        let widened = panels.len() * pixels * panel;
        SPACE.with_borrow_mut(|Space { pointers, values }| {
            if values.len() < widened + at_once * out.width * channels {
                values.resize(widened + at_once * out.width * channels, 0.0);
            }
            let (widened, narrowed) = values.split_at_mut(widened);
            // Row `y` of the widened map is row `y % ring` here.
            let widened = View {
                base: widened.as_mut_ptr(),
                height: ring,
                width,
                channels: panel,
                stride: panel,
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
            let mut done = (rows.start * step).saturating_sub(above);
            for first in rows.clone().step_by(at_once) {
                let end = (first + at_once).min(rows.end);
                let needed = (((end - 1) * step + kernel).saturating_sub(above)).min(height);
                // Up to the end of the ring, and what is left from its beginning.
                let turn = needed.min((done / ring + 1) * ring);
                let runs =
                    [done..turn, turn..needed].map(|lines| lines.start * width..lines.end * width);
                done = needed;
                pointers.clear();
                for run in &runs {
                    widen.point(pointers, input, run.clone());
                }
                let (before, behind) = pointers.split_at(runs[0].len() * expand.shape.taps());
                for index in panels.clone() {
                    let own =
                        View { base: widened.base.wrapping_add(index * pixels * panel), ..widened };
                    for (run, pointers) in runs.iter().zip([before, behind]) {
                        let to = own.starting_at(run.start % pixels);
                        widen.run_panel(index, pointers, to, None);
                    }
                    let line = |y: usize| own.pixel(y % ring * width).cast_const();
                    let of_panel = index * panel..((index + 1) * panel).min(channels);
                    let to = filtered.from(0, index * panel);
                    let map = View { height, ..own };
                    self.depthwise_rows(depthwise, of_panel, map, line, first..end, to);
                }
                let start = first * out.width;
                let image = Operands {
                    input: filtered,
                    out: out.starting_at(start),
                    residual: residual.map(|view| view.starting_at(start)),
                };
                narrow.run(0..(end - first) * out.width, project.shape.panels(), &[image]);
            }
        });
    }
}

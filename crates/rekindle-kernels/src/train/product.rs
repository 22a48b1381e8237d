//! Products of large dense layers, by the engine's tiles. The kernel is read once, and its gradient is made a few rows at a
//! time, so that an optimizer can take them from the cache. Sums have one order, whatever the number of threads.

use std::ops::Range;

use rayon::prelude::*;

use super::rule::{Piece, Update};
use crate::Isa;
use crate::gemm::{TileArgs, pack_into};
use crate::ir::Element;
use crate::isa::Kernels;
use crate::simd::prefetch;

/// A kernel with fewer values is not worth packing anything for it.
const LEAST: usize = 1 << 16;

/// Inputs that are multiplied at once: what they have of the kernel stays in the second-level cache.
const BLOCK: usize = 64;

/// Sums that are made apart from each other.
const PARTS: usize = 16;

/// Rows of a kernel that one thread takes at once, in tiles.
const PIECE: usize = 96;

/// A dense layer's product: its sizes, and the kernels that compute it.
#[derive(Clone, Copy)]
pub(super) struct Product {
    kernels: Kernels,
    inputs: usize,
    outputs: usize,
    /// Columns that are computed; those behind the outputs are zeros.
    padded: usize,
}

impl std::fmt::Debug for Product {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Product({} x {})", self.inputs, self.outputs)
    }
}

/// What a kernel's gradient is the product of.
#[derive(Clone, Copy)]
pub(super) struct Factors<'a> {
    /// `[batch][inputs]`.
    pub x: &'a [f32],
    /// `[batch][outputs]`, as [`Product::packed`] packs it.
    pub dy: &'a [f32],
}

/// Rows of the left matrix of a tile.
struct Rows<'a> {
    /// One for each row, to `depth` values.
    pointers: &'a [*const f32],
    depth: usize,
}

impl Product {
    /// That of a large kernel, `[inputs][outputs]`, of vectors. Maps have more rows, and parts of their sums would take more memory than the maps.
    pub fn new(isa: Isa, inputs: usize, outputs: usize) -> Option<Self> {
        let kernels = isa.kernels();
        let padded = kernels.padded(outputs, Element::F32);
        (inputs * outputs >= LEAST).then_some(Self { kernels, inputs, outputs, padded })
    }

    /// Values with `outputs` columns as tiles read them.
    pub fn packed(&self, values: &[f32]) -> Vec<f32> {
        let mut packed = Vec::new();
        self.pack_into(&mut packed, values);
        packed
    }

    fn pack_into(&self, packed: &mut Vec<f32>, values: &[f32]) {
        let depth = values.len() / self.outputs;
        pack_into(packed, values, depth, self.outputs, self.padded, self.kernels.columns);
    }

    /// `out = x kernel + bias`; `x` is `[batch][inputs]`, `out` `[batch][outputs]`.
    pub fn forward(&self, x: &[f32], kernel: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
        let (batch, width) = (out.len() / self.outputs, self.padded);
        let blocks: Vec<usize> = (0..self.inputs).step_by(BLOCK).collect();
        let parts: Vec<Vec<f32>> = blocks
            .par_chunks(blocks.len().div_ceil(PARTS))
            .map(|blocks| {
                let (mut sums, mut packed) = (vec![0.0; batch * width], Vec::new());
                for &start in blocks {
                    let inputs = start..(start + BLOCK).min(self.inputs);
                    self.add_block(x, kernel, inputs, &mut packed, &mut sums);
                }
                sums
            })
            .collect();
        for (row, out) in out.chunks_exact_mut(self.outputs).enumerate() {
            match bias {
                Some(bias) => out.copy_from_slice(bias),
                None => out.fill(0.0),
            }
            for part in &parts {
                out.iter_mut().zip(&part[row * width..]).for_each(|(out, sum)| *out += sum);
            }
        }
    }

    /// Adds the products of some inputs to `sums`, `[batch][padded]`; `packed` is room for what they have of the kernel.
    fn add_block(
        &self,
        x: &[f32],
        kernel: &[f32],
        inputs: Range<usize>,
        packed: &mut Vec<f32>,
        sums: &mut [f32],
    ) {
        self.pack_into(packed, &kernel[inputs.start * self.outputs..inputs.end * self.outputs]);
        let rows = x.chunks_exact(self.inputs);
        let pointers: Vec<*const f32> = rows.map(|row| row[inputs.clone()].as_ptr()).collect();
        let rows = Rows { pointers: &pointers, depth: inputs.len() };
        // A part of the next inputs' weights before each panel.
        let next = &kernel[inputs.end * self.outputs..];
        let next = &next[..next.len().min(BLOCK * self.outputs)];
        let ahead = |columns: Range<usize>| {
            let share = |column: usize| next.len() * column / self.padded;
            prefetch(&next[share(columns.start)..share(columns.end)]);
        };
        self.tiles(&rows, packed, sums, true, ahead);
    }

    /// Gradients of some rows of the kernel, `[rows][padded]`; `turned` is room for their inputs. Calls `ahead` before some
    /// columns are computed.
    fn gradient_rows(
        &self,
        factors: Factors<'_>,
        rows: Range<usize>,
        turned: &mut Vec<f32>,
        gradient: &mut [f32],
        ahead: impl Fn(Range<usize>),
    ) {
        let Factors { x, dy } = factors;
        let batch = x.len() / self.inputs;
        turned.clear();
        for input in rows.clone() {
            turned.extend(x.iter().skip(input).step_by(self.inputs));
        }
        let pointers: Vec<*const f32> = turned.chunks_exact(batch).map(<[f32]>::as_ptr).collect();
        self.tiles(&Rows { pointers: &pointers, depth: batch }, dy, gradient, false, ahead);
    }

    /// `out = rows packed`, or `out += rows packed`: `[rows][padded]`. Calls `ahead` before some columns are computed, so that
    /// what comes next is fetched from memory while products are computed.
    fn tiles(
        &self,
        rows: &Rows<'_>,
        packed: &[f32],
        out: &mut [f32],
        adds: bool,
        ahead: impl Fn(Range<usize>),
    ) {
        let (count, depth, stride) = (rows.pointers.len(), rows.depth, self.padded);
        assert!(packed.len() >= depth * stride && out.len() >= count * stride, "room for all");
        let bias = [0.0; 64];
        // Tiles of one height: three of eleven rows take less than two of twelve and one of eight.
        let height = count.div_ceil(count.div_ceil(self.kernels.rows).max(1)).max(1);
        for column in (0..stride).step_by(self.kernels.columns) {
            let columns = self.kernels.columns.min(stride - column);
            ahead(column..column + columns);
            let weights = &packed[column * depth..][..columns * depth];
            for (number, pointers) in rows.pointers.chunks(height).enumerate() {
                let to = out[number * height * stride + column..].as_mut_ptr();
                let args = TileArgs {
                    pixels: pointers.as_ptr(),
                    channels: depth,
                    weights: weights.as_ptr(),
                    bias: bias.as_ptr(),
                    out: to,
                    stride,
                    residual: if adds { to.cast_const() } else { std::ptr::null() },
                    residual_stride: stride,
                    rows: pointers.len(),
                    columns,
                    ..TileArgs::PLAIN
                };
                // SAFETY: each pointer is to `depth` values of a slice; the weights are sliced to size, the bias is as
                // wide as the widest tile; rows and columns lie in `out`, which is borrowed for writing; a tile reads
                // its residual before it writes there; the kernels are of an instruction set that is there.
                unsafe { (self.kernels.tile)(&args) };
            }
        }
    }

    /// Adds the gradient of the kernel, or puts it in the place of what is there.
    pub fn gradient(&self, factors: Factors<'_>, adds: bool, gradient: &mut [f32]) {
        let pieces = gradient.par_chunks_mut(PIECE * self.outputs).enumerate();
        pieces.for_each(|(number, piece)| {
            let each = |row: usize, own: &[f32], piece: &mut [f32]| {
                let to = &mut piece[row * self.outputs..][..self.outputs];
                match adds {
                    true => to.iter_mut().zip(own).for_each(|(to, own)| *to += own),
                    false => to.copy_from_slice(own),
                }
            };
            self.rows_of_piece(factors, number, piece, |_, _, _| {}, each);
        });
    }

    /// Updates the kernel by its gradient, which is never in memory as a whole.
    pub fn update(
        &self,
        factors: Factors<'_>,
        update: &Update,
        kernel: &mut [f32],
        slots: &mut [Vec<f32>],
    ) {
        let pieces = update.pieces(kernel, slots, PIECE * self.outputs);
        pieces.into_par_iter().enumerate().for_each(|(number, mut piece)| {
            let each = |row: usize, own: &[f32], piece: &mut Piece<'_>| {
                let range = row * self.outputs..(row + 1) * self.outputs;
                update.apply(&mut piece.part(range), own);
            };
            // What the update reads, and no product does.
            let ahead = |rows: Range<usize>, columns: Range<usize>, piece: &Piece<'_>| {
                let columns = columns.start.min(self.outputs)..columns.end.min(self.outputs);
                for row in rows {
                    let start = row * self.outputs;
                    let part = start + columns.start..start + columns.end;
                    prefetch(&piece.weights[part.clone()]);
                    let slots = piece.slots.iter().filter(|slot| !slot.is_empty());
                    slots.for_each(|slot| prefetch(&slot[part.clone()]));
                }
            };
            self.rows_of_piece(factors, number, &mut piece, ahead, each);
        });
    }

    /// Hands the gradients of a piece's rows on, one after the other; `ahead` is called before some rows' columns are computed.
    fn rows_of_piece<P: ?Sized>(
        &self,
        factors: Factors<'_>,
        number: usize,
        piece: &mut P,
        ahead: impl Fn(Range<usize>, Range<usize>, &P),
        each: impl Fn(usize, &[f32], &mut P),
    ) {
        let first = number * PIECE;
        let last = (first + PIECE).min(self.inputs);
        let height = self.kernels.rows;
        let mut gradient = vec![0.0; height * self.padded];
        let mut turned = Vec::with_capacity(height * (factors.x.len() / self.inputs));
        for start in (first..last).step_by(height) {
            let rows = start..(start + height).min(last);
            let own = rows.start - first..rows.end - first;
            let ahead = |columns: Range<usize>| ahead(own.clone(), columns, piece);
            self.gradient_rows(factors, rows.clone(), &mut turned, &mut gradient, ahead);
            for (row, own) in rows.zip(gradient.chunks_exact(self.padded)) {
                each(row - first, &own[..self.outputs], piece);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::train::Rule;

    /// Batch, inputs and outputs: whole tiles and panels, and what is left of them.
    const CASES: [[usize; 3]; 5] =
        [[32, 640, 128], [1, 4100, 16], [9, 1300, 56], [33, 66_000, 1], [13, 257, 263]];

    fn product([batch, inputs, outputs]: [usize; 3], isa: Isa, run: impl Fn(Product, Data)) {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut random = |count: usize| -> Vec<f32> {
            (0..count).map(|_| rng.random::<f32>() * 2.0 - 1.0).collect()
        };
        let (x, kernel) = (random(batch * inputs), random(inputs * outputs));
        let (bias, dy) = (random(outputs), random(batch * outputs));
        let product = Product::new(isa, inputs, outputs).expect("a large kernel");
        run(product, Data { x, kernel, bias, dy });
    }

    struct Data {
        x: Vec<f32>,
        kernel: Vec<f32>,
        bias: Vec<f32>,
        dy: Vec<f32>,
    }

    fn all(run: impl Fn([usize; 3], Product, Data)) {
        for isa in Isa::available() {
            for case in CASES {
                product(case, isa, |product, data| run(case, product, data));
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "minutes")]
    fn products_are_the_naive_ones() {
        all(|[batch, inputs, outputs], product, Data { x, kernel, bias, dy }| {
            let mut y = vec![f32::NAN; batch * outputs];
            product.forward(&x, &kernel, Some(&bias), &mut y);
            for (index, &found) in y.iter().enumerate() {
                let (row, column) = (index / outputs, index % outputs);
                let sum: f64 = (0..inputs)
                    .map(|i| {
                        f64::from(x[row * inputs + i]) * f64::from(kernel[i * outputs + column])
                    })
                    .sum();
                let expected = sum + f64::from(bias[column]);
                assert!((f64::from(found) - expected).abs() < 1e-3, "{found} {expected}");
            }
            let packed = product.packed(&dy);
            let factors = Factors { x: &x, dy: &packed };
            for adds in [false, true] {
                let mut gradient = kernel.clone();
                product.gradient(factors, adds, &mut gradient);
                for (index, &found) in gradient.iter().enumerate() {
                    let (i, column) = (index / outputs, index % outputs);
                    let sum: f64 = (0..batch)
                        .map(|row| {
                            f64::from(x[row * inputs + i]) * f64::from(dy[row * outputs + column])
                        })
                        .sum();
                    let expected = sum + if adds { f64::from(kernel[index]) } else { 0.0 };
                    assert!((f64::from(found) - expected).abs() < 1e-4, "{found} {expected}");
                }
            }
        });
    }

    /// To the bit, and on any number of threads.
    #[test]
    #[cfg_attr(miri, ignore = "minutes")]
    fn an_update_is_that_by_the_whole_gradient() {
        let threads = [1, 3].map(|threads| {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads")
        });
        let rules = [
            Rule::adam_w(),
            Rule::sgd(0.0, false),
            Rule::sgd(0.9, true),
            Rule::rms_prop(),
            Rule::RmsProp { rho: 0.8, momentum: 0.5, epsilon: 1e-6 },
        ];
        all(|[batch, inputs, outputs], product, Data { x, kernel, bias, dy }| {
            let packed = product.packed(&dy);
            let factors = Factors { x: &x, dy: &packed };
            for rule in rules {
                let slots = vec![vec![0.01; kernel.len()]; rule.slots()];
                let mut gradient = vec![f32::NAN; inputs * outputs];
                product.gradient(factors, false, &mut gradient);
                let (mut expected, mut expected_slots) = (kernel.clone(), slots.clone());
                rule.update(3, 1e-2, 0.5, &mut expected, &gradient, &mut expected_slots);
                let mut outputs_before = None;
                for pool in &threads {
                    let (mut found, mut found_slots) = (kernel.clone(), slots.clone());
                    let update = rule.at(3, 1e-2, 0.5);
                    let mut y = vec![0.0; batch * outputs];
                    pool.install(|| {
                        product.update(factors, &update, &mut found, &mut found_slots);
                        product.forward(&x, &kernel, Some(&bias), &mut y);
                    });
                    assert!(found == expected && found_slots == expected_slots, "{rule:?}");
                    assert!(*outputs_before.get_or_insert_with(|| y.clone()) == y);
                }
            }
        });
    }
}

//! Matrix products, by the crate `gemm`.

use gemm::Parallelism;

/// A matrix in memory: values, and how far the next row and the next column are.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    steps: [usize; 2],
}

impl<'a> Matrix<'a> {
    /// Row after row.
    pub fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "a matrix has all its values");
        Self { values, rows, columns, steps: [columns, 1] }
    }

    /// Columns of a matrix whose rows lie `step` apart, from its first value on.
    pub fn strided(values: &'a [f32], rows: usize, columns: usize, step: usize) -> Self {
        let reach = rows.checked_sub(1).map_or(0, |last| last * step + columns);
        assert!(reach <= values.len(), "a matrix has all its values");
        Self { values, rows, columns, steps: [step, 1] }
    }

    /// Rows become columns.
    pub fn transposed(self) -> Self {
        let [row, column] = self.steps;
        Self { rows: self.columns, columns: self.rows, steps: [column, row], ..self }
    }
}

/// `out = a b`, or `out += a b`; on all threads or on this one.
pub(super) fn multiply(
    out: &mut [f32],
    a: Matrix<'_>,
    b: Matrix<'_>,
    adds: bool,
    all_threads: bool,
) {
    assert_eq!(a.columns, b.rows, "matrices that can be multiplied");
    assert_eq!(out.len(), a.rows * b.columns, "a result of the product's size");
    if out.is_empty() {
        return;
    }
    let parallelism = if all_threads { Parallelism::Rayon(0) } else { Parallelism::None };
    // SAFETY: `Matrix::new` checked that each matrix has all its values, the assertions that the three fit; `out`
    // is borrowed for writing, so that it is none of the others.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            out.as_mut_ptr(),
            1,
            b.columns as isize,
            adds,
            a.values.as_ptr(),
            a.steps[1] as isize,
            a.steps[0] as isize,
            b.values.as_ptr(),
            b.steps[1] as isize,
            b.steps[0] as isize,
            // `out = alpha * out + beta * a b`.
            if adds { 1.0 } else { 0.0 },
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "the crate gemm's own, and slow there")]
    fn products_are_the_naive_ones() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for case in 0..40 {
            let [m, n, k] = [1, 2, 3].map(|_| rng.random_range(1..40));
            let mut random = |count: usize| -> Vec<f32> {
                (0..count).map(|_| rng.random::<f32>() * 2.0 - 1.0).collect()
            };
            let (a, b, start) = (random(m * k), random(k * n), random(m * n));
            let (adds, turned, threads) = (case % 2 == 0, case % 3 == 0, case % 5 == 0);
            let mut out = start.clone();
            let left =
                if turned { Matrix::new(&a, k, m).transposed() } else { Matrix::new(&a, m, k) };
            multiply(&mut out, left, Matrix::new(&b, k, n), adds, threads);
            for row in 0..m {
                for column in 0..n {
                    let a = |i: usize| if turned { a[i * m + row] } else { a[row * k + i] };
                    let sum: f64 =
                        (0..k).map(|i| f64::from(a(i)) * f64::from(b[i * n + column])).sum();
                    let index = row * n + column;
                    let expected = sum + if adds { f64::from(start[index]) } else { 0.0 };
                    assert!((f64::from(out[index]) - expected).abs() < 1e-5);
                }
            }
        }
    }
}

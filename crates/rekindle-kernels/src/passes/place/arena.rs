//! One block of memory for all activations: values whose lives do not overlap share a place.

use crate::simd::LINE;

/// A buffer: how many bytes, and the first and last step that touch it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    pub length: usize,
    pub first: usize,
    pub last: usize,
}

/// An offset for each buffer, and how many bytes all of them take.
pub(super) fn allocate(lives: &[Life]) -> (Vec<usize>, usize) {
    // Whole lines of the cache.
    let whole = |life: &Life| Life { length: life.length.next_multiple_of(LINE), ..*life };
    let lives: Vec<Life> = lives.iter().map(whole).collect();
    // The large ones first: what is left between them is for the small ones.
    let mut order: Vec<usize> = (0..lives.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(lives[index].length));
    let mut offsets = vec![0; lives.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut total = 0;
    for index in order {
        let life = lives[index];
        let meets = |other: &&usize| {
            let other = lives[**other];
            life.first <= other.last && other.first <= life.last
        };
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .filter(meets)
            .map(|&other| (offsets[other], lives[other].length))
            .collect();
        taken.sort_unstable();
        let mut offset = 0;
        for (start, length) in taken {
            if offset + life.length <= start {
                break;
            }
            offset = offset.max(start + length);
        }
        offsets[index] = offset;
        total = total.max(offset + life.length);
        placed.push(index);
    }
    (offsets, total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_that_meet_never_share_memory() {
        let lives: Vec<Life> = (0..40_usize)
            .map(|i| Life {
                length: LINE * (1 + i * 7 % 5) - i % 3,
                first: i,
                last: i + 1 + i * 11 % 6,
            })
            .collect();
        let (offsets, total) = allocate(&lives);
        for (i, a) in lives.iter().enumerate() {
            assert!(offsets[i] + a.length <= total);
            assert!(offsets[i].is_multiple_of(LINE), "{i} straddles lines of the cache");
            for (j, b) in lives.iter().enumerate().skip(i + 1) {
                let meet = a.first <= b.last && b.first <= a.last;
                let apart =
                    offsets[i] + a.length <= offsets[j] || offsets[j] + b.length <= offsets[i];
                assert!(!meet || apart, "{i} and {j}");
            }
        }
        assert!(total < lives.iter().map(|life| life.length).sum::<usize>() / 2);
    }
}

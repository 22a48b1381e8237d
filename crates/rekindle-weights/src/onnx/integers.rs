//! Shapes that a graph computes: integers, of which the number of samples is not known.

use super::constant::{Binary, broadcast, count};

/// One integer of a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Integer {
    Known(i64),
    /// The number of samples.
    Batch,
}

impl Integer {
    pub fn known(self) -> Option<i64> {
        match self {
            Self::Known(value) => Some(value),
            Self::Batch => None,
        }
    }
}

/// Integers of a shape: none or one axis mostly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Integers {
    pub shape: Vec<usize>,
    pub values: Vec<Integer>,
}

/// More than any shape has.
const MOST: usize = 1 << 12;

impl Integers {
    pub fn list(values: Vec<Integer>) -> Self {
        Self { shape: vec![values.len()], values }
    }

    pub fn known(shape: Vec<usize>, values: &[i64]) -> Self {
        Self { shape, values: values.iter().map(|&value| Integer::Known(value)).collect() }
    }

    /// All of them, where none is the number of samples.
    pub fn all_known(&self) -> Option<Vec<i64>> {
        self.values.iter().map(|value| value.known()).collect()
    }

    pub fn reshaped(&self, shape: Vec<usize>) -> Option<Self> {
        (count(&shape) == Some(self.values.len()))
            .then(|| Self { shape, values: self.values.clone() })
    }

    /// Along the first and only axis.
    pub fn slice(&self, start: i64, end: i64, step: i64) -> Option<Self> {
        let size = i64::try_from(self.values.len()).ok().filter(|_| self.shape.len() == 1)?;
        let bound = |value: i64| if value < 0 { value.saturating_add(size) } else { value };
        if step < 1 {
            return None;
        }
        let (start, end) = (bound(start).clamp(0, size), bound(end).clamp(0, size));
        let step = usize::try_from(step).ok()?;
        let places = (start..end.max(start)).step_by(step);
        let values =
            places.filter_map(|place| self.values.get(usize::try_from(place).ok()?).copied());
        Some(Self::list(values.collect()))
    }

    /// ONNX's Gather along the first and only axis.
    pub fn gather(&self, places: &Self) -> Option<Self> {
        let size = i64::try_from(self.values.len()).ok().filter(|_| self.shape.len() == 1)?;
        let at = |place: &Integer| {
            let place = place.known()?;
            let place = if place < 0 { place.checked_add(size)? } else { place };
            self.values.get(usize::try_from(place).ok()?).copied()
        };
        let values = places.values.iter().map(at).collect::<Option<_>>()?;
        Some(Self { shape: places.shape.clone(), values })
    }

    pub fn concat(parts: &[Self]) -> Option<Self> {
        let is_flat = parts.iter().all(|part| part.shape.len() == 1);
        let values: Vec<Integer> = parts.iter().flat_map(|part| part.values.clone()).collect();
        (is_flat && values.len() <= MOST).then(|| Self::list(values))
    }

    pub fn binary(&self, function: Binary, other: &Self) -> Option<Self> {
        let shape = broadcast(&self.shape, &other.shape)?;
        let size = count(&shape).filter(|&size| size <= MOST)?;
        // One axis at most, so that one of them is as long or a single number.
        if shape.len() > 1 {
            return None;
        }
        let at = |part: &Self, place: usize| {
            part.values.get(if part.values.len() == 1 { 0 } else { place }).copied()
        };
        let of = |place: usize| {
            let (a, b) = (at(self, place)?, at(other, place)?);
            match (function, a, b) {
                (Binary::Add, Integer::Known(a), Integer::Known(b)) => a.checked_add(b),
                (Binary::Subtract, Integer::Known(a), Integer::Known(b)) => a.checked_sub(b),
                (Binary::Multiply, Integer::Known(a), Integer::Known(b)) => a.checked_mul(b),
                // ONNX's division of integers truncates.
                (Binary::Divide, Integer::Known(a), Integer::Known(b)) => a.checked_div(b),
                (Binary::Maximum, Integer::Known(a), Integer::Known(b)) => Some(a.max(b)),
                (Binary::Minimum, Integer::Known(a), Integer::Known(b)) => Some(a.min(b)),
                (Binary::Multiply | Binary::Divide, Integer::Batch, Integer::Known(1))
                | (Binary::Multiply, Integer::Known(1), Integer::Batch)
                | (Binary::Add | Binary::Subtract, Integer::Batch, Integer::Known(0))
                | (Binary::Add, Integer::Known(0), Integer::Batch) => return Some(Integer::Batch),
                _ => None,
            }
            .map(Integer::Known)
        };
        let values = (0..size).map(of).collect::<Option<_>>()?;
        Some(Self { shape, values })
    }

    /// The product of all of them.
    pub fn product(&self) -> Option<Integer> {
        self.values.iter().try_fold(Integer::Known(1), |all, &next| match (all, next) {
            (Integer::Known(a), Integer::Known(b)) => a.checked_mul(b).map(Integer::Known),
            (Integer::Known(1), Integer::Batch) | (Integer::Batch, Integer::Known(1)) => {
                Some(Integer::Batch)
            }
            _ => None,
        })
    }
}

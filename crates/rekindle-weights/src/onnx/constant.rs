//! Constants: how their values are made of the file's tensors, which are read when they are asked for.

use std::sync::Arc;

use super::weight::Weight;
use crate::checkpoint::ReadTensor;

/// A function of one number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Unary {
    Negative,
    Root,
    Reciprocal,
    Exponential,
    Absolute,
}

/// A function of two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binary {
    Add,
    Subtract,
    Multiply,
    Divide,
    Maximum,
    Minimum,
    Power,
}

impl Binary {
    pub fn of(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Add => a + b,
            Self::Subtract => a - b,
            Self::Multiply => a * b,
            Self::Divide => a / b,
            Self::Maximum => a.max(b),
            Self::Minimum => a.min(b),
            Self::Power => a.powf(b),
        }
    }
}

#[derive(Debug)]
enum Made {
    /// The file's tensor of this number.
    File(usize),
    /// Known already.
    Given(Vec<f32>),
    /// One number everywhere.
    Full(f32),
    /// Axes in another order.
    Transposed(Constant, Vec<usize>),
    /// The same values in another shape.
    Reshaped(Constant),
    Unary(Unary, Constant),
    /// By NumPy's rule of broadcasting.
    Binary(Binary, Constant, Constant),
}

/// A constant of a shape. Copies share how it is made.
#[derive(Debug, Clone)]
pub(crate) struct Constant {
    shape: Vec<usize>,
    made: Arc<Made>,
    /// How many steps there are at most from it to a tensor.
    depth: usize,
    /// About how many values are touched to make it.
    cost: usize,
}

/// Steps from one constant to a tensor; a real file has a few.
const DEEPEST: usize = 64;
/// Values touched to make one; a damaged file may say `a + a` sixty times.
const MOST_COST: usize = 1 << 32;

/// How many values a shape has; nothing beyond what a computer can hold.
pub(super) fn count(shape: &[usize]) -> Option<usize> {
    let count = shape.iter().try_fold(1_usize, |all, &extent| all.checked_mul(extent))?;
    (count <= isize::MAX as usize / 8).then_some(count)
}

impl Constant {
    pub fn file(number: usize, weight: &Weight) -> Self {
        Self {
            shape: weight.shape.clone(),
            made: Arc::new(Made::File(number)),
            depth: 0,
            cost: weight.count,
        }
    }

    /// Values in a row.
    pub fn given(values: Vec<f32>) -> Self {
        let (shape, cost) = (vec![values.len()], values.len());
        Self { shape, made: Arc::new(Made::Given(values)), depth: 0, cost }
    }

    /// One number everywhere; the caller has seen that there may be so many.
    pub fn full(value: f32, shape: Vec<usize>) -> Self {
        let cost = count(&shape).unwrap_or(usize::MAX);
        Self { shape, made: Arc::new(Made::Full(value)), depth: 0, cost }
    }

    fn of(shape: Vec<usize>, made: Made, parts: &[&Self]) -> Result<Self, String> {
        let depth = parts.iter().map(|part| part.depth).max().unwrap_or(0) + 1;
        let own = count(&shape).unwrap_or(usize::MAX);
        let cost = parts.iter().fold(own, |all, part| all.saturating_add(part.cost));
        if depth > DEEPEST || cost > MOST_COST {
            return Err("a constant is made in more steps than any network needs".into());
        }
        Ok(Self { shape, made: Arc::new(made), depth, cost })
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// The tensor that it mostly comes from: the first one.
    pub fn source(&self) -> Option<usize> {
        match self.made.as_ref() {
            Made::File(number) => Some(*number),
            Made::Given(_) | Made::Full(_) => None,
            Made::Transposed(of, _) | Made::Reshaped(of) | Made::Unary(_, of) => of.source(),
            Made::Binary(_, a, b) => a.source().or_else(|| b.source()),
        }
    }

    /// Axes in another order.
    pub fn transposed(&self, order: &[usize]) -> Result<Self, String> {
        if order.iter().copied().eq(0..self.shape.len()) {
            return Ok(self.clone());
        }
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..self.shape.len()) {
            let shape = &self.shape;
            return Err(format!("axes {order:?} are not those of a constant of shape {shape:?}"));
        }
        let shape = order.iter().map(|&axis| self.shape[axis]).collect();
        Self::of(shape, Made::Transposed(self.clone(), order.to_vec()), &[self])
    }

    pub fn reshaped(&self, shape: Vec<usize>) -> Result<Self, String> {
        if shape == self.shape {
            return Ok(self.clone());
        }
        if count(&shape) != Some(self.count()) {
            let own = &self.shape;
            return Err(format!("a constant of shape {own:?} has no shape {shape:?}"));
        }
        Self::of(shape, Made::Reshaped(self.clone()), &[self])
    }

    pub fn unary(&self, function: Unary) -> Result<Self, String> {
        Self::of(self.shape.clone(), Made::Unary(function, self.clone()), &[self])
    }

    /// The result has the larger of both shapes.
    pub fn binary(&self, function: Binary, other: &Self) -> Result<Self, String> {
        let shape = broadcast(&self.shape, &other.shape).ok_or_else(|| {
            format!(
                "constants of shapes {a:?} and {b:?} do not fit",
                a = self.shape,
                b = other.shape
            )
        })?;
        // Stretching must not make a giant of two small ones.
        if count(&shape)
            .is_none_or(|all| all > self.count().max(other.count()).saturating_mul(1024))
        {
            return Err(format!(
                "constants of shapes {a:?} and {b:?} make too many values",
                a = self.shape,
                b = other.shape
            ));
        }
        let made = Made::Binary(function, self.clone(), other.clone());
        Self::of(shape, made, &[self, other])
    }

    /// The values, in the order of the shape.
    pub fn read(&self, reader: &mut dyn ReadTensor) -> Result<Vec<f32>, String> {
        Ok(match self.made.as_ref() {
            Made::File(number) => reader.read(*number)?,
            Made::Given(values) => values.clone(),
            Made::Full(value) => vec![*value; self.count()],
            Made::Reshaped(of) => of.read(reader)?,
            Made::Unary(function, of) => {
                let function = |value: f32| match function {
                    Unary::Negative => -value,
                    Unary::Root => value.sqrt(),
                    Unary::Reciprocal => 1.0 / value,
                    Unary::Exponential => value.exp(),
                    Unary::Absolute => value.abs(),
                };
                of.read(reader)?.into_iter().map(function).collect()
            }
            Made::Transposed(of, order) => {
                let values = of.read(reader)?;
                let own = strides(of.shape());
                let steps: Vec<usize> = order.iter().map(|&axis| own[axis]).collect();
                places(&self.shape, &steps).map(|place| values[place]).collect()
            }
            Made::Binary(function, a, b) => {
                let (left, right) = (a.read(reader)?, b.read(reader)?);
                let rank = self.shape.len();
                let (left_steps, right_steps) =
                    (stretched(a.shape(), rank), stretched(b.shape(), rank));
                let pairs = places(&self.shape, &left_steps).zip(places(&self.shape, &right_steps));
                let of = |(i, j): (usize, usize)| {
                    function.of(f64::from(left[i]), f64::from(right[j])) as f32
                };
                pairs.map(of).collect()
            }
        })
    }
}

/// NumPy's rule: extents from the last, where 1 counts as any.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |shape: &[usize], axis: usize| {
        (axis + shape.len()).checked_sub(rank).map_or(1, |axis| shape[axis])
    };
    (0..rank)
        .map(|axis| match (at(a, axis), at(b, axis)) {
            (1, size) | (size, 1) => Some(size),
            (a, b) => (a == b).then_some(a),
        })
        .collect()
}

fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// Strides in a shape of `rank` axes that this one is stretched to.
fn stretched(shape: &[usize], rank: usize) -> Vec<usize> {
    let mut steps = vec![0; rank - shape.len()];
    let own = strides(shape).into_iter().zip(shape);
    steps.extend(own.map(|(step, &extent)| if extent == 1 { 0 } else { step }));
    steps
}

/// The place of each value of `shape`, in order, where a step along an axis goes on by its `steps`.
fn places<'a>(shape: &'a [usize], steps: &'a [usize]) -> impl Iterator<Item = usize> + 'a {
    let count: usize = shape.iter().product();
    let mut index = vec![0; shape.len()];
    let mut place = 0;
    (0..count).map(move |_| {
        let current = place;
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            place += steps[axis];
            if index[axis] < shape[axis] {
                break;
            }
            place -= steps[axis] * shape[axis];
            index[axis] = 0;
        }
        current
    })
}

/// Makes variables when they are asked for.
pub(super) struct Kitchen {
    pub weights: Arc<Vec<Weight>>,
    pub recipes: Vec<Constant>,
}

/// The file's own tensors.
pub(crate) struct FileTensors(pub Arc<Vec<Weight>>);

impl ReadTensor for FileTensors {
    fn read(&mut self, index: usize) -> Result<Vec<f32>, String> {
        let weight = self.0.get(index).ok_or_else(|| format!("no tensor has number {index}"))?;
        let values = weight.values()?;
        // A file beside this one may have changed since it was opened.
        if values.len() == weight.count {
            return Ok(values);
        }
        Err(format!("found {} values, expected {}", values.len(), weight.count))
    }
}

impl ReadTensor for Kitchen {
    fn read(&mut self, index: usize) -> Result<Vec<f32>, String> {
        let recipe =
            self.recipes.get(index).ok_or_else(|| format!("no tensor has number {index}"))?;
        recipe.read(&mut FileTensors(Arc::clone(&self.weights)))
    }
}

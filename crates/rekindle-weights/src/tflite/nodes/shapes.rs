//! Operators that compute shapes, or change them.

use super::{Attribute, Nodes, ints};

/// As far as an axis goes.
const END: i64 = i64::MAX;

impl Nodes<'_> {
    pub(super) fn shape(&mut self) -> Result<(), String> {
        self.only(&[0], 1..=1)?;
        let x = self.value(self.input(0)?);
        let y = self.node("Shape", &[&x], Vec::new());
        self.ends(&y)
    }

    pub(super) fn reshape(&mut self) -> Result<(), String> {
        self.only(&[0], 1..=2)?;
        let x = self.value(self.input(0)?);
        let shape = match (self.optional(1), &self.own().list) {
            (Some(shape), _) => self.value(shape),
            (None, Some(list)) => {
                let list: Vec<i64> = list.iter().map(|&extent| i64::from(extent)).collect();
                self.integers(&list)
            }
            (None, None) => return Err("its shape is missing".into()),
        };
        let y = self.node("Reshape", &[&x, &shape], vec![("allowzero", Attribute::Int(1))]);
        self.ends(&y)
    }

    pub(super) fn squeeze(&mut self) -> Result<(), String> {
        self.only(&[0], 1..=1)?;
        let x = self.value(self.input(0)?);
        let list = self.own().list.clone().unwrap_or_default();
        let axes: Vec<i64> = list.iter().map(|&axis| i64::from(axis)).collect();
        let attributes = if axes.is_empty() { Vec::new() } else { vec![("axes", ints(&axes))] };
        let y = self.node("Squeeze", &[&x], attributes);
        self.ends(&y)
    }

    pub(super) fn expand_dims(&mut self) -> Result<(), String> {
        self.only(&[], 2..=2)?;
        let (x, axes) = (self.value(self.input(0)?), self.list(1)?);
        let y = self.node("Unsqueeze", &[&x], vec![("axes", ints(&axes))]);
        self.ends(&y)
    }

    pub(super) fn transpose(&mut self) -> Result<(), String> {
        self.only(&[], 2..=2)?;
        let (x, order) = (self.value(self.input(0)?), self.list(1)?);
        let y = self.node("Transpose", &[&x], vec![("perm", ints(&order))]);
        self.ends(&y)
    }

    /// Single integers as a list.
    pub(super) fn pack(&mut self) -> Result<(), String> {
        self.only(&[0, 1], 1..=64)?;
        if self.own().int(1) != 0 {
            return Err(format!("axis {}, expected 0", self.own().int(1)));
        }
        let mut parts = Vec::new();
        for number in 0..self.own().inputs.len() {
            let input = self.input(number)?;
            if !self.is_integer(input) || self.rank(input) != 0 {
                return Err(format!("`{}` is no single integer of a shape", self.value(input)));
            }
            let x = self.value(input);
            parts.push(self.node("Unsqueeze", &[&x], vec![("axes", ints(&[0]))]));
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let y = self.node("Concat", &parts, vec![("axis", Attribute::Int(0))]);
        self.ends(&y)
    }

    pub(super) fn gather(&mut self) -> Result<(), String> {
        self.only(&[0, 1], 2..=2)?;
        let (x, places) = (self.input(0)?, self.input(1)?);
        if !self.is_integer(x) || self.own().int(1) != 0 {
            return Err(
                "it takes parts of something else than a shape, which is not supported".into()
            );
        }
        let (x, places) = (self.value(x), self.value(places));
        let axis = i64::from(self.own().int(0));
        let y = self.node("Gather", &[&x, &places], vec![("axis", Attribute::Int(axis))]);
        self.ends(&y)
    }

    pub(super) fn reduce_prod(&mut self) -> Result<(), String> {
        self.only(&[0], 2..=2)?;
        let x = self.input(0)?;
        if !self.is_integer(x) || self.rank(x) != 1 {
            return Err("it multiplies something else than a shape, which is not supported".into());
        }
        let (x, keeps) = (self.value(x), i64::from(self.own().flag(0)));
        let y = self.node("ReduceProd", &[&x], vec![("keepdims", Attribute::Int(keeps))]);
        self.ends(&y)
    }

    pub(super) fn cast(&mut self) -> Result<(), String> {
        self.only(&[0, 1], 1..=1)?;
        let x = self.value(self.input(0)?);
        let [output] = self.own().outputs[..] else { return Err("expected one output".into()) };
        let to = match self.tensor(output).kind {
            super::FLOAT32 => 1,
            super::INT32 => 6,
            super::INT64 => 7,
            other => {
                return Err(format!(
                    "it makes {}, which is not supported",
                    super::kind_name(other)
                ));
            }
        };
        let y = self.node("Cast", &[&x], vec![("to", Attribute::Int(to))]);
        self.ends(&y)
    }

    pub(super) fn strided_slice(&mut self) -> Result<(), String> {
        self.only(&[0, 1, 2, 3, 4, 5], 4..=4)?;
        let own = self.own();
        let [begins, ends, ellipsis, fresh, gone] = [0, 1, 2, 3, 4].map(|field| own.int(field));
        if ellipsis != 0 || fresh != 0 || own.flag(5) {
            return Err(
                "it has an ellipsis, a new axis or an offset, which is not supported".into()
            );
        }
        let x = self.input(0)?;
        let (mut starts, mut stops, steps) = (self.list(1)?, self.list(2)?, self.list(3)?);
        let count = starts.len();
        if stops.len() != count || steps.len() != count || count > 8 {
            return Err("its begins, ends and strides are not as many".into());
        }
        let mut shrunk = Vec::new();
        for axis in 0..count {
            let has = |mask: i32| mask >> axis & 1 == 1;
            if has(begins) {
                starts[axis] = 0;
            }
            if has(ends) {
                stops[axis] = END;
            }
            if has(gone) {
                // The end does not count then.
                stops[axis] = if starts[axis] == -1 { END } else { starts[axis].saturating_add(1) };
                shrunk.push(axis as i64);
            }
        }
        if !shrunk.is_empty() && !self.is_integer(x) {
            return Err("it takes a single place of an axis, which is not supported".into());
        }
        self.slice_of(x, &starts, &stops, &steps, &shrunk)
    }

    pub(super) fn slice(&mut self) -> Result<(), String> {
        self.only(&[], 3..=3)?;
        let (x, starts, sizes) = (self.input(0)?, self.list(1)?, self.list(2)?);
        if starts.len() != sizes.len() || starts.len() > 8 {
            return Err("its begins and sizes are not as many".into());
        }
        let extents = self.tensor(x).shape.clone();
        let stop = |(axis, (&start, &size)): (usize, (&i64, &i64))| {
            let is_all = start == 0 && extents.get(axis).is_some_and(|&own| i64::from(own) == size);
            if size == -1 || is_all { END } else { start.saturating_add(size) }
        };
        let stops: Vec<i64> = starts.iter().zip(&sizes).enumerate().map(stop).collect();
        let steps = vec![1; starts.len()];
        self.slice_of(x, &starts, &stops, &steps, &[])
    }

    fn slice_of(
        &mut self,
        x: usize,
        starts: &[i64],
        stops: &[i64],
        steps: &[i64],
        gone: &[i64],
    ) -> Result<(), String> {
        let axes: Vec<i64> = (0..starts.len() as i64).collect();
        let lists = [starts, stops, &axes, steps].map(|list| self.integers(list));
        let [starts, stops, axes, steps] = lists.each_ref().map(String::as_str);
        let x = self.value(x);
        let mut y = self.node("Slice", &[&x, starts, stops, axes, steps], Vec::new());
        if !gone.is_empty() {
            y = self.node("Squeeze", &[&y], vec![("axes", ints(gone))]);
        }
        self.ends(&y)
    }
}

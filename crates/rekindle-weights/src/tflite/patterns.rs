//! What TensorFlow's converter takes apart, put together: normalizations, and functions of single values that TensorFlow Lite
//! has no operator for. Each is known by its last operator; what comes before that, nobody asks for then.

use super::file::Operator;
use super::nodes::Nodes;

/// Mean 0 and variance 1 over axes of each sample.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Normalized {
    /// What is normalized.
    pub x: usize,
    /// Over which axes, the batch 0: the last ones, or those of groups.
    pub axes: Vec<usize>,
    pub epsilon: f32,
    pub gamma: Option<usize>,
    pub beta: Option<usize>,
    /// What was reshaped to `x`, where channels were split into groups.
    pub groups: Option<usize>,
}

/// Two inputs, in both orders.
fn orders(operator: &Operator) -> Vec<[usize; 2]> {
    match operator.inputs[..] {
        [Some(a), Some(b)] => vec![[a, b], [b, a]],
        _ => Vec::new(),
    }
}

/// Whether an operator ends with nothing.
fn is_bare(operator: &Operator) -> bool {
    operator.byte(0) == 0
}

impl Nodes<'_> {
    /// The normalization that the operator is the end of, which is being written.
    pub(super) fn normalized(&self) -> Option<Normalized> {
        let own = self.own();
        if !matches!(own.name.as_str(), "ADD" | "MUL") || !is_bare(own) {
            return None;
        }
        let found = self.shifted(own).or_else(|| self.spread(own)).or_else(|| self.scaled(own))?;
        self.placed(found)
    }

    /// Sees that the axes are ones that a layer normalizes over.
    fn placed(&self, found: Normalized) -> Option<Normalized> {
        let rank = self.rank(found.x);
        let axes: Vec<usize> = found.axes.clone();
        if axes.iter().copied().eq(rank - axes.len().min(rank)..rank) && !axes.contains(&0) {
            return Some(found);
        }
        // Pixels, groups, and the channels of a group.
        let expected: Vec<usize> =
            (1..rank).filter(|&axis| axis != rank.saturating_sub(2)).collect();
        let reshape = self.made_by(found.x, "RESHAPE").filter(|_| rank >= 3 && axes == expected)?;
        let before = reshape.inputs.first().copied().flatten()?;
        let own = &self.tensor(found.x).shape;
        let split = i64::from(own[rank - 1]).checked_mul(i64::from(own[rank - 2]));
        (split == Some(self.channels(before)))
            .then_some(Normalized { groups: Some(before), ..found })
    }

    /// What is scaled already, plus a constant.
    fn shifted(&self, own: &Operator) -> Option<Normalized> {
        if own.name != "ADD" {
            return None;
        }
        orders(own).into_iter().find_map(|[x, beta]| {
            let inner = self.made_by(x, "MUL").filter(|_| self.is_constant(beta))?;
            let found = self.scaled(inner).filter(|_| is_bare(inner))?;
            Some(Normalized { beta: Some(beta), ..found })
        })
    }

    /// `(x - mean) * rsqrt(variance + epsilon)`, times a constant or not.
    fn scaled(&self, own: &Operator) -> Option<Normalized> {
        if own.name != "MUL" {
            return None;
        }
        orders(own).into_iter().find_map(|[x, by]| {
            if self.is_constant(by) {
                let inner = self.made_by(x, "MUL").filter(|inner| is_bare(inner))?;
                return Some(Normalized { gamma: Some(by), ..self.centered(inner)? });
            }
            self.centered(own)
        })
    }

    fn centered(&self, own: &Operator) -> Option<Normalized> {
        orders(own).into_iter().find_map(|[x, by]| {
            let (found, mean) = self.deviation(by)?;
            let less = self.made_by(x, "SUB").filter(|less| is_bare(less))?;
            (less.inputs == [Some(found.x), Some(mean)]).then_some(found)
        })
    }

    /// Keras's `x * scale + (beta - mean * scale)`.
    fn spread(&self, own: &Operator) -> Option<Normalized> {
        if own.name != "ADD" {
            return None;
        }
        orders(own).into_iter().find_map(|[product, rest]| {
            let product = self.made_by(product, "MUL").filter(|product| is_bare(product))?;
            orders(product).into_iter().find_map(|[x, scale]| {
                let (found, mean) = self.scale(scale).filter(|(found, _)| found.x == x)?;
                let beta = self.rest(rest, mean, scale)?;
                Some(Normalized { beta, ..found })
            })
        })
    }

    /// `rsqrt(variance + epsilon)`, times a constant or not; and the mean.
    fn scale(&self, scale: usize) -> Option<(Normalized, usize)> {
        if let Some(found) = self.deviation(scale) {
            return Some(found);
        }
        let by = self.made_by(scale, "MUL").filter(|by| is_bare(by))?;
        orders(by).into_iter().find_map(|[root, gamma]| {
            let (found, mean) = self.deviation(root).filter(|_| self.is_constant(gamma))?;
            Some((Normalized { gamma: Some(gamma), ..found }, mean))
        })
    }

    /// `beta - mean * scale`, or without a beta; which constant that is.
    fn rest(&self, rest: usize, mean: usize, scale: usize) -> Option<Option<usize>> {
        // -mean * scale.
        let is_shift = |value: usize| {
            let Some(product) = self.made_by(value, "MUL").filter(|product| is_bare(product))
            else {
                return false;
            };
            orders(product).into_iter().any(|[less, by]| {
                by == scale
                    && self.made_by(less, "NEG").is_some_and(|less| less.inputs == [Some(mean)])
            })
        };
        if is_shift(rest) {
            return Some(None);
        }
        if let Some(sum) = self.made_by(rest, "ADD").filter(|sum| is_bare(sum)) {
            let found = orders(sum).into_iter();
            let mut found =
                found.filter(|&[shift, beta]| self.is_constant(beta) && is_shift(shift));
            return found.next().map(|[_, beta]| Some(beta));
        }
        let less = self.made_by(rest, "SUB").filter(|less| is_bare(less))?;
        let &[Some(beta), Some(product)] = &less.inputs[..] else { return None };
        let product = self.made_by(product, "MUL").filter(|product| is_bare(product))?;
        let is_product = orders(product).into_iter().any(|[a, b]| a == mean && b == scale);
        (is_product && self.is_constant(beta)).then_some(Some(beta))
    }

    /// `rsqrt(mean((x - mean(x))^2) + epsilon)`, and the mean.
    fn deviation(&self, value: usize) -> Option<(Normalized, usize)> {
        let root = self.made_by(value, "RSQRT")?;
        let sum = root.inputs.first().copied().flatten()?;
        let sum = self.made_by(sum, "ADD").filter(|sum| is_bare(sum))?;
        orders(sum).into_iter().find_map(|[variance, epsilon]| {
            let epsilon = self.number(epsilon)?;
            let (squares, axes) = self.mean(variance)?;
            let difference = match self.made_by(squares, "SQUARED_DIFFERENCE") {
                Some(difference) => difference,
                None => {
                    let square = self.made_by(squares, "SQUARE")?;
                    let difference = square.inputs.first().copied().flatten()?;
                    self.made_by(difference, "SUB").filter(|less| is_bare(less))?
                }
            };
            let &[Some(x), Some(mean)] = &difference.inputs[..] else { return None };
            let (of, same) = self.mean(mean)?;
            let found = Normalized { x, axes, epsilon, gamma: None, beta: None, groups: None };
            (of == x && same == found.axes).then_some((found, mean))
        })
    }

    /// What a mean that keeps its axes is of, and over which axes, the batch 0.
    fn mean(&self, value: usize) -> Option<(usize, Vec<usize>)> {
        let mean = self.made_by(value, "MEAN").filter(|mean| mean.flag(0))?;
        let &[Some(x), Some(axes)] = &mean.inputs[..] else { return None };
        let rank = i64::try_from(self.rank(x)).ok()?;
        let axes = self.file.integers(axes)?.into_iter().map(|axis| {
            let axis = if axis < 0 { axis.checked_add(rank)? } else { axis };
            usize::try_from(axis).ok().filter(|_| axis < rank)
        });
        let mut axes = axes.collect::<Option<Vec<usize>>>()?;
        axes.sort_unstable();
        Some((x, axes))
    }

    /// The function of ONNX that the operator is the end of, and of what.
    pub(super) fn function(&self) -> Option<(&'static str, usize)> {
        let own = self.own();
        match own.name.as_str() {
            // log(exp(x) + 1).
            "LOG" => Some(("Softplus", self.exponential(own.inputs.first().copied().flatten()?)?)),
            // max(x, 0) + log(exp(-|x|) + 1).
            "ADD" if is_bare(own) => orders(own).into_iter().find_map(|[positive, rest]| {
                let positive = self.made_by(positive, "RELU")?;
                let x = positive.inputs.first().copied().flatten()?;
                let log = self.made_by(rest, "LOG")?;
                let less = self.exponential(log.inputs.first().copied().flatten()?)?;
                let size = self.made_by(less, "NEG")?.inputs.first().copied().flatten()?;
                let size = self.made_by(size, "ABS")?;
                (size.inputs == [Some(x)]).then_some(("Softplus", x))
            }),
            // x / (|x| + 1).
            "DIV" if is_bare(own) => {
                let &[Some(x), Some(sum)] = &own.inputs[..] else { return None };
                let sum = self.made_by(sum, "ADD").filter(|sum| is_bare(sum))?;
                let is_size = orders(sum).into_iter().any(|[size, one]| {
                    self.number(one) == Some(1.0)
                        && self.made_by(size, "ABS").is_some_and(|size| size.inputs == [Some(x)])
                });
                is_size.then_some(("Softsign", x))
            }
            // Above 0 x, else exp(x) - 1, both times numbers.
            "SELECT_V2" | "SELECT" => self.selu(own),
            _ => None,
        }
    }

    /// The x of `exp(x) + 1`.
    fn exponential(&self, value: usize) -> Option<usize> {
        let sum = self.made_by(value, "ADD").filter(|sum| is_bare(sum))?;
        orders(sum).into_iter().find_map(|[power, one]| {
            let power = self.made_by(power, "EXP").filter(|_| self.number(one) == Some(1.0))?;
            power.inputs.first().copied().flatten()
        })
    }

    fn selu(&self, own: &Operator) -> Option<(&'static str, usize)> {
        let &[Some(condition), Some(above), Some(below)] = &own.inputs[..] else { return None };
        let greater = self.made_by(condition, "GREATER")?;
        let &[Some(x), Some(zero)] = &greater.inputs[..] else { return None };
        let times = |value: usize| {
            let product = self.made_by(value, "MUL").filter(|product| is_bare(product))?;
            orders(product).into_iter().find_map(|[of, by]| Some((of, self.number(by)?)))
        };
        let (of, scale) = times(above)?;
        let (power, by) = times(below)?;
        let less = self.made_by(power, "SUB").filter(|less| is_bare(less))?;
        let &[Some(power), Some(one)] = &less.inputs[..] else { return None };
        let power = self.made_by(power, "EXP")?;
        let is_near = |found: f32, wanted: f64| (f64::from(found) - wanted).abs() < 1e-5;
        let (gamma, alpha) = rekindle_nn::SELU;
        let is_selu = self.number(zero) == Some(0.0)
            && of == x
            && power.inputs == [Some(x)]
            && self.number(one) == Some(1.0)
            && is_near(scale, gamma)
            && is_near(by, gamma * alpha);
        is_selu.then_some(("Selu", x))
    }
}

//! A training step of dense layers in few passes over memory, in CubeCL. A batch has few rows, so that a step waits for weights and
//! for launches, not for products: a layer's product is divided along its inputs, and the gradient of its weights goes into the
//! optimizer's step without ever being in memory.
//!
//! A layer's weights and bias are one tensor, `[inputs + 1, outputs]`, the bias its last row; and so are what an optimizer remembers
//! of them. All values are f32.

use std::slice;

use burn::tensor::{DType, Shape};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeRuntime, kernel::into_contiguous};
use cubecl::prelude::*;

use super::DenseStep;
use super::rows::{clamp, cubes, empty, finite, pitched, vector};
use crate::Limits;
use crate::train::Rule;

/// Threads of a product that keep a device's memory busy.
const BUSY: usize = 1 << 15;

/// A share of a product has at least so many inputs: less is not worth the adding up.
const LEAST_INPUTS: usize = 32;

/// Rows that a thread works on, so that what it reads of the weights serves all of them.
const MOST_ROWS: usize = 16;

/// Inputs are dealt out to shares: `output` is `[shares][rows][columns]`.
#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "a kernel's arguments")]
fn products<K: Size, N: Size>(
    x: &Tensor<Vector<f32, K>>,
    weights: &Tensor<Vector<f32, N>>,
    output: &mut Tensor<Vector<f32, N>>,
    threads: usize,
    rows: usize,
    columns: usize,
    inputs: usize,
    pitch: usize,
    each: usize,
    #[comptime] lanes: usize,
    #[comptime] strip: usize,
) {
    if ABSOLUTE_POS >= threads {
        terminate!();
    }
    let strips = rows.div_ceil(strip);
    let column = ABSOLUTE_POS % columns;
    let place = ABSOLUTE_POS / columns;
    let first = place % strips * strip;
    let share = place / strips;
    let mut sums = Array::<Vector<f32, N>>::new(strip);
    #[unroll]
    for o in 0..strip {
        sums[o] = Vector::<f32, N>::new(0.0);
    }
    let end = min(share * each + each, inputs);
    for input in share * each..end {
        let mut factors = Array::<Vector<f32, N>>::new(lanes);
        #[unroll]
        for lane in 0..lanes {
            factors[lane] = weights[(input * lanes + lane) * columns + column];
        }
        #[unroll]
        for o in 0..strip {
            // Behind the last row it is read again.
            let row = min(first + o, rows - 1);
            let value = x[row * pitch + input];
            #[unroll]
            for lane in 0..lanes {
                sums[o] += Vector::<f32, N>::new(value[lane]) * factors[lane];
            }
        }
    }
    #[unroll]
    for o in 0..strip {
        if first + o < rows {
            output[(share * rows + first + o) * columns + column] = sums[o];
        }
    }
}

/// Adds up the shares and the bias, clamps, and multiplies by a mask.
#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "a kernel's arguments")]
fn finish<N: Size>(
    parts: &Tensor<Vector<f32, N>>,
    weights: &Tensor<Vector<f32, N>>,
    mask: &ComptimeOption<Tensor<Vector<f32, N>>>,
    output: &mut Tensor<Vector<f32, N>>,
    threads: usize,
    columns: usize,
    shares: usize,
    bias: usize,
    low: f32,
    high: f32,
    #[comptime] has_limits: bool,
) {
    if ABSOLUTE_POS >= threads {
        terminate!();
    }
    let mut sum = weights[bias + ABSOLUTE_POS % columns];
    for share in 0..shares {
        sum += parts[share * threads + ABSOLUTE_POS];
    }
    if has_limits {
        sum = clamp(sum, low, high);
    }
    #[comptime]
    if let ComptimeOption::Some(mask) = mask {
        sum *= mask[ABSOLUTE_POS];
    }
    output[ABSOLUTE_POS] = sum;
}

/// From the gradient of a layer's output to that of the layer before it, whose output `y` is clamped and masked.
#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "a kernel's arguments")]
fn input_gradient<N: Size>(
    gradient: &Tensor<Vector<f32, N>>,
    weights: &Tensor<Vector<f32, N>>,
    y: &Tensor<f32>,
    mask: &ComptimeOption<Tensor<f32>>,
    output: &mut Tensor<f32>,
    threads: usize,
    rows: usize,
    columns: usize,
    inputs: usize,
    pitch: usize,
    low: f32,
    high: f32,
    #[comptime] lanes: usize,
    #[comptime] strip: usize,
    #[comptime] has_limits: bool,
) {
    if ABSOLUTE_POS >= threads {
        terminate!();
    }
    let input = ABSOLUTE_POS % inputs;
    let first = ABSOLUTE_POS / inputs * strip;
    let mut sums = Array::<Vector<f32, N>>::new(strip);
    #[unroll]
    for o in 0..strip {
        sums[o] = Vector::<f32, N>::new(0.0);
    }
    for column in 0..columns {
        let factor = weights[input * columns + column];
        #[unroll]
        for o in 0..strip {
            let row = min(first + o, rows - 1);
            sums[o] += gradient[row * pitch + column] * factor;
        }
    }
    #[unroll]
    for o in 0..strip {
        if first + o < rows {
            let at = (first + o) * inputs + input;
            let mut sum = 0.0f32;
            #[unroll]
            for lane in 0..lanes {
                sum += sums[o][lane];
            }
            let mut factor = 1.0f32;
            #[comptime]
            if let ComptimeOption::Some(mask) = mask {
                factor = mask[at];
            }
            // A value at a limit has not moved with its input.
            if has_limits && (y[at] <= low * factor || y[at] >= high * factor) {
                factor = 0.0;
            }
            output[at] = sum * factor;
        }
    }
}

/// Which rule a step follows; its numbers are arguments of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Update {
    Adam,
    Sgd,
    Momentum { nesterov: bool },
    RmsProp { momentum: bool },
}

/// The numbers of a rule and a step.
#[derive(Debug, Clone, Copy, CubeType, CubeLaunch)]
struct Numbers {
    rate: f32,
    /// Multiplies the gradient.
    scale: f32,
    /// Multiplies a weight before the step, but not a bias.
    keep: f32,
    /// Times a weight, it is added to its gradient, but not to that of a bias.
    penalty: f32,
    /// What the rule calls beta, rho or momentum, and 1 less that.
    keep_first: f32,
    add_first: f32,
    keep_second: f32,
    add_second: f32,
    epsilon: f32,
}

/// The step of the weights at a place, by their gradient.
#[cube]
#[expect(clippy::too_many_arguments, reason = "all that a step touches")]
fn update<N: Size>(
    weights: &mut Tensor<Vector<f32, N>>,
    first: &mut Tensor<Vector<f32, N>>,
    second: &mut Tensor<Vector<f32, N>>,
    numbers: &Numbers,
    at: usize,
    gradient: Vector<f32, N>,
    #[comptime] rule: Update,
    #[comptime] is_bias: bool,
) {
    let rate = Vector::<f32, N>::new(numbers.rate);
    let epsilon = Vector::<f32, N>::new(numbers.epsilon);
    let keep_first = Vector::<f32, N>::new(numbers.keep_first);
    let add_first = Vector::<f32, N>::new(numbers.add_first);
    let keep_second = Vector::<f32, N>::new(numbers.keep_second);
    let add_second = Vector::<f32, N>::new(numbers.add_second);
    let mut weight = weights[at];
    let mut g = gradient;
    if comptime!(!is_bias) {
        g += weight * Vector::<f32, N>::new(numbers.penalty);
    }
    // Keras decays biases too.
    weight *= Vector::<f32, N>::new(numbers.keep);
    g *= Vector::<f32, N>::new(numbers.scale);
    match comptime!(rule) {
        Update::Adam => {
            let mean = first[at] * keep_first + g * add_first;
            let square = second[at] * keep_second + g * g * add_second;
            first[at] = mean;
            second[at] = square;
            weights[at] = weight - rate * mean / (Vector::sqrt(square) + epsilon);
        }
        Update::Sgd => {
            weights[at] = weight - g * rate;
        }
        Update::Momentum { nesterov } => {
            let step = g * rate;
            let velocity = first[at] * keep_first - step;
            first[at] = velocity;
            if comptime!(nesterov) {
                weights[at] = weight + (velocity * keep_first - step);
            } else {
                weights[at] = weight + velocity;
            }
        }
        Update::RmsProp { momentum } => {
            let square = first[at] * keep_first + g * g * add_first;
            first[at] = square;
            let step = g * rate / Vector::sqrt(square + epsilon);
            if comptime!(momentum) {
                let velocity = second[at] * keep_second + step;
                second[at] = velocity;
                weights[at] = weight - velocity;
            } else {
                weights[at] = weight - step;
            }
        }
    }
}

/// The gradient of weights, and their step. The threads of one more input than there are have the bias.
#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "a kernel's arguments")]
fn step<K: Size, N: Size>(
    x: &Tensor<Vector<f32, K>>,
    gradient: &Tensor<Vector<f32, N>>,
    weights: &mut Tensor<Vector<f32, N>>,
    first: &mut Tensor<Vector<f32, N>>,
    second: &mut Tensor<Vector<f32, N>>,
    numbers: &Numbers,
    threads: usize,
    rows: usize,
    columns: usize,
    inputs: usize,
    pitch: usize,
    gradient_pitch: usize,
    #[comptime] lanes: usize,
    #[comptime] rule: Update,
) {
    if ABSOLUTE_POS >= threads {
        terminate!();
    }
    let column = ABSOLUTE_POS % columns;
    let input = ABSOLUTE_POS / columns;
    let at = input * lanes * columns + column;
    if input < inputs {
        let mut sums = Array::<Vector<f32, N>>::new(lanes);
        #[unroll]
        for lane in 0..lanes {
            sums[lane] = Vector::<f32, N>::new(0.0);
        }
        for row in 0..rows {
            let value = x[row * pitch + input];
            let gradient = gradient[row * gradient_pitch + column];
            #[unroll]
            for lane in 0..lanes {
                sums[lane] += Vector::<f32, N>::new(value[lane]) * gradient;
            }
        }
        #[unroll]
        for lane in 0..lanes {
            let at = at + lane * columns;
            update(weights, first, second, numbers, at, sums[lane], rule, false);
        }
    } else {
        let mut sum = Vector::<f32, N>::new(0.0);
        for row in 0..rows {
            sum += gradient[row * gradient_pitch + column];
        }
        update(weights, first, second, numbers, at, sum, rule, true);
    }
}

/// How many of a row's values a thread reads at once, where rows are `pitch` apart.
fn lanes<R: CubeRuntime>(rows: CubeTensor<R>) -> (CubeTensor<R>, usize, usize) {
    let lanes = vector(slice::from_ref(&rows));
    let (rows, pitch) = pitched(rows, lanes);
    (rows, lanes, pitch)
}

/// `x` `[rows, inputs]` with `weights` `[inputs + 1, outputs]`, clamped, and times `mask` `[rows, outputs]`.
pub(super) fn dense<R: CubeRuntime>(
    x: CubeTensor<R>,
    weights: CubeTensor<R>,
    mask: Option<CubeTensor<R>>,
    limits: Limits,
) -> CubeTensor<R> {
    let ([rows, inputs], outputs) = (x.meta.shape().dims(), weights.meta.shape()[1]);
    let (x, lanes, pitch) = lanes(x);
    let weights = into_contiguous(weights);
    let vector = vector(slice::from_ref(&weights));
    let (columns, inputs) = (outputs / vector, inputs / lanes);
    let strip = rows.next_power_of_two().min(MOST_ROWS);
    let across = columns * rows.div_ceil(strip);
    let most = (inputs * lanes).div_ceil(LEAST_INPUTS);
    let each = inputs.div_ceil(BUSY.div_ceil(across).min(most));
    let shares = inputs.div_ceil(each);
    let parts = empty(&x, Shape::new([shares * rows, outputs]), DType::F32);
    let output = empty(&x, Shape::new([rows, outputs]), DType::F32);
    let client = output.client.clone();
    let threads = across * shares;
    let (count, dim) = cubes(&output, threads);
    products::launch(
        &client,
        count,
        dim,
        lanes,
        vector,
        x.into_tensor_arg(),
        weights.clone().into_tensor_arg(),
        parts.clone().into_tensor_arg(),
        threads,
        rows,
        columns,
        inputs,
        pitch,
        each,
        lanes,
        strip,
    );
    let threads = rows * columns;
    let (count, dim) = cubes(&output, threads);
    let [low, high] = finite(limits);
    finish::launch(
        &client,
        count,
        dim,
        vector,
        parts.into_tensor_arg(),
        weights.into_tensor_arg(),
        mask.map(|mask| into_contiguous(mask).into_tensor_arg()).into(),
        output.clone().into_tensor_arg(),
        threads,
        columns,
        shares,
        inputs * lanes * columns,
        low,
        high,
        limits != Limits::NONE,
    );
    output
}

/// From `gradient` `[rows, outputs]` of a layer with `weights` `[inputs + 1, outputs]` to that of the layer before it, `[rows, inputs]`,
/// whose output `y` was clamped to `limits` and multiplied by `mask`.
pub(super) fn dense_input_gradient<R: CubeRuntime>(
    gradient: CubeTensor<R>,
    weights: CubeTensor<R>,
    y: CubeTensor<R>,
    mask: Option<CubeTensor<R>>,
    limits: Limits,
) -> CubeTensor<R> {
    let ([rows, outputs], inputs) = (gradient.meta.shape().dims(), y.meta.shape()[1]);
    let (gradient, lanes, pitch) = lanes(gradient);
    let strip = rows.next_power_of_two().min(MOST_ROWS);
    let output = empty(&gradient, Shape::new([rows, inputs]), DType::F32);
    let threads = inputs * rows.div_ceil(strip);
    let (count, dim) = cubes(&output, threads);
    let [low, high] = finite(limits);
    let client = output.client.clone();
    input_gradient::launch(
        &client,
        count,
        dim,
        lanes,
        gradient.into_tensor_arg(),
        into_contiguous(weights).into_tensor_arg(),
        into_contiguous(y).into_tensor_arg(),
        mask.map(|mask| into_contiguous(mask).into_tensor_arg()).into(),
        output.clone().into_tensor_arg(),
        threads,
        rows,
        outputs / lanes,
        inputs,
        pitch,
        low,
        high,
        lanes,
        strip,
        limits != Limits::NONE,
    );
    output
}

/// A step of `weights` and what the optimizer remembers of them, `[inputs + 1, outputs]` each, by `x` `[rows, inputs]` and the gradient
/// of the output, `[rows, outputs]`. In their memory, where nobody else has it.
pub(super) fn dense_step<R: CubeRuntime>(
    x: CubeTensor<R>,
    gradient: CubeTensor<R>,
    state: Vec<CubeTensor<R>>,
    of: DenseStep,
) -> Vec<CubeTensor<R>> {
    let [rows, inputs] = x.meta.shape().dims();
    let (x, lanes, pitch) = lanes(x);
    let state: Vec<CubeTensor<R>> = state.into_iter().map(writable).collect();
    let outputs = state[0].meta.shape()[1];
    let vector = vector(slice::from_ref(&state[0]));
    let (gradient, gradient_pitch) = pitched(gradient, vector);
    let (columns, inputs) = (outputs / vector, inputs / lanes);
    // Nothing is read or written where a rule remembers less.
    let slot = |number: usize| match state.get(number) {
        Some(slot) => slot.clone(),
        None => empty(&x, Shape::new([1, vector]), DType::F32),
    };
    let threads = (inputs + 1) * columns;
    let (count, dim) = cubes(&gradient, threads);
    let client = gradient.client.clone();
    let (rule, numbers) = numbers(of);
    step::launch(
        &client,
        count,
        dim,
        lanes,
        vector,
        x.clone().into_tensor_arg(),
        gradient.into_tensor_arg(),
        slot(0).into_tensor_arg(),
        slot(1).into_tensor_arg(),
        slot(2).into_tensor_arg(),
        numbers,
        threads,
        rows,
        columns,
        inputs,
        pitch,
        gradient_pitch,
        lanes,
        rule,
    );
    state
}

/// Memory that may be written to.
fn writable<R: CubeRuntime>(tensor: CubeTensor<R>) -> CubeTensor<R> {
    if !tensor.is_contiguous() {
        into_contiguous(tensor)
    } else if tensor.can_mut() {
        tensor
    } else {
        tensor.copy()
    }
}

/// The rule's kernel, and its numbers.
fn numbers<R: CubeRuntime>(of: DenseStep) -> (Update, NumbersLaunch<R>) {
    let DenseStep { rule, time, rate, scale, penalty } = of;
    let own = rate * rule.correction(time);
    let (update, keep, [first, second], epsilon) = match rule {
        Rule::Adam { beta_1, beta_2, epsilon, decay } => {
            (Update::Adam, 1.0 - rate * decay, [beta_1, beta_2], epsilon)
        }
        Rule::Sgd { momentum: 0.0, .. } => (Update::Sgd, 1.0, [0.0; 2], 0.0),
        Rule::Sgd { momentum, nesterov } => {
            (Update::Momentum { nesterov }, 1.0, [momentum, 0.0], 0.0)
        }
        Rule::RmsProp { rho, momentum, epsilon } => {
            (Update::RmsProp { momentum: momentum != 0.0 }, 1.0, [rho, momentum], epsilon)
        }
    };
    let [first_added, second_added] = [first, second].map(|kept| 1.0 - kept);
    let numbers = NumbersLaunch::new(
        own as f32,
        scale,
        keep as f32,
        penalty,
        first as f32,
        first_added as f32,
        second as f32,
        second_added as f32,
        epsilon as f32,
    );
    (update, numbers)
}

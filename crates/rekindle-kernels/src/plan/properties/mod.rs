//! Plans of networks that chance makes, against plain loops in f64.

mod int8;
pub(crate) mod recipe;
pub(crate) mod reference;

use proptest::prelude::*;
use rekindle_nn::{Activation, Network, Padding, Shape, floats};

use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData};
use recipe::{Conv, Part, Recipe, any_part, part, recipe, recipe_of};
use reference::{Map, Noise, Reference};

use super::{Step, Work};
use crate::{Isa, PlanConfig, PlanError, Precision, lower};

/// The outputs by plain loops in f64, `[batch][channels][height][width]`, and how near any value came to
/// where its activation jumps.
fn expected(network: &Network<Flex>, images: &[f32], noise: Noise) -> (Vec<f64>, f64) {
    let input = network.graph().input();
    let (count, channels) = (input.count(), input.channels());
    let pixels = count / channels;
    let (mut expected, mut nearest_jump) = (Vec::new(), f64::INFINITY);
    for image in images.chunks(count) {
        let pixel = |pixel: usize| {
            (0..channels).map(move |channel| f64::from(image[channel * pixels + pixel]))
        };
        let start = Map { shape: input, values: (0..pixels).flat_map(pixel).collect() };
        let mut reference = Reference::with_noise(noise);
        let map = network.walk(&mut reference, start).expect("a reference");
        nearest_jump = nearest_jump.min(reference.nearest_jump);
        match map.shape {
            Shape::Flat(_) => expected.extend(map.values),
            Shape::Map { height, width, channels } => {
                let plane = |channel: usize| {
                    map.values.iter().skip(channel).step_by(channels).take(height * width).copied()
                };
                expected.extend((0..channels).flat_map(plane));
            }
        }
    }
    (expected, nearest_jump)
}

/// The greatest difference of any output.
fn difference(found: impl IntoIterator<Item = f64>, expected: &[f64]) -> f64 {
    let each = found.into_iter().zip(expected).map(|(found, expected)| (found - expected).abs());
    // Unlike `f64::max`, keeps NaN.
    each.fold(0.0, |most, off| if off <= most || most.is_nan() { most } else { off })
}

fn images(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 + 13) % 2003) as f32 / 1001.0 - 1.0).collect()
}

fn check(recipe: &Recipe, threads: &[rayon::ThreadPool]) -> Result<(), TestCaseError> {
    let network = recipe.network();
    // [batch][channels][height][width]
    let images = images(recipe.batch * recipe.input().count());
    let (exact, nearest_jump) = expected(&network, &images, Noise::default());
    let most = exact.iter().fold(1e-6, |most: f64, value| most.max(value.abs()));
    // Where sums cancel, what is left may be less than rounding: as much as it may be by chance.
    let rounding = |unit: f64| {
        let by_chance = (0..8)
            .map(|seed| difference(expected(&network, &images, Noise { unit, seed }).0, &exact));
        4.0 * by_chance.fold(0.0, f64::max)
    };
    let all = Isa::available().into_iter().flat_map(|isa| {
        [Precision::F32, Precision::Bf16].map(|precision| PlanConfig { isa, precision })
    });
    for config in all.filter(|config| config.checked().is_ok()) {
        let fail = |error: PlanError| TestCaseError::fail(error.to_string());
        let plan = lower(&network, None, config).map_err(fail)?;
        // An f32 is rounded by 2^-24 of it at most; Winograd's F(4x4) magnifies that some ten times.
        let (tolerance, unit) = match config.precision {
            Precision::F32 => (1e-4, 2f64.powi(-21)),
            // These have no f16, which `checked` refuses, and no int8, which has tests of its own.
            Precision::Bf16 | Precision::F16 | Precision::Int8 => (2e-2, 2f64.powi(-9)),
        };
        if nearest_jump <= tolerance {
            continue;
        }
        for pool in threads {
            // Twice, since memory is used again.
            for _ in 0..2 {
                let found = pool.install(|| plan.run(&images)).map_err(fail)?;
                prop_assert_eq!(found.len(), exact.len());
                let off = difference(found.iter().copied().map(f64::from), &exact);
                let threads = pool.current_num_threads();
                prop_assert!(
                    off <= tolerance * most || off <= rounding(unit),
                    "{config:?}, {threads} threads: {off} off where {most} is the most"
                );
            }
        }
    }
    Ok(())
}

fn check_with_one_thread(recipe: &Recipe) {
    let one = [rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread")];
    check(recipe, &one).expect("as plain loops");
}

/// As MobileNetV2's features at 224 x 224, which are 62,720.
#[test]
#[cfg_attr(miri, ignore = "minutes")]
fn a_head_may_have_more_inputs_than_a_block_of_a_product() {
    let recipe = Recipe { size: [7, 7], channels: 1280, parts: Vec::new(), end: 3, batch: 2 };
    check_with_one_thread(&recipe);
}

/// Winograd's method in three steps, of some images side by side too, with an uneven number of panels, tiles that hang over
/// the edges, and an output in a concatenation.
#[test]
#[cfg_attr(miri, ignore = "minutes")]
fn points_of_large_weights_are_taken_one_after_the_other() {
    let conv = |out, padding| Conv { padding, ..Conv::plain(Some(out), [3, 3], Activation::Relu) };
    let parts = vec![
        Part::Conv(Conv::plain(Some(240), [1, 1], Activation::Relu)),
        Part::Conv(conv(272, Padding::Same)),
        Part::Conv(conv(240, Padding::Valid)),
        Part::Growth(256),
    ];
    let recipe = Recipe { size: [13, 15], channels: 3, parts, end: 0, batch: 3 };
    let plan = lower(&recipe.network(), None, Isa::detect().expect("a set")).expect("a plan");
    let is_stage = |step: &&Step| matches!(step.work, Work::Points(..));
    assert_eq!(plan.steps.iter().filter(is_stage).count(), 3 * 3);
    let threads = [1, 2].map(|threads| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads")
    });
    check(&recipe, &threads).expect("as plain loops");
}

/// A mean of nearly as much below zero as above, found by chance: 7 % off in bf16, as it may be.
#[test]
#[cfg_attr(miri, ignore = "minutes")]
fn where_sums_cancel_rounding_is_the_measure() {
    let conv = |out: Option<usize>, kernel, activation| Conv {
        has_bias: out.is_some(),
        has_norm: false,
        ..Conv::plain(out, kernel, activation)
    };
    let down =
        Conv { stride: 2, padding: Padding::Valid, ..conv(None, [3, 3], Activation::Linear) };
    let parts = vec![
        Part::Rescale(-0.011399701566611123),
        Part::Conv(conv(Some(3), [5, 5], Activation::Relu)),
        Part::Padded([[0, 1], [1, 1]], down),
    ];
    let recipe = Recipe { size: [2, 5], channels: 26, parts, end: 1, batch: 1 };
    check_with_one_thread(&recipe);
}

#[test]
#[cfg_attr(miri, ignore = "minutes; the kernels' own tests run there")]
fn plans_are_plain_loops() {
    let threads = [1, 3].map(|threads| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads")
    });
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(recipe in recipe())| check(&recipe, &threads)?);
}

/// Layers that have no plain loops in f64 here, against Burn's.
#[test]
#[cfg_attr(miri, ignore = "minutes; the kernels' own tests run there")]
fn plans_of_all_layers_are_burn_s() {
    let threads = [1, 3].map(|threads| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads")
    });
    let config =
        ProptestConfig { failure_persistence: None, cases: 192, ..ProptestConfig::default() };
    let all = recipe_of(prop_oneof![1 => part(), 3 => any_part()]);
    proptest!(config, |(recipe in all)| {
        let network = recipe.network();
        let images = images(recipe.batch * recipe.input().count());
        let [height, width] = recipe.size;
        let data = TensorData::new(images.clone(), [recipe.batch, recipe.channels, height, width]);
        let output = network.forward(Tensor::from_data(data, &Default::default()));
        let expected: Vec<f64> =
            floats(output.expect("runs").into_data()).into_iter().map(f64::from).collect();
        let most = expected.iter().fold(1e-6, |most: f64, value| most.max(value.abs()));
        // As where a window of a pool has no pixel.
        prop_assume!(most < 1e30 && expected.iter().all(|value| value.is_finite()));
        for isa in Isa::available() {
            let fail = |error: PlanError| TestCaseError::fail(error.to_string());
            let plan = lower(&network, None, isa).map_err(fail)?;
            for pool in &threads {
                let found = pool.install(|| plan.run(&images)).map_err(fail)?;
                prop_assert_eq!(found.len(), expected.len());
                let off = difference(found.into_iter().map(f64::from), &expected);
                let threads = pool.current_num_threads();
                prop_assert!(off <= 1e-3 * most + 1e-5, "{isa}, {threads} threads: {off} off of {most}");
            }
        }
    });
}

//! Plans with products of bytes: the same numbers on every instruction set and any number of threads, near those of f32.

use std::cell::Cell;

use burn::backend::Flex;
use proptest::prelude::*;
use rekindle_nn::{Architecture, FAMILIES, Network};

use super::recipe::{Recipe, recipe};
use super::{difference, expected, images};
use crate::plan::{Plan, Work, properties::reference::Noise};
use crate::{Calibration, Isa, PlanError, lower, lower_quantized};

/// Whether all of a plan's steps are integers, or without fused operations.
fn is_exact(plan: &Plan) -> bool {
    plan.steps.iter().all(|step| {
        matches!(
            &step.work,
            Work::Gemm(crate::plan::AnyGemm::U8(_) | crate::plan::AnyGemm::U8ToU8(_))
                | Work::Bytes(_)
                | Work::Flatten
                | Work::Copy
        )
    })
}

/// How many bits of rounding a value's noise is compared with.
const UNIT: f64 = 1.0 / 128.0;

fn check(
    recipe: &Recipe,
    threads: &[rayon::ThreadPool],
    same: &Cell<usize>,
) -> Result<(), TestCaseError> {
    let network = recipe.network();
    let images = images(recipe.batch * recipe.input().count());
    let (exact, _) = expected(&network, &images, Noise::default());
    prop_assume!(exact.iter().all(|value| value.is_finite()));
    let most = exact.iter().fold(1e-6, |most: f64, value| most.max(value.abs()));
    let fail = |error: PlanError| TestCaseError::fail(error.to_string());
    let mut calibration = Calibration::new(&network).map_err(fail)?;
    let outputs = match calibration.observe(&images) {
        // Within the network, where an activation then makes it finite again.
        Err(PlanError::NotFinite { .. }) => {
            return Err(TestCaseError::reject("a value is not finite"));
        }
        outputs => outputs.map_err(fail)?,
    };
    let off = difference(outputs.into_iter().map(f64::from), &exact);
    prop_assert!(off <= 1e-3 * most + 1e-5, "while looked at: {off} off of {most}");
    let quantization = calibration.quantization();
    let mut first: Option<Vec<u32>> = None;
    for isa in Isa::available() {
        let plan = lower_quantized(&network, None, isa, &quantization).map_err(fail)?;
        for pool in threads {
            // Twice, since memory is used again.
            for _ in 0..2 {
                let found = pool.install(|| plan.run(&images)).map_err(fail)?;
                let bits: Vec<u32> = found.iter().map(|value| value.to_bits()).collect();
                if is_exact(&plan) {
                    let first = first.get_or_insert_with(|| bits.clone());
                    prop_assert!(*first == bits, "{isa} gives other numbers");
                    same.set(same.get() + 1);
                }
                let off = difference(found.iter().copied().map(f64::from), &exact);
                // A large part only where what is left of sums is as little as rounding.
                let by_chance = || {
                    let noise = |seed| Noise { unit: UNIT, seed };
                    let off = |seed| difference(expected(&network, &images, noise(seed)).0, &exact);
                    (0..8).map(off).fold(0.0, f64::max)
                };
                prop_assert!(
                    off <= 0.1 * most || off <= 4.0 * by_chance(),
                    "{isa}: {off} off of {most}"
                );
            }
        }
    }
    Ok(())
}

#[test]
#[cfg_attr(miri, ignore = "minutes; the kernels' own tests run there")]
fn plans_of_bytes_are_the_same_on_every_set() {
    let threads = [1, 3].map(|threads| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads")
    });
    let config =
        ProptestConfig { failure_persistence: None, cases: 96, ..ProptestConfig::default() };
    let same = Cell::new(0);
    proptest!(config, |(recipe in recipe())| check(&recipe, &threads, &same)?);
    assert!(same.get() > 100, "only {} runs of integers", same.get());
}

/// Every family has a plan of bytes; what is not of bytes is what the pass says. Those with more parameters take minutes.
#[test]
#[cfg_attr(miri, ignore = "minutes")]
fn every_family_has_a_plan_of_bytes() {
    const MOST_PARAMETERS: usize = 30_000_000;
    for family in FAMILIES {
        let architecture =
            Architecture::new(family).with_size(family.least_size).with_top(Some(10));
        let parameters = architecture.graph().expect("builds").summary().parameters.total;
        if parameters > MOST_PARAMETERS && std::env::var_os("REKINDLE_LARGE").is_none() {
            println!("left out, for REKINDLE_LARGE is not set: {}", family.name);
            continue;
        }
        let network: Network<Flex> = architecture.init(&Default::default()).expect("a network");
        let pixels = images(network.graph().input().count());
        let mut calibration = Calibration::new(&network).expect("runs");
        let exact = calibration.observe(&pixels).expect("runs");
        let isa = Isa::available()[0];
        let plan =
            lower_quantized(&network, None, isa, &calibration.quantization()).expect("compiles");
        for (layer, why) in plan.kept() {
            assert_eq!(why, "it weighs the channels of a map", "{}: {layer}", family.name);
        }
        let products = |plan: &Plan| {
            let all = plan.steps.iter();
            all.filter(|step| {
                matches!(
                    step.work,
                    Work::Gemm(crate::plan::AnyGemm::U8(_) | crate::plan::AnyGemm::U8ToU8(_))
                )
            })
            .count()
        };
        assert!(products(&plan) > 10, "{}", family.name);
        let found = plan.run(&pixels).expect("runs");
        let off = difference(
            found.into_iter().map(f64::from),
            &exact.iter().copied().map(f64::from).collect::<Vec<_>>(),
        );
        assert!(off < 0.2, "{}: probabilities are {off} off", family.name);
        // As without.
        let plain = lower(&network, None, isa).expect("compiles");
        assert_eq!(products(&plain), 0);
    }
}

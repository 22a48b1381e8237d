//! A plan that has run a few times allocates nothing any more, from however many threads.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::backend::Flex;
use rekindle_kernels::{
    ByteScale, Calibration, Isa, Plan, PlanConfig, PlanError, Precision, lower, lower_quantized,
};
use rekindle_nn::{InceptionV3Config, MobileNetV2Config, Network, Shape};

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: hands everything to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// With products of bytes.
fn quantized(network: &Network<Flex>) -> Result<Plan, PlanError> {
    let mut calibration = Calibration::new(network)?;
    calibration.observe(&vec![0.5; network.graph().input().count()])?;
    lower_quantized(network, None, Isa::detect()?, &calibration.quantization())
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_warm_plan_allocates_nothing() {
    let device = Default::default();
    let mobile = MobileNetV2Config::new().with_alpha(0.35).with_size(96);
    let mobile = mobile.init::<Flex>(&device).expect("valid");
    let inception = InceptionV3Config::new().with_size(96).init::<Flex>(&device).expect("valid");
    let isa = Isa::detect().expect("one");
    let of = |precision| PlanConfig { isa, precision };
    let configs = [Precision::F32, Precision::Bf16, Precision::Int8].map(of);
    let input = Shape::image(96);
    let scale = ByteScale { values: [[0.5; 256]; 3], source: [0, 1, 2] };
    for config in configs {
        let plans = match config.precision {
            Precision::Int8 => [quantized(&mobile), quantized(&inception)],
            _ => [lower(&mobile, None, config), lower(&inception, None, config)],
        };
        // Not every set has bf16.
        for plan in plans.into_iter().flatten() {
            for (batch, threads) in [(1, 1), (1, 3), (2, 3), (7, 3), (9, 1)] {
                let images = vec![0.5; batch * input.count()];
                let photos = vec![3; batch * input.count()];
                let mut outputs = vec![0.0; batch * plan.output_shape().count()];
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                let mut run = || {
                    plan.run_into(&images, &mut outputs).expect("runs");
                    plan.run_bytes(&photos, &scale, &mut outputs).expect("runs");
                };
                pool.expect("threads").install(|| {
                    // Which threads come, and so which memory is made, is chance: the least of many rounds counts.
                    let round = || {
                        let before = ALLOCATIONS.load(Ordering::Relaxed);
                        run();
                        ALLOCATIONS.load(Ordering::Relaxed) - before
                    };
                    let least = std::iter::repeat_with(round).take(50).min();
                    assert_eq!(least, Some(0), "{config:?}, batch {batch}, {threads} threads");
                });
            }
        }
    }
}

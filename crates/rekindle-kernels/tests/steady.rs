//! A plan that has run a few times allocates nothing any more, from however many threads.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::backend::Flex;
use rekindle_kernels::{ByteScale, Isa, PlanConfig, Precision, lower};
use rekindle_nn::{InceptionV3Config, MobileNetV2Config, Shape};

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

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_warm_plan_allocates_nothing() {
    let device = Default::default();
    let mobile = MobileNetV2Config::new().with_alpha(0.35).with_size(96);
    let mobile = mobile.init::<Flex>(&device).expect("valid");
    let inception = InceptionV3Config::new().with_size(96).init::<Flex>(&device).expect("valid");
    let isa = Isa::detect().expect("one");
    let bf16 = [PlanConfig { isa, precision: Precision::Bf16 }];
    let configs = [PlanConfig::from(isa)].into_iter().chain(bf16);
    let input = Shape::image(96);
    let scale = ByteScale { values: [[0.5; 256]; 3], source: [0, 1, 2] };
    for config in configs {
        let plans = [lower(&mobile, None, config), lower(&inception, None, config)];
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

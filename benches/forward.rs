//! Forward passes: `cargo bench -p rekindle-benches --bench forward`; of every family at its default size with
//! `-- families`.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use burn::backend::Flex;
use burn::tensor::Tensor;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rekindle::kernels::{Isa, lower};
use rekindle::nn::{Architecture, FAMILIES};

const CASES: [(&str, usize, usize); 8] = [
    ("mobilenet-v2", 160, 1),
    ("mobilenet-v2", 160, 32),
    ("mobilenet-v2", 224, 1),
    ("mobilenet-v2", 224, 32),
    ("inception-v3", 160, 1),
    ("inception-v3", 160, 8),
    ("inception-v3", 299, 1),
    ("inception-v3", 299, 8),
];

fn forward(c: &mut Criterion) {
    let device = Default::default();
    let mut group = c.benchmark_group("forward");
    group.sample_size(10);
    for (name, size, batch) in CASES {
        let architecture = Architecture::by_name(name).expect("known").with_size(size);
        let network = architecture.init::<Flex>(&device).expect("valid");
        let images = Tensor::<Flex, 4>::ones([batch, 3, size, size], &device) * 0.5;
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(format!("{name}/{size}/batch {batch}"), |b| {
            b.iter(|| network.forward(images.clone()).expect("fits").into_data());
        });
    }
    group.finish();
}

fn plan(c: &mut Criterion) {
    let device = Default::default();
    let mut group = c.benchmark_group("plan");
    group.sample_size(20);
    for (name, size, batch) in CASES {
        let architecture = Architecture::by_name(name).expect("known").with_size(size);
        let network = architecture.init::<Flex>(&device).expect("valid");
        let isa = Isa::detect().expect("a set that is there");
        let plan = lower(&network, None, isa).expect("lowers");
        let images = vec![0.5; batch * 3 * size * size];
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(format!("{name}/{size}/batch {batch}"), |b| {
            b.iter(|| plan.run(&images).expect("runs"));
        });
    }
    group.finish();
}

fn families(c: &mut Criterion) {
    let device = Default::default();
    let mut group = c.benchmark_group("families");
    group.sample_size(10);
    for family in FAMILIES {
        let architecture = Architecture::new(family);
        let network = architecture.init::<Flex>(&device).expect("valid");
        let plan = lower(&network, None, Isa::detect().expect("a set that is there"));
        let plan = plan.expect("lowers");
        let images = vec![0.5; architecture.input().count()];
        group.bench_function(format!("{architecture}"), |b| {
            b.iter(|| plan.run(&images).expect("runs"));
        });
    }
    group.finish();
}

criterion_group!(benches, forward, plan, families);
criterion_main!(benches);

//! The head's training step: forward, backward and Adam on a batch of 32 stored features:
//! `cargo bench -p rekindle-benches --bench head`.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use burn::backend::{Autodiff, Flex};
use burn::optim::{AdamConfig, GradientsParams, Optimizer};
use burn::tensor::activation::log_softmax;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rekindle::nn::{Architecture, Base, Eager, FAMILIES, Family, Features, Graph, Shape, Source};
use rekindle::prelude::*;

type B = Autodiff<Flex>;
const BATCH: usize = 32;

fn head_step(c: &mut Criterion) {
    let device = Default::default();
    let map = |side, channels| Shape::map(side, side, channels);
    let flatten = || HeadConfig::flatten().dense(512, Activation::Relu).dropout(0.5);
    let mut group = c.benchmark_group("head step");
    group.sample_size(10);
    group.throughput(Throughput::Elements(BATCH as u64));
    // The pooling head on every family at its default size, and two large ones.
    let pool = |family: &&'static Family| {
        let shape = Architecture::new(family).graph().expect("builds").output_shape();
        (format!("pool, {}", family.name), shape, HeadConfig::default())
    };
    let large = [
        ("flatten-512, mobilenet-v2 160".to_owned(), map(5, 1280), flatten()),
        ("flatten-512, inception-v3 160".to_owned(), map(3, 2048), flatten()),
    ];
    for (name, shape, config) in FAMILIES.iter().map(pool).chain(large) {
        // The features are the input of a network that has nothing but the head.
        let base = Base { layers: 0, output: Source::Input, architecture: None };
        let base = Graph::new(shape, Vec::new(), Source::Input, base).expect("a graph");
        let base = Network::<B>::init(base, 0, &device);
        let mut head = config.on(base, 2, 0, &device).expect("fits");
        let mut adam = AdamConfig::new().with_epsilon(1e-7).init::<B, Network<B>>();
        let values: Vec<f32> = (0..BATCH * shape.count()).map(|i| (i % 97) as f32 / 97.0).collect();
        let features = Features::<B>::from_values(values, shape, &device);
        let mut step = 0;
        group.bench_function(name, |b| {
            b.iter(|| {
                step += 1;
                let logits = head.walk(&mut Eager::training(0, step), features.clone());
                let loss = log_softmax(logits.expect("fits").flat().expect("flat"), 1).mean().neg();
                let grads = GradientsParams::from_grads(loss.backward(), &head);
                head = adam.step(1e-3, head.clone(), grads);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, head_step);
criterion_main!(benches);

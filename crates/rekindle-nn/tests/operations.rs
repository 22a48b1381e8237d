//! Operations against plain loops: what ONNX has and Keras does not, what training does, and what a file may say wrongly.

use burn::backend::Flex;
use rekindle_nn::ops::{
    Conv2d, Dropout, Fit, Interpolation, Lrn, Noise, NoiseKind, Normalization, Pool2d, PoolKind,
    Reshape, Resizing, SharedDropout,
};
use rekindle_nn::{
    Eager, Features, Graph, GraphBuilder, Network, Op, Padding, Samples, Shape, Window, floats,
};

/// `values` values, no two of which are equal.
fn values(count: usize) -> Vec<f32> {
    (0..count).map(|place| ((place * 7919) % 1009) as f32 / 100.0 - 5.0).collect()
}

fn run(op: impl Into<Op>, input: &[f32], shape: Shape, eager: &mut Eager) -> (Vec<f32>, Shape) {
    let (mut graph, x) = GraphBuilder::new(shape);
    let x = graph.layer("layer", op, &[x]).expect("a layer");
    let graph = graph.finish(x).expect("a graph");
    let device = Default::default();
    let network = Network::<Flex>::init(graph, 0, &device);
    let x = Features::from_values(input.to_vec(), shape, &device);
    let output = network.walk(eager, x).expect("an answer");
    let shape = output.shape();
    (floats(output.into_data()), shape)
}

fn close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 1e-5 * (1.0 + expected.abs()), "{found} {expected}");
    }
}

#[test]
fn pools_count_what_they_are_told_to() {
    let (height, width) = (7, 9);
    let x = values(height * width);
    let pads = [[[1, 1], [1, 1]], [[0, 1], [2, 0]], [[1, 0], [0, 1]]];
    for kind in [PoolKind::Max, PoolKind::Average] {
        for dilation in [[1, 1], [2, 1], [2, 3]] {
            for pads in pads {
                for counts_padding in [false, true] {
                    let padding = Padding::Explicit(pads);
                    let window = Window { kernel: [3, 3], stride: [2, 1], padding, dilation };
                    let pool = Pool2d { kind, window, counts_padding };
                    let shape = Shape::map(height, width, 1);
                    let (found, output) = run(pool, &x, shape, &mut Eager::inference());
                    let [rows, columns, _] = output.as_map().expect("maps");
                    let mut expected = Vec::new();
                    for row in 0..rows {
                        for column in 0..columns {
                            let (mut sum, mut largest, mut count) = (0.0, f32::MIN, 0);
                            for tap in 0..9 {
                                let y = (row * 2 + tap / 3 * dilation[0]).checked_sub(pads[0][0]);
                                let x_ = (column + tap % 3 * dilation[1]).checked_sub(pads[1][0]);
                                let inside = y.zip(x_).filter(|&(y, x)| y < height && x < width);
                                if let Some((y, x_)) = inside {
                                    sum += x[y * width + x_];
                                    largest = largest.max(x[y * width + x_]);
                                    count += 1;
                                }
                            }
                            let count = if counts_padding { 9 } else { count };
                            expected.push(match kind {
                                PoolKind::Max => largest,
                                PoolKind::Average => sum / count as f32,
                            });
                        }
                    }
                    close(&found, &expected);
                }
            }
        }
    }
}

#[test]
fn local_response_normalization_is_onnx_s() {
    let (channels, pixels) = (5, 6);
    let x = values(channels * pixels);
    for size in [1, 2, 3, 4, 5, 12] {
        let lrn = Lrn { size, alpha: 0.5, beta: 0.75, bias: 2.0 };
        let shape = Shape::map(2, 3, channels);
        let (found, _) = run(lrn, &x, shape, &mut Eager::inference());
        let mut expected = Vec::new();
        for channel in 0..channels {
            for pixel in 0..pixels {
                let from = channel.saturating_sub((size - 1) / 2);
                let to = (channel + size / 2).min(channels - 1);
                let sum: f32 = (from..=to).map(|other| x[other * pixels + pixel].powi(2)).sum();
                let scale = (2.0 + 0.5 / size as f32 * sum).powf(0.75);
                expected.push(x[channel * pixels + pixel] / scale);
            }
        }
        close(&found, &expected);
    }
}

#[test]
fn images_on_the_host_are_resized_as_maps_are() {
    let [height, width, channels] = [7, 6, 2];
    let maps = values(height * width * channels);
    let mut image = vec![0.0; maps.len()];
    for (place, value) in maps.iter().enumerate() {
        let (channel, pixel) = (place / (height * width), place % (height * width));
        image[pixel * channels + channel] = *value;
    }
    let interpolations = [
        Interpolation::Nearest,
        Interpolation::Bilinear,
        Interpolation::Bicubic,
        Interpolation::Area,
        Interpolation::Lanczos3,
        Interpolation::Lanczos5,
        Interpolation::Gaussian,
        Interpolation::MitchellCubic,
    ];
    for interpolation in interpolations {
        for antialias in [false, true] {
            for fit in [Fit::Stretch, Fit::Crop, Fit::Pad(3.5)] {
                for (rows, columns) in [(3, 10), (12, 5), (7, 6), (1, 1)] {
                    let resizing = Resizing { antialias, ..Resizing::new(rows, columns) }
                        .interpolation(interpolation)
                        .fit(fit);
                    let host = resizing.resize(&image, [height, width, channels]).expect("resized");
                    let shape = Shape::map(height, width, channels);
                    let (found, _) = run(resizing, &maps, shape, &mut Eager::inference());
                    let pixels = rows * columns;
                    let expected: Vec<f32> = (0..found.len())
                        .map(|place| host[place % pixels * channels + place / pixels])
                        .collect();
                    close(&found, &expected);
                }
            }
        }
    }
    let wrong = Resizing::new(2, 2).resize(&image, [7, 6, 3]);
    assert!(wrong.is_err(), "as many values as sizes say");
}

#[test]
fn noise_is_what_keras_makes_of_it() {
    let shape = Shape::map(8, 8, 16);
    let x = vec![1.0; 4 * shape.count()];
    let train = |op: Op| run(op, &x, shape, &mut Eager::training(3, 1)).0;
    let moments = |values: &[f32]| {
        let count = values.len() as f64;
        let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
        let square = values.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>();
        (mean, square / count)
    };
    let noise = |kind, amount| Op::from(Noise { kind, amount });
    let (mean, variance) = moments(&train(noise(NoiseKind::GaussianNoise, 0.5)));
    assert!((mean - 1.0).abs() < 0.03 && (variance - 0.25).abs() < 0.02, "{mean} {variance}");
    let (mean, variance) = moments(&train(noise(NoiseKind::GaussianDropout, 0.2)));
    assert!((mean - 1.0).abs() < 0.03 && (variance - 0.25).abs() < 0.02, "{mean} {variance}");
    // a * (1 or alpha') + b, with the share of 0.2 at alpha' = -1.7581.
    let found = train(noise(NoiseKind::AlphaDropout, 0.2));
    let a = (0.8_f64 * (1.0 + 0.2 * 1.758_099_34_f64.powi(2))).powf(-0.5);
    let b = a * 1.758_099_34 * 0.2;
    let (kept, dropped) = ((a + b) as f32, (b - a * 1.758_099_34) as f32);
    let count = found.iter().filter(|&&value| (value - kept).abs() < 1e-5).count();
    assert!(found.iter().all(|&value| (value - kept).abs().min((value - dropped).abs()) < 1e-5));
    assert!((count as f64 / found.len() as f64 - 0.8).abs() < 0.03);

    // Whole channels, or whole samples, or none.
    for (op, together) in
        [(SharedDropout::of_channels(0.5), 64), (SharedDropout::of_samples(0.5), shape.count())]
    {
        let found = train(op.into());
        assert!(found.chunks(together).all(|part| part.iter().all(|value| *value == part[0])));
        assert!(found.contains(&0.0) && found.contains(&2.0), "{together}");
    }
    // A batch in parts draws what the whole does, and inference nothing.
    for op in [noise(NoiseKind::GaussianNoise, 0.5), SharedDropout::of_channels(0.5).into()] {
        let whole = train(op.clone());
        let one = shape.count();
        for first in 0..4 {
            let samples = Samples { first, of: 4 };
            let mut eager = Eager::training(3, 1).samples(Some(samples));
            let (part, _) = run(op.clone(), &x[..one], shape, &mut eager);
            assert_eq!(part, whole[first * one..(first + 1) * one]);
        }
        assert_eq!(run(op, &x, shape, &mut Eager::inference()).0, x);
    }
}

#[test]
fn sizes_that_no_computer_has_are_errors() {
    let image = Shape::map(4, 4, 3);
    let huge = 4_000_000_000;
    let mut pool = Pool2d::max(2, 2, Padding::Same);
    pool.window.padding = Padding::Explicit([[usize::MAX, 1], [0, 0]]);
    let mut zero = Conv2d::new(1, [3, 3]);
    zero.window.stride = [0, 1];
    let ops: [Op; 8] = [
        Resizing::new(huge, huge).into(),
        Resizing::new(1, huge).fit(Fit::Pad(0.0)).into(),
        Resizing::new(0, 4).into(),
        Conv2d::new(usize::MAX, [3, 3]).into(),
        pool.into(),
        zero.into(),
        Reshape { target: vec![i64::MAX, i64::MAX, -1] }.into(),
        Dropout { rate: 1.5 }.into(),
    ];
    for op in ops {
        let (mut graph, x) = GraphBuilder::new(image);
        let added = graph.layer("layer", op.clone(), &[x]);
        assert!(added.is_err(), "{op:?}");
    }
}

#[test]
fn normalization_has_keras_s_variables() {
    let (mut graph, x) = GraphBuilder::new(Shape::map(4, 4, 3));
    let x = graph.layer("normalization", Normalization::new(), &[x]).expect("a layer");
    let graph: Graph = graph.finish(x).expect("a graph");
    let shapes: Vec<Vec<usize>> =
        graph.variables(0).into_iter().map(|variable| variable.shape).collect();
    assert_eq!(shapes, [vec![3], vec![3], vec![]]);
    let network = Network::<Flex>::init(graph, 0, &Default::default());
    assert_eq!(network.view(0).host("count"), Some(vec![0.0]));
}

//! Resizes and preprocessing against Keras's.

use image::RgbImage;
use rekindle::vision::{Pixels, Preprocessing, Resize, open_image, resize};
use rekindle_tests::{Golden, repository};

const SOURCES: [&str; 5] = ["odd", "tall", "wide", "small", "one"];
const TARGETS: [(usize, usize); 3] = [(32, 32), (96, 75), (50, 51)];

fn golden(name: &str) -> RgbImage {
    open_image(repository("tests/golden/images").join(name)).expect("a golden image")
}

fn largest_difference(ours: &Pixels, theirs: &[f32]) -> f32 {
    assert_eq!(ours.values.len(), theirs.len());
    ours.values.iter().zip(theirs).fold(0.0, |most: f32, (a, b)| most.max((a - b).abs()))
}

#[test]
fn resizes_are_keras_s() {
    let smooth = Golden::open("images/tf-bilinear.safetensors");
    for source in SOURCES {
        let image = golden(&format!("{source}.png"));
        for (width, height) in TARGETS {
            let case = format!("{source}-{width}x{height}");
            let check = |method: Resize, theirs: &[f32], tolerance| {
                let ours = resize(&image, width, height, method).expect("resizes");
                assert_eq!((ours.width, ours.height), (width, height));
                let difference = largest_difference(&ours, theirs);
                assert!(difference <= tolerance, "{case} {}: {difference}", method.name());
            };
            for method in [Resize::Nearest, Resize::Bilinear] {
                let theirs = golden(&format!("{case}-{}.png", method.name()));
                check(
                    method,
                    &theirs.as_raw().iter().map(|&x| f32::from(x)).collect::<Vec<_>>(),
                    0.0,
                );
            }
            assert_eq!(smooth.shape(&case), [height, width, 3]);
            check(Resize::TfBilinear, smooth.values(&case), 1e-3);
        }
    }
}

#[test]
fn preprocessing_is_keras_s() {
    let golden = Golden::open("images/preprocessing.safetensors");
    let values = golden.values("none").to_vec();
    let pixels = Pixels { width: 256, height: 1, values };
    for mode in [Preprocessing::None, Preprocessing::Tf, Preprocessing::Caffe, Preprocessing::Torch]
    {
        let (ours, theirs) = (mode.apply(&pixels), golden.values(&mode.name()));
        for (index, value) in ours.iter().enumerate() {
            let (channel, pixel) = (index / 256, index % 256);
            let expected = theirs[pixel * 3 + channel];
            assert!(
                (value - expected).abs() <= 2e-5,
                "{} {index}: {value} {expected}",
                mode.name()
            );
        }
    }
}

#[test]
fn printers_colors_are_pillow_s() {
    assert_eq!(golden("cmyk.jpg"), golden("cmyk.png"));
}

//! Burn's code of an exported network answers as the network.

use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData};
use rekindle_burn_onnx::{convnext_tiny, efficientnet_b0, head, mobilenet_v2, resnet_50, values};

/// Runs the generated code on the network's picture, and compares.
macro_rules! answers {
    ($($name:ident),*) => {$(
        #[test]
        fn $name() {
            let name = stringify!($name);
            let image = values(name, "input");
            let size = (image.len() / 3).isqrt();
            let image = TensorData::new(image, [1, 3, size, size]);
            let model = $name::Model::<Flex>::default();
            let output = model.forward(Tensor::<Flex, 4>::from_data(image, &Default::default()));
            let found: Vec<f32> = output.into_data().to_vec().expect("floats");
            let expected = values(name, "output");
            assert_eq!(found.len(), expected.len());
            let far = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            println!("{name}: {far:e}, {expected:?}");
            assert!(far <= 1e-5, "{name}: {found:?}, expected {expected:?}");
        }
    )*};
}

answers!(mobilenet_v2, resnet_50, efficientnet_b0, convnext_tiny, head);

//! The CPU trainer's gradients are those of Burn's autodiff, of finite differences and of TensorFlow.

use std::collections::HashMap;

use burn::backend::{Autodiff, Flex};
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};
use rekindle::kernels::train::{Pass, Rule, Trainer, TrainerConfig};
use rekindle::nn::{Eager, Features, Shape, require_gradients};
use rekindle::prelude::*;
use rekindle_tests::{
    Golden, cases, formula_network, pictures, relative_difference, sample, size, uniform,
};

type B = Autodiff<Flex>;

fn model(architecture: Architecture, head: HeadConfig) -> Network<B> {
    let device = Default::default();
    let base = formula_network::<B>(architecture, &device);
    require_gradients(head.on(base, 3, 1, &device).expect("fits"))
}

/// A gradient of the outputs.
fn gradient(count: usize) -> Vec<f32> {
    uniform("slope", count).into_iter().map(|u| (u - 0.5) as f32).collect()
}

/// Burn's outputs and gradients of what comes behind `after`, by parameter and in Keras's layout.
fn reference(
    model: &Network<B>,
    after: Option<&str>,
    inputs: Vec<f32>,
    shape: Shape,
    eager: Eager,
) -> (Vec<f32>, HashMap<ParamId, Vec<f32>>) {
    struct Collect<'a>(&'a GradientsParams, HashMap<ParamId, Vec<f32>>);
    impl ModuleVisitor<B> for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            if let Some(gradient) = self.0.get::<Flex, D>(param.id) {
                let values = gradient.into_data().into_vec().expect("f32");
                self.1.insert(param.id, values);
            }
        }
    }
    let features = Features::from_values(inputs, shape, &Default::default());
    let logits = match after {
        Some(layer) => model.walk_after(layer, &mut { eager }, features),
        None => model.walk(&mut { eager }, features),
    };
    let logits = logits.expect("runs").flat().expect("flat");
    let data = TensorData::new(gradient(logits.dims().iter().product()), logits.dims());
    let loss = (logits.clone() * Tensor::from_data(data, &Default::default())).sum();
    let gradients = GradientsParams::from_grads(loss.backward(), model);
    let mut collect = Collect(&gradients, HashMap::new());
    model.visit(&mut collect);
    let mut found = collect.1;
    for variable in model.variables() {
        if let Some(values) = found.remove(&variable.id) {
            found.insert(variable.id, variable.spec.from_burn(values));
        }
    }
    (logits.into_data().into_vec().expect("f32"), found)
}

/// Largest difference over the largest value.
fn relative(ours: &[f32], reference: &[f32]) -> f32 {
    assert_eq!(ours.len(), reference.len());
    let most = |values: &mut dyn Iterator<Item = f32>| values.fold(0.0, f32::max);
    let scale = most(&mut reference.iter().map(|value| value.abs())).max(1e-12);
    most(&mut ours.iter().zip(reference).map(|(a, b)| (a - b).abs())) / scale
}

fn heads() -> [HeadConfig; 2] {
    use rekindle::nn::{HeadLayerConfig as Layer, Padding, Window};
    let pool = Window::new([2, 2], Padding::Same);
    [
        HeadConfig::global_average_pooling().dense(8, Activation::Relu6).dropout(0.5),
        HeadConfig::of(vec![Layer::MaxPooling2d(pool), Layer::AveragePooling2d(pool)])
            .with(Layer::Rescaling { scale: 0.5, offset: 0.25 })
            .with(Layer::Dropout(0.25))
            .with(Layer::Flatten)
            .dense(8, Activation::Sigmoid)
            .with(Layer::Relu),
    ]
}

#[test]
fn gradients_are_those_of_burn() {
    let mobile = Architecture::from(MobileNetV2Config::new().with_alpha(0.35).with_size(33));
    // Channels that are no multiple of a register.
    let wide = Architecture::from(MobileNetV2Config::new().with_alpha(0.75).with_size(32));
    // At 75 a value within rounding of a ReLU's kink falls on either side of it.
    let inception = Architecture::from(InceptionV3Config::new().with_size(77));
    for (architecture, head, after) in [
        (mobile, 0, None),
        (wide, 1, Some("block_13_expand_relu")),
        (mobile, 1, Some("block_2_add")),
        (inception, 0, None),
        (inception, 1, Some("mixed7")),
    ] {
        let model = model(architecture, heads()[head].clone());
        let images = pictures(size(&architecture));
        let (inputs, shape) = match after {
            None => (images, architecture.input()),
            Some(layer) => {
                let images =
                    Features::<B>::from_values(images, architecture.input(), &Default::default());
                let cut = model.walk_until(layer, &mut Eager::inference(), images).expect("cuts");
                (cut.clone().into_data().into_vec().expect("f32"), cut.shape())
            }
        };
        let config = TrainerConfig {
            after,
            input: shape,
            trains: &|_| true,
            live: &|_| false,
            input_gradient: false,
        };
        let mut trainer = Trainer::new(&model, &config).expect("trains");
        for pass in [Pass::Inference, Pass::Training { seed: 3, step: 5, part: None }] {
            let eager = match pass {
                Pass::Inference => Eager::logits(),
                Pass::Training { seed, step, part } => Eager::training(seed, step).samples(part),
            };
            let (outputs, gradients) = reference(&model, after, inputs.clone(), shape, eager);
            let ours = trainer.forward(&inputs, pass).expect("runs").to_vec();
            assert!(
                relative(&ours, &outputs) < 1e-4,
                "{architecture}: {}",
                relative(&ours, &outputs)
            );
            trainer.clear();
            trainer.backward(&gradient(ours.len())).expect("runs");
            let mut checked = 0;
            for (parameter, gradient) in trainer.gradients() {
                let Some(reference) = gradients.get(&parameter.id) else {
                    panic!("{}/{} has no gradient in Burn", parameter.layer, parameter.spec.name)
                };
                let difference = relative(gradient, reference);
                let name = format!("{architecture}: {}/{}", parameter.layer, parameter.spec.name);
                assert!(difference < 1e-5, "{name}: {difference:e}");
                checked += 1;
            }
            assert!(checked > 20, "{architecture}: {checked} gradients");
        }
    }
}

/// Five steps of each rule on a kernel and a bias, beside Keras's own optimizers (`tests/keras/optimizers.py`).
#[test]
fn rules_are_keras_s() {
    let golden = Golden::open("optimizers.safetensors");
    let values = |name: &str, count| -> Vec<f32> {
        uniform(name, count).into_iter().map(|u| (u - 0.5) as f32).collect()
    };
    let (beta_1, beta_2, epsilon) = (0.9, 0.99, 1e-3);
    for (name, rule) in [
        ("adam", Rule::Adam { beta_1, beta_2, epsilon, decay: 0.0 }),
        ("adam_default", Rule::adam()),
        ("adam_w", Rule::Adam { beta_1, beta_2, epsilon, decay: 0.1 }),
        ("adam_w_default", Rule::adam_w()),
        ("sgd", Rule::sgd(0.0, false)),
        ("momentum", Rule::sgd(0.9, false)),
        ("nesterov", Rule::sgd(0.9, true)),
        ("rms_prop", Rule::RmsProp { rho: 0.9, momentum: 0.5, epsilon }),
        ("rms_prop_default", Rule::rms_prop()),
    ] {
        for (variable, count) in [("kernel", 40), ("bias", 5)] {
            let mut weights = values(variable, count);
            let gradient = values(&format!("gradient/{variable}"), count);
            let mut slots = vec![vec![0.0_f32; count]; rule.slots()];
            for time in 1..=5_u64 {
                let scale = f64::from(time as f32 + 0.5);
                let gradient: Vec<f32> =
                    gradient.iter().map(|&g| (f64::from(g) * scale) as f32).collect();
                rule.update(time, 0.01, 0.5, &mut weights, &gradient, &mut slots);
            }
            let keras = golden.values(&format!("{name}/{variable}"));
            for (ours, keras) in weights.iter().zip(keras) {
                assert!((ours - keras).abs() < 2e-6, "{name} {variable}: {ours} {keras}");
            }
        }
    }
}

/// `tests/keras/gradients.py`: in float64, with moving statistics and with the batch's.
#[test]
fn gradients_are_those_of_tensorflow() {
    let golden = Golden::open("gradients.safetensors");
    let mobile = Architecture::from(MobileNetV2Config::new().with_alpha(0.35));
    let inception = Architecture::from(InceptionV3Config::new());
    for (architecture, key, sizes) in
        [(mobile, "mobilenet_v2", vec![33, 113]), (inception, "inception_v3", vec![77])]
    {
        for (live, pixels) in [false, true].into_iter().zip(sizes) {
            let architecture = architecture.with_top(Some(5)).with_size(pixels);
            let network = formula_network::<Flex>(architecture, &Default::default());
            let config = TrainerConfig {
                after: None,
                input: architecture.input(),
                trains: &|_| true,
                live: &|_| live,
                input_gradient: false,
            };
            let mut trainer = Trainer::new(&network, &config).expect("trains");
            let pass = Pass::Training { seed: 0, step: 0, part: None };
            let ours =
                trainer.forward(&pictures(size(&architecture)), pass).expect("runs").to_vec();
            let key = format!("{key}/{}", u8::from(live));
            let outputs = relative(&ours, golden.values(&format!("{key}/outputs")));
            assert!(outputs < 1e-4, "{key}: {outputs:e}");
            trainer.backward(&gradient(10)).expect("runs");
            let trained: Vec<_> = trainer
                .gradients()
                .map(|(parameter, gradient)| (parameter.id, gradient.to_vec()))
                .collect();
            for parameter in trainer.parameters() {
                let name = format!("{key}/{}/{}", parameter.layer, parameter.spec.name);
                let own = trained.iter().find(|(id, _)| *id == parameter.id);
                let (values, is_golden) = match own {
                    Some((_, gradient)) => (gradient, true),
                    // Moving statistics, after one step.
                    None => (&parameter.values, live),
                };
                if is_golden {
                    let golden = golden.values(&name);
                    let largest = golden[golden.len() - 1];
                    let difference = relative_difference(&sample(values, golden), golden) * largest;
                    // Where the batch's mean is taken out behind it, a shift has no gradient but rounding.
                    assert!(
                        difference < 1e-3 * largest.max(0.1),
                        "{name}: {difference:e} of {largest}"
                    );
                }
            }
        }
    }
}

/// Of every network's output, by every variable that trains: TensorFlow's in float64.
#[test]
fn gradients_of_every_network_are_keras_s() {
    let mut wrong = Vec::new();
    for case in cases().iter().filter(|case| case.has_gradients) {
        let architecture = &case.architecture;
        let network = case.network::<Flex>(&Default::default());
        let config = TrainerConfig {
            after: None,
            input: architecture.input(),
            trains: &|_| true,
            live: &|_| false,
            input_gradient: false,
        };
        let mut trainer = Trainer::new(&network, &config).expect("trains");
        let outputs = trainer.forward(&case.pictures(), Pass::Inference).expect("runs").len();
        trainer.backward(&gradient(outputs)).expect("runs");
        let mut worst = (0.0, String::new());
        for (parameter, gradient) in trainer.gradients() {
            let name = format!("{}/{}", parameter.layer, parameter.spec.name);
            let golden = case.gradient(&name);
            let difference = relative_difference(&sample(gradient, golden), golden);
            if difference > worst.0 {
                worst = (difference, name);
            }
        }
        println!("{architecture}: at most {:.1e} off, in {}", worst.0, worst.1);
        if worst.0 >= 1e-4 {
            wrong.push(format!("{architecture}: {} is {:e} off", worst.1, worst.0));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

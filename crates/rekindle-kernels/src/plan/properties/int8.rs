//! Plans with products of bytes: the same numbers on every instruction set and any number of threads, near those of f32.

use std::cell::Cell;

use burn::backend::Flex;
use proptest::prelude::*;
use rekindle_nn::onnx::{Onnx, OnnxSettings};
use rekindle_nn::quantized::Bytes;
use rekindle_nn::tflite::{Operator, Stored, Tensor, Tflite};
use rekindle_nn::{
    Activation, Architecture, Eager, FAMILIES, Features, Interpreter, LayerView, Network,
    NetworkError, QuantizedNetwork, assign, read,
};

use super::recipe::{Conv, Part, Recipe, recipe};
use super::{difference, expected, images};
use crate::plan::{Plan, Work, properties::reference::Noise};
use crate::{Calibration, Isa, PlanError, Quantization, lower, lower_quantized, quantized};

/// Computes as other engines do: numbers, which are rounded where they are bytes.
struct Elsewhere<'a> {
    bytes: &'a Bytes,
    eager: Eager,
}

impl Interpreter<Flex> for Elsewhere<'_> {
    type Value = Features<Flex>;

    fn layer(
        &mut self,
        layer: LayerView<'_, Flex>,
        inputs: Vec<Features<Flex>>,
    ) -> Result<Features<Flex>, NetworkError> {
        let scale = self.bytes.values.get(layer.name).copied();
        let made = self.eager.layer(layer, inputs)?;
        let Some(scale) = scale else { return Ok(made) };
        let (low, high) = (-f32::from(scale.zero), 255.0 - f32::from(scale.zero));
        let shape = made.shape();
        let values = made.into_data().into_vec::<f32>().expect("numbers").into_iter();
        let rounded =
            values.map(|x| (x / scale.step).round_ties_even().clamp(low, high) * scale.step);
        Ok(Features::from_values(rounded.collect(), shape, &Default::default()))
    }
}

/// Sees that engines find what they make products of integers of. Gives how many there are.
fn written(exported: &QuantizedNetwork) -> usize {
    let QuantizedNetwork { graph, bytes, .. } = exported;
    let onnx = Onnx::of_quantized(graph, OnnxSettings::default(), bytes).expect("has a form");
    let maker = |value: &str| onnx.nodes.iter().find(|node| node.output == value);
    let is_of = |value: &String, op: &str| maker(value).is_some_and(|node| node.op == op);
    for product in onnx.nodes.iter().filter(|node| bytes.products.contains_key(&node.name)) {
        assert!(["Conv", "Gemm"].contains(&product.op), "{product:?}");
        let of_bytes = |value| is_of(value, "DequantizeLinear");
        assert!(product.inputs.len() == 3 && product.inputs.iter().all(of_bytes), "{product:?}");
        let is_rounded = onnx
            .nodes
            .iter()
            .any(|node| node.op == "QuantizeLinear" && node.inputs[0] == product.output);
        assert!(is_rounded || !bytes.products[&product.name].is_clamped, "{product:?}");
    }
    for node in onnx.nodes.iter().filter(|node| node.op == "DequantizeLinear") {
        let is_constant = maker(&node.inputs[0]).is_none();
        let pair = maker(&node.inputs[0]).is_some_and(|quantize| {
            quantize.op == "QuantizeLinear" && quantize.inputs[1..] == node.inputs[1..]
        });
        assert!(is_constant || pair, "{node:?}");
    }

    let tflite = Tflite::of_quantized(graph, bytes).expect("has a form");
    let mut products = 0;
    for node in &tflite.nodes {
        let of = |id: &rekindle_nn::tflite::TensorId| &tflite.tensors[id.0];
        let (inputs, output) = (node.inputs.iter().map(of).collect::<Vec<_>>(), of(&node.output));
        let is_bytes = |tensor: &&Tensor| tensor.stored == Stored::Int8;
        assert!(
            inputs.iter().chain([&output]).all(|tensor| !is_bytes(tensor) || tensor.grid.is_some())
        );
        match node.operator {
            Operator::Quantize => assert!(!is_bytes(&inputs[0]) && is_bytes(&output)),
            Operator::Dequantize => assert!(is_bytes(&inputs[0]) && !is_bytes(&output)),
            Operator::Conv2d { .. }
            | Operator::DepthwiseConv2d { .. }
            | Operator::FullyConnected { .. }
                if is_bytes(&output) =>
            {
                products += 1;
                let [input, kernel, bias] = inputs[..] else { panic!("{node:?}") };
                assert!(is_bytes(&input) && is_bytes(&kernel) && bias.stored == Stored::Integer);
                let steps = |tensor: &Tensor| tensor.grid.clone().expect("a grid").steps;
                let step = steps(input)[0];
                for (kernel, bias) in steps(kernel).into_iter().zip(steps(bias)) {
                    assert_eq!(step * kernel, bias, "{}", output.name);
                }
            }
            Operator::Add(_) => {
                assert!(
                    inputs
                        .iter()
                        .chain([&output])
                        .all(|tensor| is_bytes(tensor) == is_bytes(&output))
                );
                // What is between the sums of more than two values has no scale.
                assert!(!is_bytes(&output) || bytes.values.contains_key(&output.name));
            }
            // These have no step of their own.
            Operator::Pad | Operator::Concatenation { .. } | Operator::MaxPool2d(_)
                if is_bytes(&output) =>
            {
                let values = inputs.iter().filter(|tensor| tensor.values.is_none());
                assert!(values.clone().all(|input| input.grid == output.grid), "{}", output.name);
            }
            Operator::Reshape if is_bytes(&output) => assert_eq!(inputs[0].grid, output.grid),
            _ => assert!(!inputs.iter().chain([&output]).any(is_bytes), "{node:?}"),
        }
    }
    assert_eq!(products, bytes.products.len());
    products
}

/// What an engine that has no more than the exported network makes of images.
fn elsewhere(
    network: &Network<Flex>,
    quantization: &Quantization,
    images: &[f32],
) -> Result<Vec<f32>, PlanError> {
    let exported = quantized(network, quantization)?;
    let products = written(&exported);
    let plan = lower_quantized(network, None, Isa::available()[0], quantization)?;
    assert!(products >= plan.steps.iter().filter(|step| is_product(step)).count());
    let input = exported.graph.input();
    let network = Network::<Flex>::init(exported.graph, 0, &Default::default());
    let mut values = read(&network);
    for variable in network.variables() {
        let (spec, layer) = (&variable.spec, variable.layer.as_str());
        let numbers: Vec<f32> = match exported.bytes.products.get(layer) {
            Some(product) if spec.name == "bias" => {
                let each = product.bias.iter().zip(&product.bias_steps);
                each.map(|(&bias, step)| bias as f32 * step).collect()
            }
            Some(product) => {
                let each = product.weights.iter().zip(product.steps.iter().cycle());
                each.map(|(&weight, step)| f32::from(weight) * step).collect()
            }
            None => match exported.variables.get(&(layer.to_owned(), spec.name.to_owned())) {
                Some((shape, values)) => {
                    assert_eq!(*shape, spec.shape, "{}", variable.path());
                    values.clone()
                }
                None => panic!("`{}` has no values", variable.path()),
            },
        };
        values.insert(variable.id, spec.to_burn(numbers));
    }
    let network = assign(network, values);
    let mut engine = Elsewhere { bytes: &exported.bytes, eager: Eager::inference() };
    let x = Features::from_values(images.to_vec(), input, &Default::default());
    Ok(network.walk(&mut engine, x)?.into_data().into_vec().expect("numbers"))
}

/// Whether a step multiplies bytes.
fn is_product(step: &crate::plan::Step) -> bool {
    matches!(step.work, Work::Gemm(crate::plan::AnyGemm::U8(_) | crate::plan::AnyGemm::U8ToU8(_)))
}

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
    // A large part only where what is left of sums is as little as rounding.
    let by_chance = || {
        let noise = |seed| Noise { unit: UNIT, seed };
        let off = |seed| difference(expected(&network, &images, noise(seed)).0, &exact);
        (0..8).map(off).fold(0.0, f64::max)
    };
    let found = elsewhere(&network, &quantization, &images).map_err(fail)?;
    let off = difference(found.into_iter().map(f64::from), &exact);
    // Shortcuts, and what functions are computed of, are rounded too.
    prop_assert!(off <= 0.15 * most || off <= 6.0 * by_chance(), "elsewhere: {off} off of {most}");
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
    // Of integers alone, which by chance only one network in ten is.
    let settings = [1, 3].into_iter().flat_map(|kernel| [1, 2].map(|stride| (kernel, stride)));
    for ((kernel, stride), out) in settings.flat_map(|own| [16, 24, 40, 48].map(|out| (own, out))) {
        let conv = Conv { stride, ..Conv::plain(Some(out), [kernel; 2], Activation::Relu) };
        let parts = vec![Part::Conv(conv)];
        let recipe = Recipe { size: [9, 7], channels: 3, parts, end: 0, batch: 2 };
        let before = same.get();
        check(&recipe, &threads, &same).expect("the same numbers");
        assert_eq!(same.get() - before, Isa::available().len() * threads.len() * 2, "{recipe:?}");
    }
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
        let quantization = calibration.quantization();
        let plan = lower_quantized(&network, None, isa, &quantization).expect("compiles");
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
        let exported = elsewhere(&network, &quantization, &pixels).expect("has other forms");
        let own = plan.run(&pixels).expect("runs").into_iter().map(f64::from).collect::<Vec<_>>();
        let off = difference(exported.into_iter().map(f64::from), &own);
        println!("{}: {off} off elsewhere", family.name);
        assert!(off < 0.05, "{}: elsewhere probabilities are {off} off", family.name);
        // As without.
        let plain = lower(&network, None, isa).expect("compiles");
        assert_eq!(products(&plain), 0);
    }
}

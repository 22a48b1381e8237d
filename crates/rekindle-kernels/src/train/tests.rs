//! Trainers of networks that chance makes, against Burn's autodiff.

use std::collections::{HashMap, HashSet};

use burn::backend::{Autodiff, Flex};
use burn::module::{AutodiffModule, ModuleVisitor, Param, ParamId};
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorData};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rekindle_nn::{Activation, Eager, Features, Network, floats, require_gradients};

use super::{Pass, Trainer, TrainerConfig};
use crate::plan::properties::recipe::{Conv, Part, Recipe, any_part, part, recipe_of};

type B = Autodiff<Flex>;

/// The gradients of parameters, in Burn's layout.
struct Gradients<'a> {
    from: &'a <B as AutodiffBackend>::Gradients,
    found: HashMap<ParamId, Vec<f32>>,
}

impl ModuleVisitor<B> for Gradients<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(gradient) = param.val().grad(self.from) {
            self.found.insert(param.id, floats(gradient.into_data()));
        }
    }
}

/// By chance, so that no two pixels are alike and the place of a maximum is clear.
fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| rng.random::<f32>() * 2.0 - 1.0).collect()
}

/// Whether values are as others, but for rounding, by the length of their difference: where rounding moves a value over the
/// kink of a function, single gradients are others. `least` is what each may be off anyway.
fn compare(
    what: &str,
    found: &[f32],
    expected: &[f32],
    share: f64,
    least: f64,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(found.len(), expected.len(), "{}", what);
    let length = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let whole = length(&mut expected.iter().map(|&value| f64::from(value)));
    let pairs = found.iter().zip(expected);
    let off = length(&mut pairs.map(|(&a, &b)| f64::from(a) - f64::from(b)));
    let most = share * whole + least * (found.len() as f64).sqrt();
    prop_assert!(off <= most, "{what}: off by {off} of {whole}");
    Ok(())
}

fn check(recipe: &Recipe, is_live: bool) -> Result<(), TestCaseError> {
    const SEED: u64 = 5;
    let device = Default::default();
    let plain = recipe.network();
    let graph = plain.graph();
    let names = graph.layers().iter().map(|layer| layer.name.clone());
    let live: HashSet<String> = names.filter(|_| is_live).collect();
    let network: Network<B> = require_gradients(Network::<B>::from_inner(plain.clone()));
    let images = values(recipe.batch * recipe.input().count(), 1);
    let [height, width] = recipe.size;
    let data = TensorData::new(images.clone(), [recipe.batch, recipe.channels, height, width]);
    let input = Tensor::<B, 4>::from_data(data, &device).require_grad();
    let mut eager = Eager::training(SEED, 3).live(live.clone());
    let output = network.walk(&mut eager, Features::Map(input.clone())).expect("runs");
    let expected = floats(output.clone().into_data());
    // As where a window of a pool has no pixel.
    if !expected.iter().all(|value| value.abs() < 1e30) {
        return Ok(());
    }
    let gradient = values(expected.len(), 2);
    let gradients = match output {
        Features::Map(y) => {
            let gradient = TensorData::new(gradient.clone(), y.dims());
            (y * Tensor::from_data(gradient, &device)).sum().backward()
        }
        Features::Flat(y) => {
            let gradient = TensorData::new(gradient.clone(), y.dims());
            (y * Tensor::from_data(gradient, &device)).sum().backward()
        }
    };
    let mut visitor = Gradients { from: &gradients, found: HashMap::new() };
    burn::module::Module::visit(&network, &mut visitor);
    // As above, where an activation made the output finite again.
    if !visitor.found.values().flatten().all(|value| value.is_finite()) {
        return Ok(());
    }

    let config = TrainerConfig {
        after: None,
        input: recipe.input(),
        trains: &|_| true,
        live: &|name| live.contains(name),
        input_gradient: true,
    };
    let fail = |error: crate::PlanError| TestCaseError::fail(error.to_string());
    let mut trainer = Trainer::new(&plain, &config).map_err(fail)?;
    let pass = Pass::Training { seed: SEED, step: 3, part: None };
    let channels = graph.output_shape().channels();
    let pixels = graph.output_shape().count() / channels;
    let turned = |values: &[f32]| {
        // What a trainer gives and takes is `[batch][pixels][channels]`.
        let mut turned = vec![0.0; values.len()];
        super::layers::channels_last(values, channels, pixels, &mut turned);
        turned
    };
    let found = trainer.forward(&images, pass).map_err(fail)?.to_vec();
    compare("outputs", &found, &turned(&expected), 1e-3, 1e-6)?;
    let found = trainer.backward(&turned(&gradient)).map_err(fail)?;
    // Where sums cancel, what is left is rounding: shares of the largest gradient of any parameter.
    let all = visitor.found.values().flatten();
    let least = 5e-5 + 1e-4 * f64::from(all.fold(0.0_f32, |most, value| most.max(value.abs())));
    if let (Some(found), Some(expected)) = (found, input.grad(&gradients)) {
        compare("the input's gradient", &found, &floats(expected.into_data()), 1e-2, least)?;
    }
    for (parameter, gradient) in trainer.gradients() {
        let name = format!("{}/{}", parameter.layer, parameter.spec.name);
        let Some(expected) = visitor.found.get(&parameter.id) else { continue };
        compare(&name, gradient, &parameter.spec.from_burn(expected.clone()), 1e-2, least)?;
    }
    Ok(())
}

/// Without the batch's statistics: where those of few values hardly vary, rounding is all that is left.
#[test]
#[cfg_attr(miri, ignore = "minutes")]
fn trainers_are_autodiff() {
    let config =
        ProptestConfig { failure_persistence: None, cases: 192, ..ProptestConfig::default() };
    let all = recipe_of(prop_oneof![part(), any_part()]);
    proptest!(config, |(recipe in all)| check(&recipe, false)?);
}

#[test]
#[cfg_attr(miri, ignore = "minutes")]
fn normalizations_by_the_batch_are_autodiff() {
    let conv = |out, activation| Part::Conv(Conv::plain(out, [3, 3], activation));
    let parts = vec![
        conv(Some(12), Activation::Silu),
        conv(None, Activation::Relu6),
        Part::Norm,
        Part::Growth(5),
    ];
    let recipe = Recipe { size: [9, 8], channels: 3, parts, end: 4, batch: 9 };
    check(&recipe, true).expect("as autodiff");
}

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

/// What autodiff gives.
struct Expected {
    outputs: Vec<f32>,
    images: Option<Vec<f32>>,
    parameters: HashMap<ParamId, Vec<f32>>,
}

impl Expected {
    /// What is left where sums cancel is rounding: shares of the largest gradient of any parameter.
    fn least(&self) -> f64 {
        let all = self.parameters.values().flatten();
        5e-5 + 1e-4 * f64::from(all.fold(0.0_f32, |most, value| most.max(value.abs())))
    }

    /// Whether the gradients of images that are nearly the same are others: the place of a maximum, or the side of a kink, is then
    /// a matter of rounding.
    fn jumps_to(&self, other: &Self) -> bool {
        let differs = |own: &[f32], other: &[f32]| {
            compare("gradients", other, own, 1e-2, self.least()).is_err()
        };
        let images = self.images.iter().zip(&other.images);
        images.into_iter().any(|(own, other)| differs(own, other))
            || self
                .parameters
                .iter()
                .any(|(id, own)| other.parameters.get(id).is_none_or(|other| differs(own, other)))
    }
}

const SEED: u64 = 5;

/// Burn's gradients of a sum of the outputs by chance, and of all parameters and the images.
fn autodiff(
    plain: &Network<Flex>,
    live: &HashSet<String>,
    recipe: &Recipe,
    images: &[f32],
) -> Expected {
    let device = Default::default();
    let network: Network<B> = require_gradients(Network::<B>::from_inner(plain.clone()));
    let [height, width] = recipe.size;
    let data = TensorData::new(images.to_vec(), [recipe.batch, recipe.channels, height, width]);
    let input = Tensor::<B, 4>::from_data(data, &device).require_grad();
    let mut eager = Eager::training(SEED, 3).live(live.clone());
    let output = network.walk(&mut eager, Features::Map(input.clone())).expect("runs");
    let outputs = floats(output.clone().into_data());
    let gradient = values(outputs.len(), 2);
    let gradients = match output {
        Features::Map(y) => {
            let gradient = TensorData::new(gradient, y.dims());
            (y * Tensor::from_data(gradient, &device)).sum().backward()
        }
        Features::Flat(y) => {
            let gradient = TensorData::new(gradient, y.dims());
            (y * Tensor::from_data(gradient, &device)).sum().backward()
        }
    };
    let mut visitor = Gradients { from: &gradients, found: HashMap::new() };
    burn::module::Module::visit(&network, &mut visitor);
    let parameters = visitor.found;
    let images = input.grad(&gradients).map(|gradient| floats(gradient.into_data()));
    Expected { outputs, images, parameters }
}

fn check(recipe: &Recipe, is_live: bool) -> Result<(), TestCaseError> {
    let plain = recipe.network();
    let names = plain.graph().layers().iter().map(|layer| layer.name.clone());
    let live: HashSet<String> = names.filter(|_| is_live).collect();
    let images = values(recipe.batch * recipe.input().count(), 1);
    let expected = autodiff(&plain, &live, recipe, &images);
    // As where a window of a pool has no pixel, and where an activation made the output finite again.
    if !expected.outputs.iter().all(|value| value.abs() < 1e30)
        || !expected.parameters.values().flatten().all(|value| value.is_finite())
    {
        return Ok(());
    }
    let found = compare_trainer(&plain, &live, recipe, &images, &expected);
    let is_rounding = || {
        (0..8).any(|seed| {
            let noise = values(images.len(), 10 + seed);
            let near = images.iter().zip(noise).map(|(value, noise)| value * (1.0 + 1e-5 * noise));
            expected.jumps_to(&autodiff(&plain, &live, recipe, &near.collect::<Vec<f32>>()))
        })
    };
    if found.is_err() && is_rounding() { Ok(()) } else { found }
}

/// A trainer's outputs and gradients.
fn compare_trainer(
    plain: &Network<Flex>,
    live: &HashSet<String>,
    recipe: &Recipe,
    images: &[f32],
    expected: &Expected,
) -> Result<(), TestCaseError> {
    let config = TrainerConfig {
        after: None,
        input: recipe.input(),
        trains: &|_| true,
        live: &|name| live.contains(name),
        input_gradient: true,
    };
    let fail = |error: crate::PlanError| TestCaseError::fail(error.to_string());
    let mut trainer = Trainer::new(plain, &config).map_err(fail)?;
    let pass = Pass::Training { seed: SEED, step: 3, part: None };
    let shape = plain.graph().output_shape();
    let channels = shape.channels();
    let pixels = shape.count() / channels;
    let turned = |values: &[f32]| {
        // What a trainer gives and takes is `[batch][pixels][channels]`.
        let mut turned = vec![0.0; values.len()];
        super::layers::channels_last(values, channels, pixels, &mut turned);
        turned
    };
    let found = trainer.forward(images, pass).map_err(fail)?.to_vec();
    compare("outputs", &found, &turned(&expected.outputs), 1e-3, 1e-6)?;
    let gradient = values(expected.outputs.len(), 2);
    let found = trainer.backward(&turned(&gradient)).map_err(fail)?;
    let least = expected.least();
    if let (Some(found), Some(expected)) = (found, &expected.images) {
        compare("the input's gradient", &found, expected, 1e-2, least)?;
    }
    for (parameter, gradient) in trainer.gradients() {
        let name = format!("{}/{}", parameter.layer, parameter.spec.name);
        let Some(expected) = expected.parameters.get(&parameter.id) else { continue };
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

/// Two pixels that are nearly the largest, found by chance: Burn's gradient, too, goes to the other one with nearly the same
/// images.
#[test]
#[cfg_attr(miri, ignore = "minutes")]
fn the_place_of_a_maximum_may_be_a_matter_of_rounding() {
    let parts = vec![Part::Branches { widths: [64, 32], kernel: [3, 3] }];
    let recipe = Recipe { size: [18, 9], channels: 64, parts, end: 2, batch: 3 };
    check(&recipe, false).expect("gradients but for that");
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

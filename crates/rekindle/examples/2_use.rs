//! Lab 2: use a pre-trained model on your photos, without training anything: which photos are alike? The network's
//! features of each are compared with those of all others.
//!
//! ```sh
//! cargo run --release -p rekindle --example 2_use [FOLDER] [NETWORK]
//! ```
//!
//! With Keras's ImageNet classifier, which is downloaded once, `rekindle predict mobilenet-v2 PHOTO` names what is in them.

use rekindle::kernels::{Isa, lower};
use rekindle::prelude::*;
use rekindle::train::Photos;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../demo/photos");
    let folder = std::env::args().nth(1).unwrap_or_else(|| demo.into());
    let folder = ImageFolder::labelled(folder)?;
    let device = Default::default();
    let name = std::env::args().nth(2).unwrap_or_else(|| "mobilenet-v2".into());
    let known = Architecture::by_name(&name).ok_or(format!("no network is called {name}"))?;
    let base = Weights::at_hand(&known).backbone::<Flex>(known, Some(160), &device)?;

    // The network and a pooling layer on it, as a plan of the CPU engine.
    let network = HeadConfig::default().on(base, 2, 0, &device)?;
    let plan = lower(&network, Some("head_average_pooling"), Isa::detect()?)?;

    let preprocessing = known.family.preprocessing.parse()?;
    let photos = Photos::new(network.graph().input(), Resize::Bilinear, preprocessing)?;
    let mut all = Vec::new();
    for sample in folder.samples() {
        let mut features = plan.run(&photos.open(&sample.path)?)?;
        let length = features.iter().map(|x| x * x).sum::<f32>().sqrt();
        features.iter_mut().for_each(|x| *x /= length);
        all.push((sample, features));
    }
    let mut same = 0;
    for (number, (sample, features)) in all.iter().enumerate() {
        let alike = |other: &[f32]| features.iter().zip(other).map(|(a, b)| a * b).sum::<f32>();
        let others = all.iter().enumerate().filter(|(other, _)| *other != number);
        let nearest = others.map(|(_, (other, values))| (alike(values), *other));
        let Some((likeness, nearest)) = nearest.max_by(|a, b| a.0.total_cmp(&b.0)) else {
            continue;
        };
        same += usize::from(nearest.class() == sample.class());
        if number % 8 == 0 {
            let name = |path: &std::path::Path| path.file_name().map(|name| name.to_owned());
            println!(
                "{:?} is most like {:?} ({likeness:.2})",
                name(&sample.path),
                name(&nearest.path)
            );
        }
    }
    println!("{same} of {} photos are most like one of their own class", all.len());
    Ok(())
}

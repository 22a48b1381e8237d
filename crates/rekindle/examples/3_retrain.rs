//! Lab 3: re-train a pre-trained model on your own classes: a new head first, then the last layers of the network.
//!
//! ```sh
//! cargo run --release -p rekindle --example 3_retrain [FOLDER] [NETWORK]
//! ```

use rekindle::prelude::*;

type B = Autodiff<Flex>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../demo/photos");
    let folder = std::env::args().nth(1).unwrap_or_else(|| demo.into());
    let name = std::env::args().nth(2).unwrap_or_else(|| "mobilenet-v2".into());
    let known = Architecture::by_name(&name).ok_or(format!("no network is called {name}"))?;
    let base = Weights::at_hand(&known).backbone::<B>(known, None, &Default::default())?;
    let photos = ImageFolder::open(folder)?;
    let (_, held_out) = photos.split()?;

    let trained = TransferLearner::new(base)
        .data(photos.clone())
        .epochs(15)
        .fine_tune(FineTune::last(20).epochs(5).lr(1e-4))
        .fit()?;
    println!("{}", trained.history());

    let evaluation = trained.evaluate(&photos.only(held_out))?;
    println!("\n{evaluation}");
    for photo in evaluation.mistakes().into_iter().take(3) {
        println!("\n{} is not\n{}", photo.path.display(), trained.predict(&photo.path)?.top(2));
    }
    Ok(())
}

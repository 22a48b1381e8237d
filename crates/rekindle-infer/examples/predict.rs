//! A program that only predicts: `predict MODEL PHOTO` prints the five best classes.

use std::error::Error;

use burn::backend::Flex;
use rekindle_infer::TrainedModel;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let (Some(model), Some(photo)) = (args.next(), args.next()) else {
        return Err("usage: predict MODEL PHOTO".into());
    };
    let model = TrainedModel::<Flex>::load(model, &Default::default())?;
    println!("{}", model.predict(photo)?.top(5));
    Ok(())
}

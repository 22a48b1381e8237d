//! Every family's configuration, also those whose weights are too many for a file in each test.

use rekindle_nn::{Architecture, FAMILIES, HeadConfig};

use super::plain::{Dialect, Plain, plain};
use super::{Exported, config};
use crate::export::front;
use crate::keras;
use crate::record::Record;
use crate::{Dtype, ModelCard, TensorInfo};

#[test]
fn every_family_s_configuration_is_read_again() {
    for family in FAMILIES {
        let known = Architecture::new(family).with_size(family.least_size);
        let base = known.graph().expect("builds");
        let headed = HeadConfig::default().graph(&base, 3).expect("a head");
        let topped = known.with_top(Some(1000)).graph().expect("builds");
        for (graph, dialect) in [(headed, Dialect::Both), (topped, Dialect::Keras3)] {
            let card = ModelCard::new(graph.clone());
            let variables = (0..graph.layers().len()).flat_map(|position| {
                let layer = graph.layers()[position].name.clone();
                let variables = graph.variables(position).into_iter();
                variables.map(move |spec| {
                    ((layer.clone(), spec.name.to_owned()), (spec.shape, Vec::new()))
                })
            });
            let mut model = Exported { card: card.clone(), variables: variables.collect() };
            let front = front::put_in(&mut model).expect("preprocessing");
            let record = Record::new(&card, front).expect("a record");
            let Plain { graph, variables, names } = plain(model, dialect).expect("Keras's layers");
            let record = record.with_names(names, &graph);
            let config = config::model(&graph, "model", "input_layer", dialect);
            let (tensors, values): (Vec<TensorInfo>, Vec<Vec<f32>>) = variables
                .into_iter()
                .map(|((layer, variable), (shape, values))| {
                    (TensorInfo { layer, variable, shape, dtype: Dtype::F32 }, values)
                })
                .unzip();
            let model = keras::read(&config, &tensors, false, None).expect("reads");
            let found = keras::recorded(model, &record, &mut |index| Ok(values[index].clone()));
            let found = found.expect("our own");
            assert_eq!(found.card.graph, card.graph, "{} {dialect:?}", family.name);
            assert_eq!(found.card, card, "{} {dialect:?}", family.name);
        }
    }
}

//! What tensors are called, by who saved them.

use super::messages::{ObjectReference, SerializedTensor, TrackableObject, TrackableObjectGraph};
use super::{Described, names, objects};

fn described(names: &[&str]) -> Vec<Described> {
    let one = |name: &&str| Described {
        name: (*name).into(),
        r#type: 1,
        shape: None,
        is_partitioned: false,
    };
    names.iter().map(one).collect()
}

#[test]
fn names_of_every_saver() {
    let read = |all: &[&str]| {
        let found = names::read(&described(all)).expect("names");
        let kept = found.kept.into_iter().map(|kept| format!("{} {}", kept.layer, kept.variable));
        kept.collect::<Vec<_>>()
    };
    // Keras's, with its optimizers of every age.
    let keras = [
        "Adam/iterations",
        "beta1_power",
        "block/conv/kernel",
        "block/conv/kernel/Adam",
        "block/conv/kernel/Adam_1",
        "sep/depthwise_kernel",
        "sep/pointwise_kernel",
        "dw/depthwise_kernel",
        "training/SGD/conv/kernel/momentum",
        "x",
    ];
    let expected =
        ["conv kernel", "sep depthwise_kernel", "sep pointwise_kernel", "dw kernel", "variable x"];
    assert_eq!(read(&keras), expected);
    // The second of a name keeps all of it.
    assert_eq!(read(&["a/conv/kernel", "b/conv/kernel"]), ["conv kernel", "b/conv kernel"]);
    // Two networks keep their names.
    assert_eq!(read(&["a/b/weights", "c/b/weights"]), ["a/b kernel", "c/b kernel"]);
    assert_eq!(read(&["a/weights", "a/b/c/biases"]), ["a kernel", "b/c bias"]);
    assert!(names::read(&described(&["a/b/weights", "a/b/kernel"])).is_err());
}

#[test]
fn graphs_of_objects_that_lie_are_refused() {
    let child = |node_id, name: &str| ObjectReference { node_id, local_name: name.into() };
    let variable = TrackableObject {
        attributes: vec![SerializedTensor {
            name: "VARIABLE_VALUE".into(),
            full_name: "layer/kernel".into(),
            checkpoint_key: "a/.ATTRIBUTES/VARIABLE_VALUE".into(),
        }],
        ..TrackableObject::default()
    };
    let graph = |children: Vec<ObjectReference>| {
        let root = TrackableObject { children, ..TrackableObject::default() };
        TrackableObjectGraph { nodes: vec![root, variable.clone()] }
    };
    let all = described(&["a/.ATTRIBUTES/VARIABLE_VALUE"]);
    // A ring is walked once.
    let ring = graph(vec![child(0, "self"), child(1, "kernel"), child(1, "again")]);
    let found = objects::read(&ring, &all).expect("reads");
    assert_eq!((found.kept.len(), found.kept[0].layer.as_str()), (1, "layer"));
    let refused =
        |graph: &TrackableObjectGraph| objects::read(graph, &all).map(|_| ()).expect_err("refused");
    for id in [2, -1, i32::MAX] {
        assert!(refused(&graph(vec![child(id, "kernel")])).contains("of 2"));
    }
    let none = objects::read(&ring, &[]).map(|_| ()).expect_err("refused");
    assert!(none.contains("two checkpoints"), "{none}");
    let long = graph(vec![child(0, "x"), child(1, "kernel")]);
    let mut deep = long.clone();
    deep.nodes = (1..200).map(|next| graph(vec![child(next, "layer")]).nodes.remove(0)).collect();
    assert!(refused(&deep).contains("deep"));
    assert!(objects::read(&TrackableObjectGraph::default(), &all).is_err());
}

//! What is said of photos that a model is used on.

/// Of fewer photos a class is seldom learned, and its metrics are chance.
pub const FEW: usize = 10;
/// The most classes that a warning names.
const NAMED: usize = 8;

/// What is said of photos with an EXIF orientation that is ignored.
pub fn of_orientation(askew: usize) -> Option<String> {
    let photos = match askew {
        0 => return None,
        1 => "1 photo has".to_owned(),
        _ => format!("{askew} photos have"),
    };
    Some(format!(
        "{photos} an EXIF orientation, as of cameras held on their side, which is ignored, as in Keras: --orientation apply \
         (Orientation::Apply) turns photos upright"
    ))
}

/// What of the photos that a model was evaluated on says little.
pub fn of_evaluation(classes: &[String], counts: &[usize]) -> Vec<String> {
    let those = |is_meant: &dyn Fn(usize) -> bool| -> Vec<usize> {
        (0..classes.len()).filter(|&class| is_meant(counts[class])).collect()
    };
    let none = those(&|count| count == 0);
    let few = those(&|count| (1..FEW).contains(&count));
    let none = (!none.is_empty()).then(|| {
        let none = named(&none, |class| format!("`{}`", classes[class]));
        format!("no photos of {none}, so that the numbers say nothing of them: add some of each")
    });
    let few = (!few.is_empty()).then(|| {
        let few = named(&few, |class| format!("`{}` ({})", classes[class], counts[class]));
        format!("fewer than {FEW} photos of {few}, so that chance decides on their numbers: add some of each")
    });
    none.into_iter().chain(few).collect()
}

/// The first of some classes.
pub fn named(classes: &[usize], name: impl Fn(usize) -> String) -> String {
    let mut names: Vec<String> = classes.iter().take(NAMED).map(|&class| name(class)).collect();
    if classes.len() > NAMED {
        names.push(format!("and {} more", classes.len() - NAMED));
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_little_is_said_with_what_to_do() {
        let none: Vec<String> = Vec::new();
        let classes = ["a", "b", "c"].map(String::from);
        assert_eq!(of_evaluation(&classes, &[10, 11, 12]), none);
        let all = of_evaluation(&classes, &[10, 9, 0]);
        assert!(all[0].starts_with("no photos of `c`, so that"), "{all:?}");
        assert!(all[1].starts_with("fewer than 10 photos of `b` (9), so that"), "{all:?}");
        assert_eq!(of_orientation(0), None);
        assert!(of_orientation(2).is_some_and(|said| said.starts_with("2 photos have an EXIF")));
    }
}

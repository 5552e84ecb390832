//! How the classes of some data stand to the classes of a model: by their names, never by their positions.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::images::Dataset;
use super::labels::Labels;
use crate::text::composed;

/// Names that a message lists.
const LISTED: usize = 12;

/// Some names for a message: `cat, dog and 3 more`.
pub fn listed<S: AsRef<str>>(names: &[S]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let mut text = names.iter().take(LISTED).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    if names.len() > LISTED {
        text.push_str(&format!(" and {} more", names.len() - LISTED));
    }
    text
}

/// Which classes two lists share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassAgreement {
    /// Known to both, in the order of the model.
    pub mapped: Vec<String>,
    /// Classes of the model that the data has not, in the order of the model.
    pub absent: Vec<String>,
    /// Classes of the data that the model does not know, in the order of the data.
    pub unknown: Vec<String>,
}

/// The number in a model of each class of some data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassMap {
    numbers: Vec<Option<u32>>,
    model: Vec<String>,
    agreement: ClassAgreement,
}

impl ClassMap {
    /// Finds the classes called `data` among those called `model`.
    pub fn new(data: &[String], model: &[String]) -> Self {
        let known: HashMap<String, u32> =
            model.iter().enumerate().rev().map(|(number, name)| (composed(name), number as u32)).collect();
        let numbers: Vec<Option<u32>> = data.iter().map(|name| known.get(&composed(name)).copied()).collect();
        let (mapped, absent) = (0..model.len())
            .partition::<Vec<usize>, _>(|&class| numbers.iter().flatten().any(|&n| n as usize == class));
        let of_model = |classes: Vec<usize>| classes.into_iter().map(|class| model[class].clone()).collect();
        let unknown = data.iter().zip(&numbers).filter(|(_, number)| number.is_none());
        let agreement = ClassAgreement {
            mapped: of_model(mapped),
            absent: of_model(absent),
            unknown: unknown.map(|(name, _)| name.clone()).collect(),
        };
        Self { numbers, model: model.to_vec(), agreement }
    }

    /// Which classes both have.
    pub fn agreement(&self) -> &ClassAgreement {
        &self.agreement
    }

    /// For each class of the data its number in the model, where the model knows it.
    pub fn numbers(&self) -> &[Option<u32>] {
        &self.numbers
    }

    /// The classes that the model does not know and of which there are images, with their numbers.
    pub fn unknown_images(&self, images: &Dataset) -> Vec<(String, usize)> {
        let counts = images.class_names.iter().zip(images.class_counts()).zip(&self.numbers);
        counts
            .filter(|((_, count), number)| *count > 0 && number.is_none())
            .map(|((name, count), _)| (name.clone(), count))
            .collect()
    }

    /// How many images have a class that the model does not know.
    pub fn unknown_count(&self, images: &Dataset) -> usize {
        let is_unknown = |labels: &&[u32]| labels.iter().any(|&label| self.number(label).is_none());
        images.labels.iter().filter(is_unknown).count()
    }

    /// The images with the model's classes in the model's order; those with a class that it does not know are left out.
    #[must_use]
    pub fn apply(&self, images: Dataset) -> Dataset {
        let is_known =
            |index: &u32| images.labels.of(*index as usize).iter().all(|&label| self.number(label).is_some());
        let known: Vec<u32> = (0..images.len() as u32).filter(is_known).collect();
        let mut images = if known.len() == images.len() { images } else { images.subset(&known) };
        let renumber = |label: &mut u32| *label = self.number(*label).unwrap_or_default();
        match &mut images.labels {
            Labels::One(labels) => labels.iter_mut().for_each(renumber),
            Labels::Sets(sets) => {
                for set in sets {
                    set.iter_mut().for_each(renumber);
                    set.sort_unstable();
                    // Two classes of the data may have one name in two forms of Unicode.
                    set.dedup();
                }
            }
        }
        images.class_names.clone_from(&self.model);
        images
    }

    fn number(&self, label: u32) -> Option<u32> {
        self.numbers.get(label as usize).copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use model::InputShape;
    use proptest::prelude::*;

    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn images(labels: &[u32], classes: &[&str]) -> Dataset {
        let pixels = (0..labels.len() as u8).collect();
        Dataset::new("some", pixels, labels.to_vec(), InputShape::new(1, 1, 1), names(classes))
    }

    fn agreement(data: &[&str], model: &[&str]) -> [Vec<String>; 3] {
        let ClassAgreement { mapped, absent, unknown } = ClassMap::new(&names(data), &names(model)).agreement;
        [mapped, absent, unknown]
    }

    #[test]
    fn classes_are_found_by_name() {
        let none: [&str; 0] = [];
        assert_eq!(agreement(&["b", "a"], &["a", "b"]), [names(&["a", "b"]), names(&none), names(&none)]);
        assert_eq!(agreement(&["c"], &["a", "b", "c"]), [names(&["c"]), names(&["a", "b"]), names(&none)]);
        assert_eq!(
            agreement(&["bar", "b", "a"], &["a", "b"]),
            [names(&["a", "b"]), names(&none), names(&["bar"])]
        );
        assert_eq!(
            agreement(&["0", "1"], &["zero", "one"]),
            [names(&none), names(&["zero", "one"]), names(&["0", "1"])]
        );
        // One name in two forms of Unicode.
        assert_eq!(agreement(&["a\u{308}"], &["\u{e4}"]), [names(&["\u{e4}"]), names(&none), names(&none)]);
    }

    #[test]
    fn images_get_the_numbers_of_the_model_and_strangers_are_left_out() {
        let model = names(&["a", "b", "c"]);
        let swapped = images(&[0, 1, 2, 0], &["c", "x", "a"]);
        let map = ClassMap::new(&swapped.class_names, &model);
        assert_eq!(map.unknown_images(&swapped), [("x".to_owned(), 1)]);
        let found = map.apply(swapped.clone());
        assert_eq!((found.labels.ones().unwrap(), found.pixels.as_slice()), (&[2, 0, 2][..], &[0, 2, 3][..]));
        assert_eq!(found.class_names, model);
        assert_eq!(&found.content[..], [0, 2, 3].map(|at| swapped.content[at]));
    }

    #[test]
    fn an_image_with_one_strange_class_of_several_is_left_out_and_counted_once() {
        let mut several = images(&[0, 0, 0], &["c", "x", "y", "a"]);
        several.labels = Labels::Sets(vec![vec![0, 3], vec![0, 1, 2], vec![]]);
        let map = ClassMap::new(&several.class_names, &names(&["a", "b", "c"]));
        assert_eq!(map.unknown_count(&several), 1);
        assert_eq!(map.unknown_images(&several), [("x".to_owned(), 1), ("y".to_owned(), 1)]);
        let found = map.apply(several);
        assert_eq!((found.labels, &found.pixels[..]), (Labels::Sets(vec![vec![0, 2], vec![]]), &[0, 2][..]));
    }

    #[test]
    fn long_lists_are_cut() {
        let many: Vec<String> = (0..40).map(|class| class.to_string()).collect();
        assert!(listed(&many).ends_with("10, 11 and 28 more"), "{}", listed(&many));
        assert_eq!(listed::<String>(&[]), "none");
    }

    proptest! {
        /// Whatever the lists: an image that is kept has the class that it had, by name.
        #[test]
        fn no_image_gets_another_class(
            (data, model) in (
                prop::collection::hash_set("[a-f]", 1..6),
                prop::collection::hash_set("[a-f]", 1..6),
            ),
            labels in prop::collection::vec(0usize..100, 0..30),
        ) {
            let (data, model): (Vec<String>, Vec<String>) = (data.into_iter().collect(), model.into_iter().collect());
            let labels: Vec<u32> = labels.into_iter().map(|label| (label % data.len()) as u32).collect();
            let before: Vec<&String> = labels.iter().map(|&label| &data[label as usize]).collect();
            let images = images(&labels, &data.iter().map(String::as_str).collect::<Vec<_>>());
            let after = ClassMap::new(&data, &model).apply(images);
            // A pixel is the position that its image had.
            prop_assert_eq!(after.len(), before.iter().filter(|name| model.contains(name)).count());
            for (&pixel, &label) in after.pixels.iter().zip(after.labels.ones().unwrap()) {
                prop_assert_eq!(&model[label as usize], before[usize::from(pixel)]);
            }
        }
    }
}

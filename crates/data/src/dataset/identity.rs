//! What a data set is: what its images show and which classes and parts they belong to. Names and times of files, the
//! place of a folder and the size of the images in memory have no part in it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use model::hexadecimal;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::classes::listed;
use super::content::ContentHash;
use super::images::Dataset;
use super::pair::DatasetPair;
use super::part::Part;

/// One image of a data set, as it can be remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its file, as the data set names it; `#` and its position where images have no files of their own.
    pub file: String,
    /// Name of its class; of several classes their names with `;` between them.
    pub class: String,
    /// What it was used for; none when it was left out.
    pub part: Option<Part>,
    /// What it shows.
    pub content: ContentHash,
}

impl Dataset {
    /// The name of image `index` for people: its file, or `#` and its position.
    ///
    /// # Panics
    /// When `index` is not below [`Dataset::len`].
    pub fn name_of(&self, index: usize) -> String {
        self.files.get(index).map_or_else(|| format!("#{index}"), Clone::clone)
    }

    /// The name of the class of image `index`; of several classes their names with `;` between them.
    ///
    /// # Panics
    /// When `index` is not below [`Dataset::len`].
    pub fn class_of(&self, index: usize) -> Cow<'_, str> {
        let name = |class: &u32| self.class_names.get(*class as usize).map_or("", String::as_str);
        match self.labels.of(index) {
            [only] => name(only).into(),
            several => several.iter().map(name).collect::<Vec<_>>().join(";").into(),
        }
    }

    /// Every image, those to learn from first. `part` says what the image at a position is for.
    fn entries(&self, part: impl Fn(u32) -> Option<Part>) -> impl Iterator<Item = Entry> {
        (0..self.len()).map(move |index| Entry {
            file: self.name_of(index),
            class: self.class_of(index).into_owned(),
            part: part(index as u32),
            content: self.content[index],
        })
    }
}

impl DatasetPair {
    /// SHA-256 over what each image shows, the name of its class, and the part of the data that it belongs to as the
    /// data names it; in no order.
    pub fn content_sha256(&self) -> String {
        let mut images: Vec<(&ContentHash, Cow<str>, Part)> = self.named_parts().collect();
        images.sort_unstable();
        let mut hash = Sha256::new();
        for (content, class, part) in images {
            hash.update(content.bytes());
            hash.update((class.len() as u64).to_le_bytes());
            hash.update(class.as_bytes());
            hash.update([part as u8]);
        }
        hexadecimal(hash.finalize())
    }

    /// Content, class and named part of every image.
    fn named_parts(&self) -> impl Iterator<Item = (&ContentHash, Cow<'_, str>, Part)> {
        let train = (0..self.train.len()).map(|index| {
            let is_valid = self.valid.binary_search(&(index as u32)).is_ok();
            let part = if is_valid { Part::Valid } else { Part::Train };
            (&self.train.content[index], self.train.class_of(index), part)
        });
        let part = if self.test_set_aside { Part::Train } else { Part::Test };
        let test = (0..self.test.len())
            .map(move |index| (&self.test.content[index], self.test.class_of(index), part));
        train.chain(test)
    }

    /// Every image with what it is used for: `part` says it of the images to learn from, the others are for the test.
    pub fn entries(&self, part: impl Fn(u32) -> Option<Part>) -> Vec<Entry> {
        self.train.entries(part).chain(self.test.entries(|_| Some(Part::Test))).collect()
    }

    /// The same images in the order of `remembered`, as far as it goes: renamed files do not change what a position
    /// stands for. `None` when these are not the same images.
    #[must_use]
    pub fn in_order_of(&self, remembered: &[Entry]) -> Option<Self> {
        let (test, train): (Vec<&Entry>, Vec<&Entry>) =
            remembered.iter().partition(|entry| entry.part == Some(Part::Test));
        let (train, test) = (order(&self.train, &train)?, order(&self.test, &test)?);
        let is_ascending = |order: &[u32]| order.windows(2).all(|pair| pair[0] < pair[1]);
        if is_ascending(&train) && is_ascending(&test) {
            return Some(self.clone());
        }
        let valid = |&index: &u32| self.valid.binary_search(&index).is_ok();
        let valid = (0..train.len() as u32).filter(|&at| valid(&train[at as usize])).collect();
        Some(Self {
            train: self.train.subset(&train),
            test: self.test.subset(&test),
            valid,
            preprocessing: self.preprocessing.clone(),
            sha256: self.sha256.clone(),
            origin: self.origin.clone(),
            pictures: self.pictures.clone(),
            test_set_aside: self.test_set_aside,
        })
    }
}

/// Positions in `dataset` of the images that `remembered` lists; `None` when there are others, or fewer.
fn order(dataset: &Dataset, remembered: &[&Entry]) -> Option<Vec<u32>> {
    let mut places: BTreeMap<(&ContentHash, Cow<str>), VecDeque<u32>> = BTreeMap::new();
    for index in 0..dataset.len() {
        places.entry((&dataset.content[index], dataset.class_of(index))).or_default().push_back(index as u32);
    }
    let mut order = Vec::with_capacity(dataset.len());
    for entry in remembered {
        order.push(places.get_mut(&(&entry.content, entry.class.as_str().into()))?.pop_front()?);
    }
    (order.len() == dataset.len()).then_some(order)
}

/// How a data set differs from what it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Classes whose images are now in a class of another name: old and new name.
    pub renamed: Vec<(String, String)>,
    /// New classes.
    pub new_classes: Vec<String>,
    /// Classes that are gone.
    pub lost_classes: Vec<String>,
    /// Whether the same classes come in another order.
    pub reordered: bool,
    /// Files of new images.
    pub added: Vec<String>,
    /// Files of images that are gone.
    pub removed: Vec<String>,
    /// Files that show something else now.
    pub replaced: Vec<String>,
    /// Images of another class: file, old and new class.
    pub relabelled: Vec<(String, String, String)>,
    /// Files of images that moved to the test part, or out of it.
    pub moved: Vec<String>,
}

impl Changes {
    /// Compares what was remembered with what is there: the classes in their order, and every image.
    pub fn between(
        (old_classes, old): (&[String], &[Entry]),
        (new_classes, new): (&[String], &[Entry]),
    ) -> Self {
        let mut changes = Self::default();
        let lost: Vec<&String> = old_classes.iter().filter(|name| !new_classes.contains(name)).collect();
        let mut fresh: Vec<&String> = new_classes.iter().filter(|name| !old_classes.contains(name)).collect();
        changes.reordered = lost.is_empty() && fresh.is_empty() && old_classes != new_classes;
        for name in lost {
            let before = of_class(old, name);
            let twin = fresh.iter().position(|new_name| overlaps(&before, &of_class(new, new_name)));
            match twin {
                Some(twin) => changes.renamed.push((name.clone(), fresh.remove(twin).clone())),
                None => changes.lost_classes.push(name.clone()),
            }
        }
        changes.new_classes = fresh.into_iter().cloned().collect();
        changes.compare_images(old, new);
        changes
    }

    fn compare_images(&mut self, old: &[Entry], new: &[Entry]) {
        let renamed: BTreeMap<&str, &str> =
            self.renamed.iter().map(|(old, new)| (old.as_str(), new.as_str())).collect();
        let class_now = |class: &str| renamed.get(class).copied().unwrap_or(class).to_owned();
        let mut places: BTreeMap<&ContentHash, Vec<usize>> = BTreeMap::new();
        for (position, entry) in new.iter().enumerate() {
            places.entry(&entry.content).or_default().push(position);
        }
        let is_test = |entry: &Entry| entry.part == Some(Part::Test);
        let (mut rest, mut moved) = (Vec::new(), Vec::new());
        // Equal ones first, so that of two copies in two classes each finds its own.
        for before in old {
            let class = class_now(&before.class);
            let candidates = places.entry(&before.content).or_default();
            let same = |part: bool| {
                candidates
                    .iter()
                    .position(|&at| new[at].class == class && (!part || is_test(&new[at]) == is_test(before)))
            };
            match same(true).or_else(|| same(false)) {
                Some(at) => {
                    let after = &new[candidates.remove(at)];
                    if is_test(after) != is_test(before) {
                        moved.push(after.file.clone());
                    }
                }
                None => rest.push((before, class)),
            }
        }
        let mut removed = Vec::new();
        let mut relabelled = Vec::new();
        for (before, class) in rest {
            match places.get_mut(&before.content).and_then(Vec::pop) {
                Some(at) => relabelled.push((new[at].file.clone(), class, new[at].class.clone())),
                None => removed.push(before.file.clone()),
            }
        }
        let mut left: Vec<usize> = places.into_values().flatten().collect();
        left.sort_unstable();
        let mut added: Vec<String> = left.into_iter().map(|at| new[at].file.clone()).collect();
        let names: BTreeSet<String> = added.iter().cloned().collect();
        self.replaced = removed.iter().filter(|file| names.contains(*file)).cloned().collect();
        let replaced: BTreeSet<&String> = self.replaced.iter().collect();
        added.retain(|file| !replaced.contains(file));
        removed.retain(|file| !names.contains(file));
        (self.added, self.removed, self.moved, self.relabelled) = (added, removed, moved, relabelled);
    }

    /// Whether nothing is known to differ.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the list of classes is another one.
    pub fn classes_differ(&self) -> bool {
        self.reordered
            || !(self.renamed.is_empty() && self.new_classes.is_empty() && self.lost_classes.is_empty())
    }

    /// One line for each kind of change, with counts and the first names.
    pub fn in_words(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            self.renamed.iter().map(|(old, new)| format!("class {old} is called {new} now")).collect();
        let mut list = |names: &[String], one: &str, several: &str| match names {
            [] => {}
            [_] => lines.push(format!("1 {one}: {}", first(names))),
            _ => lines.push(format!("{} {several}: {}", names.len(), first(names))),
        };
        list(&self.new_classes, "new class", "new classes");
        list(&self.lost_classes, "class is gone", "classes are gone");
        let relabelled: Vec<String> = self
            .relabelled
            .iter()
            .map(|(file, old, new)| format!("{file} ({new} instead of {old})"))
            .collect();
        list(&relabelled, "image has another class", "images have another class");
        list(&self.replaced, "image shows something else", "images show something else");
        list(&self.added, "new image", "new images");
        list(&self.removed, "image is gone", "images are gone");
        list(
            &self.moved,
            "image moved between the test part and the others",
            "images moved between the test part and the others",
        );
        if self.reordered {
            lines.push("the classes come in another order".to_owned());
        }
        lines
    }
}

/// The first names of a longer list.
fn first(names: &[String]) -> String {
    const FIRST: usize = 3;
    if names.len() <= FIRST {
        return listed(names);
    }
    format!("{} and {} more", names[..FIRST].join(", "), names.len() - FIRST)
}

fn of_class<'a>(entries: &'a [Entry], class: &str) -> BTreeSet<&'a ContentHash> {
    entries.iter().filter(|entry| entry.class == class).map(|entry| &entry.content).collect()
}

/// Whether two classes are one under two names: most images are in both.
fn overlaps(a: &BTreeSet<&ContentHash>, b: &BTreeSet<&ContentHash>) -> bool {
    2 * a.intersection(b).count() > a.len().max(b.len())
}

#[cfg(test)]
mod tests {
    use model::InputShape;
    use proptest::prelude::*;

    use super::*;

    /// An image a row: file, class, part, and what it shows.
    fn entry(file: &str, class: &str, part: Option<Part>, shows: u8) -> Entry {
        let content = ContentHash::of_pixels(1, 1, 1, &[shows]);
        Entry { file: file.to_owned(), class: class.to_owned(), part, content }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn before() -> Vec<Entry> {
        let train = Some(Part::Train);
        vec![
            entry("a/1", "a", train, 1),
            entry("a/2", "a", Some(Part::Valid), 2),
            entry("b/1", "b", train, 3),
            entry("b/2", "b", Some(Part::Test), 4),
        ]
    }

    fn lines(now: &[Entry], classes: &[&str]) -> Vec<String> {
        let changes = Changes::between((&names(&["a", "b"]), &before()), (&names(classes), now));
        assert_eq!(changes.classes_differ(), classes != ["a", "b"]);
        changes.in_words()
    }

    fn changed(change: impl Fn(&mut Vec<Entry>)) -> Vec<Entry> {
        let mut entries = before();
        change(&mut entries);
        entries
    }

    #[test]
    fn every_kind_of_change_is_named_with_its_files() {
        let same = ["a", "b"];
        let none: [&str; 0] = [];
        assert_eq!(lines(&before(), &same), none);
        assert_eq!(lines(&changed(|e| e[0].file = "a/other".into()), &same), none, "a file may be renamed");
        assert_eq!(lines(&changed(|e| e.reverse()), &same), none);
        assert_eq!(
            lines(&changed(|e| e[0].class = "b".into()), &same),
            ["1 image has another class: a/1 (b instead of a)"]
        );
        assert_eq!(
            lines(&changed(|e| e[0] = entry("a/1", "a", None, 9)), &same),
            ["1 image shows something else: a/1"]
        );
        assert_eq!(lines(&changed(|e| drop(e.remove(1))), &same), ["1 image is gone: a/2"]);
        assert_eq!(
            lines(&changed(|e| e.extend((10..15).map(|n| entry(&format!("a/{n}"), "a", None, n)))), &same),
            ["5 new images: a/10, a/11, a/12 and 2 more"]
        );
        // A copy is an image more.
        assert_eq!(lines(&changed(|e| e.push(entry("a/3", "a", None, 1))), &same), ["1 new image: a/3"]);
        assert_eq!(
            lines(&changed(|e| e[3].part = None), &same),
            ["1 image moved between the test part and the others: b/2"]
        );
        let swapped = changed(|e| {
            for entry in e {
                entry.class = if entry.class == "a" { "b".into() } else { "a".into() };
            }
        });
        assert!(lines(&swapped, &same)[0].starts_with("4 images have another class"));
    }

    #[test]
    fn classes_are_renamed_added_lost_and_reordered() {
        let ring = changed(|e| e.iter_mut().filter(|e| e.class == "a").for_each(|e| e.class = "ring".into()));
        assert_eq!(lines(&ring, &["b", "ring"]), ["class a is called ring now"]);
        let bar = changed(|e| e.push(entry("bar/1", "bar", None, 7)));
        assert_eq!(lines(&bar, &["a", "b", "bar"]), ["1 new class: bar", "1 new image: bar/1"]);
        let lost = changed(|e| e.truncate(2));
        assert_eq!(lines(&lost, &["a"]), ["1 class is gone: b", "2 images are gone: b/1, b/2"]);
        assert_eq!(lines(&before(), &["b", "a"]), ["the classes come in another order"]);
    }

    fn pair(train: &[(u8, u32)], valid: &[u32], test: &[(u8, u32)]) -> DatasetPair {
        let part = |images: &[(u8, u32)]| {
            let pixels = images.iter().map(|(shows, _)| *shows).collect();
            let labels: Vec<u32> = images.iter().map(|(_, label)| *label).collect();
            Dataset::new("some", pixels, labels, InputShape::new(1, 1, 1), names(&["a", "b"]))
        };
        let train = part(train);
        DatasetPair {
            preprocessing: crate::dataset::measure(&train),
            train,
            test: part(test),
            sha256: BTreeMap::new(),
            origin: String::new(),
            valid: valid.to_vec(),
            pictures: None,
            test_set_aside: false,
        }
    }

    #[test]
    fn the_hash_is_of_content_classes_and_parts() {
        let one = pair(&[(1, 0), (2, 1), (3, 1)], &[2], &[(4, 0)]);
        let hash = one.content_sha256();
        assert_eq!(pair(&[(3, 1), (2, 1), (1, 0)], &[0], &[(4, 0)]).content_sha256(), hash, "in no order");
        for (what, other) in [
            ("a label", pair(&[(1, 1), (2, 1), (3, 1)], &[2], &[(4, 0)])),
            ("an image", pair(&[(9, 0), (2, 1), (3, 1)], &[2], &[(4, 0)])),
            ("one more", pair(&[(1, 0), (2, 1), (3, 1), (3, 1)], &[2], &[(4, 0)])),
            ("another to validate", pair(&[(1, 0), (2, 1), (3, 1)], &[1], &[(4, 0)])),
            ("another to test", pair(&[(1, 0), (2, 1), (4, 0)], &[1], &[(3, 1)])),
        ] {
            assert_ne!(other.content_sha256(), hash, "{what}");
        }
        let mut renamed = one.clone();
        renamed.train.class_names = names(&["a", "ring"]);
        assert_ne!(renamed.content_sha256(), hash, "a class");
        // What was set aside for the test is not named by the data.
        let aside = DatasetPair { test_set_aside: true, ..pair(&[(1, 0), (2, 1)], &[], &[(4, 0)]) };
        let other = DatasetPair { test_set_aside: true, ..pair(&[(4, 0), (2, 1)], &[], &[(1, 0)]) };
        assert_eq!(aside.content_sha256(), other.content_sha256());
    }

    proptest! {
        /// Renamed files come in another order, and are put back.
        #[test]
        fn a_remembered_order_is_found_again(
            images in prop::collection::vec((0u8..6, 0u32..2), 1..20),
            keys in prop::collection::vec(any::<u8>(), 20),
        ) {
            let valid: Vec<u32> = (0..images.len() as u32).filter(|index| index % 3 == 0).collect();
            let before = pair(&images, &valid, &[(7, 0), (8, 1)]);
            let remembered = before.entries(|_| None);
            let mut order: Vec<u32> = (0..images.len() as u32).collect();
            order.sort_by_key(|&index| keys[index as usize]);
            let shuffled: Vec<(u8, u32)> = order.iter().map(|&index| images[index as usize]).collect();
            let valid: Vec<u32> =
                (0..images.len() as u32).filter(|&at| order[at as usize].is_multiple_of(3)).collect();
            let found = pair(&shuffled, &valid, &[(8, 1), (7, 0)]).in_order_of(&remembered).unwrap();
            prop_assert_eq!(&found.train, &before.train);
            prop_assert_eq!(&found.test, &before.test);
            prop_assert_eq!(found.valid.len(), before.valid.len());
            prop_assert!(pair(&images[1..], &[], &[(7, 0), (8, 1)]).in_order_of(&remembered).is_none());
        }
    }
}

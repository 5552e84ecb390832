//! The names by which folders and lists call the parts of a data set.

use crate::dataset::Part;
use crate::text::composed;

impl Part {
    /// The part that a folder or a cell is named for, in any case, with what people add: `Train`, `train_set`,
    /// `seg_train`, `testing-images`, `val2017`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let core = core(name);
        Self::ALL.into_iter().find(|part| part.names().contains(&core.as_str()))
    }
}

/// The names of folders that are known for parts, for messages.
pub(crate) const PART_NAMES: &str = "train or training, valid, val, validation or dev, and test, testing or eval, in any case, also as train_set, \
     test_images, valid_data and the like";

/// What people add to the names of parts.
const ADDED: [&str; 17] = [
    "dataset", "data", "sets", "set", "images", "image", "imgs", "img", "pictures", "photos", "samples",
    "seg", "split", "subset", "folder", "dir", "part",
];

/// A name in lower case without separators, numbers around it and what people add to the names of parts. What is
/// only such an addition becomes nothing.
pub(super) fn core(name: &str) -> String {
    let lower = composed(name).to_lowercase();
    let letters: String = lower.chars().filter(|character| character.is_alphanumeric()).collect();
    let mut core = letters.trim_matches(|character: char| character.is_ascii_digit());
    loop {
        if Part::ALL.iter().any(|part| part.names().contains(&core)) {
            return core.to_owned();
        }
        let shorter = ADDED.iter().find_map(|added| core.strip_suffix(added).or(core.strip_prefix(added)));
        match shorter {
            Some(shorter) => core = shorter,
            None => return core.to_owned(),
        }
    }
}

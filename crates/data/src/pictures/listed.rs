//! The pictures of a data set with their labels, whoever named them.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use crate::dataset::Part;
use crate::findings::Finding;
use crate::text::one_line;

/// One picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// As it is named in messages: below the root, or as the list has it.
    pub(crate) name: String,
    /// The file.
    pub(crate) path: PathBuf,
    /// Its class, or all of its classes in ascending order.
    pub(crate) classes: Vec<u32>,
    pub(crate) part: Part,
    /// What it is named to belong together with: pictures of one group are in one part.
    pub(crate) group: Option<String>,
    /// Length and time of change (nanoseconds since 1970); 0 where the system does not tell.
    pub(crate) bytes: u64,
    pub(crate) modified: u128,
}

impl Sample {
    pub(crate) fn new(name: String, path: PathBuf, classes: Vec<u32>, part: Part) -> Self {
        // A file that is not there is found out when it is decoded, with all the others.
        let metadata = path.metadata().ok();
        let bytes = metadata.as_ref().map_or(0, Metadata::len);
        let modified = metadata.and_then(|metadata| metadata.modified().ok());
        let modified =
            modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |age| age.as_nanos());
        Self { name, path, classes, part, group: None, bytes, modified }
    }
}

/// All pictures of a data set, sorted by part, then by name, and what is wrong with it. With findings that stop, the
/// pictures may be some of them, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// In the order of their names.
    pub(crate) class_names: Vec<String>,
    /// Whether a picture has a set of classes.
    pub(crate) is_sets: bool,
    pub(crate) samples: Vec<Sample>,
    pub(crate) findings: Vec<Finding>,
    /// Why files that are not there are not, by name, where more can be said than that.
    pub(crate) missing: BTreeMap<String, String>,
}

/// Names of classes that differ in their case only.
pub(crate) fn similar(names: &[String]) -> Option<String> {
    let mut lower: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for name in names {
        lower.entry(name.to_lowercase()).or_default().push(name);
    }
    let alike: Vec<String> =
        lower.into_values().filter(|names| names.len() > 1).map(|names| names.join(" and ")).collect();
    (!alike.is_empty())
        .then(|| format!("different classes whose names differ in capitals only: {}", alike.join("; ")))
}

/// The first of many names, in one line.
pub(crate) fn shortened(names: &[String]) -> String {
    const SHOWN: usize = 10;
    let mut text = names.iter().take(SHOWN).map(|name| one_line(name)).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

//! What the folders of a data set are: parts, classes, or data sets themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::listed::shortened;
use super::part_names::{PART_NAMES, core};
use super::walk::{Entry, Kind, entries, holds_pictures, kind_of_file};
use crate::dataset::Part;
use crate::text::composed;

/// The folder with the class folders of a part: `folder` itself, or the one folder in it that repeats the part's name
/// (`seg_train/seg_train`) or only says that pictures are in it (`train/images`). `None` where there are none.
pub(super) fn class_root(folder: &Path, part: Part) -> Option<PathBuf> {
    let inside = entries(folder).ok()?;
    let folders: Vec<&Entry> = inside.iter().filter(|entry| entry.kind == Kind::Folder).collect();
    if let [only] = &folders[..]
        && !inside.iter().any(is_picture)
        && (Part::named(&only.name) == Some(part) || core(&only.name).is_empty())
        && let Some(below) = class_root(&only.path, part)
    {
        return Some(below);
    }
    // A link that leads nowhere may have been to a class folder.
    let link =
        |entry: &Entry| matches!(entry.kind, Kind::Nowhere(_)) && kind_of_file(&entry.path) == Kind::Other;
    (!folders.is_empty() || inside.iter().any(link)).then(|| folder.to_owned())
}

pub(super) fn is_picture(entry: &Entry) -> bool {
    matches!(entry.kind, Kind::Picture | Kind::Unread(_))
}

/// Names that people give to folders of whole data sets.
const CONTAINERS: [&str; 14] = [
    "example",
    "examples",
    "sample",
    "samples",
    "archive",
    "original",
    "originals",
    "raw",
    "processed",
    "augmented",
    "resized",
    "cropped",
    "backup",
    "old",
];

/// Why the folders in `top` are hardly classes, if so: they are data sets or parts themselves.
pub(super) fn misread(top: &[Entry]) -> Option<String> {
    let folders: Vec<&Entry> = top.iter().filter(|entry| entry.kind == Kind::Folder).collect();
    // Those with folders of pictures in them, and no picture of their own.
    let mut nested: Vec<(&Entry, BTreeSet<String>)> = Vec::new();
    for &entry in &folders {
        let inside = entries(&entry.path).unwrap_or_default();
        if inside.iter().any(is_picture) {
            continue;
        }
        let below = inside.iter().filter(|below| below.kind == Kind::Folder && holds_pictures(&below.path));
        let names: BTreeSet<String> = below.map(|below| composed(&below.name).to_lowercase()).collect();
        if names.len() >= 2 {
            nested.push((entry, names));
        }
    }
    let named = |entries: &[&Entry]| {
        let names: Vec<String> = entries.iter().map(|entry| entry.name.clone()).collect();
        shortened(&names)
    };
    let remedy = |candidates: &[&Entry]| {
        format!(
            "if one of them is the data set, give that one: {}; if they are parts of one, name them {PART_NAMES}; if they \
             are classes, put their pictures into them without folders between, or list them in a CSV file with the header \
             path,label",
            named(candidates)
        )
    };
    let whole: Vec<&Entry> = nested
        .iter()
        .filter(|(_, names)| {
            let parts: BTreeSet<Part> = names.iter().filter_map(|name| Part::named(name)).collect();
            parts.contains(&Part::Train) && parts.len() >= 2
        })
        .map(|(entry, _)| *entry)
        .collect();
    if let ([_], [(only, names)]) = (&folders[..], &nested[..])
        && whole.is_empty()
    {
        let names: Vec<String> = names.iter().cloned().collect();
        return Some(format!(
            "it holds one folder only, `{}`, and that holds the folders {}; if those are the classes, give {}",
            only.name,
            shortened(&names),
            only.path.display()
        ));
    }
    if !whole.is_empty() {
        return Some(format!(
            "there are whole data sets in it, with parts of their own: {}; {}",
            named(&whole),
            remedy(&whole)
        ));
    }
    let candidates: Vec<&Entry> = nested.iter().map(|(entry, _)| *entry).collect();
    let shared = shared(nested.iter().map(|(_, names)| names));
    let alike =
        nested.iter().filter(|(_, names)| names.intersection(&shared).count() * 2 >= names.len().max(3));
    let pictured = folders.iter().filter(|entry| holds_pictures(&entry.path)).count();
    if nested.len() >= 2 && alike.count() * 4 >= nested.len() * 3 && nested.len() * 2 >= pictured {
        let shared: Vec<String> = shared.into_iter().collect();
        return Some(format!(
            "the folders in it hold the same folders ({}) and no pictures of their own, as parts or copies of one data set \
             do: {}; {}",
            shortened(&shared),
            named(&candidates),
            remedy(&candidates)
        ));
    }
    let containers: Vec<&Entry> = candidates
        .iter()
        .copied()
        .filter(|entry| {
            core(&entry.name).is_empty() || CONTAINERS.contains(&entry.name.to_lowercase().as_str())
        })
        .collect();
    (!containers.is_empty()).then(|| {
        format!(
            "by its name and by the folders in it, this is hardly a class but a data set: {}; {}",
            named(&containers),
            remedy(&containers)
        )
    })
}

/// What most of the sets hold.
fn shared<'a>(sets: impl Iterator<Item = &'a BTreeSet<String>>) -> BTreeSet<String> {
    let mut counts: BTreeMap<&String, usize> = BTreeMap::new();
    let mut all = 0;
    for set in sets {
        all += 1;
        for name in set {
            *counts.entry(name).or_default() += 1;
        }
    }
    counts.into_iter().filter(|(_, count)| count * 2 > all).map(|(name, _)| name.clone()).collect()
}

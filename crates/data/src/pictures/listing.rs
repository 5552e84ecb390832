//! Which pictures there are in folders of classes, and what their labels are. What is wrong comes along as findings.
//!
//! Longer than other files: half of it are tests of the layouts that people make.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::layout::{class_root, is_picture, misread};
use super::listed::{Listing, Sample, shortened, similar};
use super::part_names::PART_NAMES;
use super::walk::{EXTENSIONS, Entry, Found, Kind, What, entries, unread, walk};
use crate::dataset::Part;
use crate::error::DataError;
use crate::findings::{Finding, FindingKind};
use crate::options::Purpose;
use crate::text::composed;

/// Lists `root/<class>/…`, or `root/<part>/<class>/…` with parts as [`Part::named`] knows them. Classes are those of
/// the training part, in the order of their names; folders within a class folder belong to it. For an evaluation they are
/// those of all parts, and there may be no training part and a single class.
///
/// # Errors
/// When `root` cannot be listed; all else is a finding.
pub(crate) fn of_folder(root: &Path, purpose: Purpose) -> Result<Listing, DataError> {
    let top = entries(root)?;
    let mut parts: BTreeMap<Part, Vec<(&Entry, PathBuf)>> = BTreeMap::new();
    for entry in top.iter().filter(|entry| entry.kind == Kind::Folder) {
        if let Some(part) = Part::named(&entry.name)
            && let Some(classes) = class_root(&entry.path, part)
        {
            parts.entry(part).or_default().push((entry, classes));
        }
    }
    let mut lister = Lister { root, purpose, listing: Listing::default() };
    if purpose == Purpose::Evaluation {
        let folders = parts.values().flatten().map(|(_, folder)| folder.as_path());
        lister.name_classes(folders.chain(parts.is_empty().then_some(root)));
    }
    if parts.is_empty() {
        match misread(&top) {
            Some(reason) => lister.find(FindingKind::Layout, root, reason),
            None => lister.classes(root, Part::Train),
        }
    } else {
        lister.parts(&top, &parts);
    }
    if purpose == Purpose::Evaluation
        && lister.listing.samples.is_empty()
        && !lister.listing.findings.iter().any(|finding| finding.kind.stops())
    {
        lister.find(FindingKind::Layout, root, "none of its class folders holds a picture that is read");
    }
    Ok(lister.listing)
}

/// The listing while it is made.
struct Lister<'a> {
    root: &'a Path,
    purpose: Purpose,
    listing: Listing,
}

/// The folders of one class.
struct Class {
    name: String,
    folders: Vec<PathBuf>,
}

impl Lister<'_> {
    /// As messages name it: below the root.
    fn name(&self, path: &Path) -> String {
        match path.strip_prefix(self.root) {
            Ok(below) if !below.as_os_str().is_empty() => below.display().to_string(),
            _ => path.display().to_string(),
        }
    }

    fn find(&mut self, kind: FindingKind, path: &Path, reason: impl Into<String>) {
        let name = self.name(path);
        self.listing.findings.push(Finding::new(kind, name, reason));
    }

    fn parts(&mut self, top: &[Entry], parts: &BTreeMap<Part, Vec<(&Entry, PathBuf)>>) {
        let root = self.root;
        for (part, named) in parts.iter().filter(|(_, named)| named.len() > 1) {
            let names: Vec<String> = named.iter().map(|(entry, _)| format!("`{}`", entry.name)).collect();
            let reason = format!(
                "it holds {} for the {} part; keep one, or merge them",
                names.join(" and "),
                part.name()
            );
            self.find(FindingKind::Layout, root, reason);
        }
        if self.purpose == Purpose::Training && !parts.contains_key(&Part::Train) {
            let name = parts.values().flatten().next().map_or("", |(entry, _)| entry.name.as_str());
            let reason = format!(
                "there is a folder `{name}` with folders in it, but no folder `train` with class folders beside it; the names of \
                 parts are {PART_NAMES}; or give the folder of the classes itself"
            );
            return self.find(FindingKind::Layout, root, reason);
        }
        for part in Part::ALL {
            for (_, folder) in parts.get(&part).into_iter().flatten() {
                self.classes(folder, part);
            }
        }
        let read: Vec<&Path> = parts.values().flatten().map(|(entry, _)| entry.path.as_path()).collect();
        for entry in top.iter().filter(|entry| !read.contains(&entry.path.as_path())) {
            self.beside(entry);
        }
    }

    /// Makes the classes those of all these folders.
    fn name_classes<'b>(&mut self, folders: impl Iterator<Item = &'b Path>) {
        let inside = folders.filter_map(|folder| entries(folder).ok()).flatten();
        let names = inside.filter(|entry| entry.kind == Kind::Folder).map(|entry| composed(&entry.name));
        let names: BTreeSet<String> = names.collect();
        self.listing.class_names = names.into_iter().collect();
    }

    /// What lies beside the parts.
    fn beside(&mut self, entry: &Entry) {
        match &entry.kind {
            Kind::Folder if Part::named(&entry.name).is_some() => self.find(
                FindingKind::NotRead,
                &entry.path,
                "it is named like a part, but there are no class folders in it, so that its pictures have no labels",
            ),
            Kind::Folder => {
                let reason = format!("it lies beside the parts and is none by its name; the names are {PART_NAMES}");
                self.find(FindingKind::NotRead, &entry.path, reason);
            }
            Kind::Picture | Kind::Unread(_) => {
                self.find(FindingKind::NotRead, &entry.path, "it lies beside the parts and has no label");
            }
            Kind::Nowhere(reason) => {
                let reason = format!("{reason}; mount or mend what it leads to, or remove the link");
                self.find(FindingKind::Unreachable, &entry.path, reason);
            }
            Kind::Other => {}
        }
    }

    /// The class folders in `folder`, for the training part those that make the classes.
    fn classes(&mut self, folder: &Path, part: Part) {
        let inside = match entries(folder) {
            Ok(inside) => inside,
            Err(error) => return self.find(FindingKind::Unreachable, folder, error.to_string()),
        };
        let loose = inside.iter().filter(|entry| is_picture(entry)).count();
        if loose > 0 {
            let reason = format!(
                "{loose} pictures lie beside the class folders and have no label; move them into a class folder, or away"
            );
            self.find(FindingKind::Layout, folder, reason);
        }
        for entry in &inside {
            if let Kind::Nowhere(reason) = &entry.kind {
                let reason = format!(
                    "{reason}: if it is the folder of a class, all its pictures are missing; mount or mend what it leads to, \
                     or remove the link"
                );
                self.find(FindingKind::Unreachable, &entry.path, reason);
            }
        }
        let classes = self.grouped(&inside);
        let named = classes.len();
        let mut filled = Vec::new();
        for class in classes {
            let found = self.files(&class);
            if found.iter().any(|found| matches!(found.what, What::Picture | What::Lost(_))) {
                filled.push((class, found));
            } else {
                self.empty(&class, &found);
            }
        }
        if self.purpose == Purpose::Evaluation {
            // Any class will do.
        } else if part == Part::Train {
            let names: Vec<String> = filled.iter().map(|(class, _)| class.name.clone()).collect();
            if let Some(reason) = impossible(&names, named) {
                self.find(FindingKind::Layout, folder, reason);
            }
            self.listing.class_names.extend(names);
            self.listing.class_names.sort();
            self.listing.class_names.dedup();
            self.warn_of_similar_names(folder);
        } else {
            let missing: Vec<String> = (self.listing.class_names.iter())
                .filter(|name| !filled.iter().any(|(class, _)| class.name == **name))
                .cloned()
                .collect();
            if !missing.is_empty() {
                self.find(
                    FindingKind::MissingClass,
                    folder,
                    format!("no picture of {}", shortened(&missing)),
                );
            }
        }
        for (class, found) in filled {
            match self.listing.class_names.binary_search(&class.name) {
                Ok(label) => self.take(label as u32, part, found),
                Err(_) => {
                    let reason = format!(
                        "it is no class of the training part, whose classes are {}; add it there or remove it",
                        shortened(&self.listing.class_names)
                    );
                    self.find(FindingKind::Layout, &class.folders[0], reason);
                }
            }
        }
    }

    /// Folders by the composed form of their names, in that order: those of one name are one class.
    fn grouped(&mut self, inside: &[Entry]) -> Vec<Class> {
        let mut classes: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        for entry in inside.iter().filter(|entry| entry.kind == Kind::Folder) {
            classes.entry(composed(&entry.name)).or_default().push(entry.path.clone());
        }
        let classes: Vec<Class> =
            classes.into_iter().map(|(name, folders)| Class { name, folders }).collect();
        for Class { folders, .. } in &classes {
            let lossless = folders.iter().all(|folder| folder.to_str().is_some());
            match &folders[..] {
                [folder] if !lossless => {
                    let reason =
                        "its name is not UTF-8; what is not is replaced in the name of the class; rename it";
                    self.find(FindingKind::Names, folder, reason);
                }
                [first, ..] if !lossless => {
                    let reason = format!(
                        "{} folders cannot be told apart by their names, which are not UTF-8; rename them",
                        folders.len()
                    );
                    self.find(FindingKind::Layout, first, reason);
                }
                [first, others @ ..] if !others.is_empty() => {
                    let reason = format!(
                        "{} folders have this name, in different forms of Unicode (composed and decomposed); they are read as \
                         one class",
                        folders.len()
                    );
                    self.find(FindingKind::Names, first, reason);
                }
                _ => {}
            }
        }
        classes
    }

    /// What there is in the folders of a class.
    fn files(&mut self, class: &Class) -> Vec<Found> {
        let mut found = Vec::new();
        for folder in &class.folders {
            match walk(folder, self.root) {
                Ok(below) => found.extend(below),
                Err(error) => self.find(FindingKind::Unreachable, folder, error.to_string()),
            }
        }
        found
    }

    /// A class folder without pictures is left out; what is in it is told.
    fn empty(&mut self, class: &Class, found: &[Found]) {
        let mut reason = format!("an empty class folder: it holds no {}", EXTENSIONS.join(", "));
        let formats: BTreeSet<&str> = found
            .iter()
            .filter_map(|found| match found.what {
                What::Unread(format) => Some(format),
                _ => None,
            })
            .collect();
        if formats.is_empty() {
            reason.push_str("; put pictures into it, or remove it");
        } else {
            let formats: Vec<&str> = formats.into_iter().collect();
            reason.push_str(&format!(
                ", only pictures of formats that are not read ({}); save them as PNG or JPEG",
                formats.join(", ")
            ));
        }
        self.find(FindingKind::EmptyClass, &class.folders[0], reason);
        self.take(0, Part::Train, found.to_vec());
    }

    /// Pictures become samples, what else there is becomes findings.
    fn take(&mut self, label: u32, part: Part, found: Vec<Found>) {
        for Found { path, what } in found {
            match what {
                What::Picture => {
                    let name = self.name(&path);
                    self.listing.samples.push(Sample::new(name, path, vec![label], part));
                }
                What::Lost(reason) => {
                    let name = self.name(&path);
                    self.listing.missing.insert(name.clone(), format!("cannot read it: {reason}"));
                    self.listing.samples.push(Sample::new(name, path, vec![label], part));
                }
                What::Unread(format) => self.find(FindingKind::UnreadFormat, &path, unread(format)),
                What::Other => self.find(FindingKind::Ignored, &path, ""),
                What::Unreachable(reason) => self.find(FindingKind::Unreachable, &path, reason),
                What::Back(above) => {
                    let reason = format!(
                        "a symbolic link leads back to {}, which it is in; remove the link",
                        above.display()
                    );
                    self.find(FindingKind::Unreachable, &path, reason);
                }
                What::Again(other) => {
                    let reason = format!("a link to {}, which is read already", other.display());
                    self.find(FindingKind::Repeated, &path, reason);
                }
            }
        }
    }

    /// Classes whose names differ in their case only: one class, for most people.
    fn warn_of_similar_names(&mut self, folder: &Path) {
        if let Some(reason) = similar(&self.listing.class_names) {
            self.find(FindingKind::Names, folder, reason);
        }
    }
}

/// Why no classifier can have these classes, if so; `named` folders were there for them.
fn impossible(names: &[String], named: usize) -> Option<String> {
    match names {
        [] if named == 0 => Some(
            "there is no class folder in it; expected one folder for each class with its pictures, such as cats/1.jpg and \
             dogs/1.jpg"
                .to_owned(),
        ),
        [] => Some("none of its class folders holds a picture".to_owned()),
        [one] => Some(format!("`{one}` is its only class{}; a classifier needs two or more",
            if named > 1 { " with pictures" } else { "" })),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Part::{Test, Train, Valid};
    use crate::pictures::tests::tree;

    fn listed(files: &[&str]) -> Listing {
        of_folder(tree(files).path(), Purpose::Training).unwrap()
    }

    /// What stops, a line each.
    fn stops(listing: &Listing) -> String {
        let stopping = listing.findings.iter().filter(|finding| finding.kind.stops());
        stopping.map(Finding::line).collect::<Vec<_>>().join("\n")
    }

    fn fails(files: &[&str], word: &str) {
        let error = stops(&listed(files));
        assert!(error.contains(word), "{files:?}: `{word}` is not in `{error}`");
    }

    /// Kinds and paths of the findings.
    fn findings(listing: &Listing) -> Vec<(FindingKind, &str)> {
        listing.findings.iter().map(|finding| (finding.kind, finding.path.as_str())).collect()
    }

    fn found(listing: &Listing) -> Vec<(&str, u32, Part)> {
        listing.samples.iter().map(|s| (s.name.as_str(), s.classes[0], s.part)).collect()
    }

    /// Any part and any class will do to judge a model by.
    #[test]
    fn a_folder_for_an_evaluation_may_hold_the_test_part_or_one_class_alone() {
        let found = |files: &[&str]| {
            let listing = of_folder(tree(files).path(), Purpose::Evaluation).unwrap();
            assert_eq!(stops(&listing), "", "{files:?}");
            let samples = listing.samples.iter();
            let named =
                samples.map(|s| (s.name.clone(), listing.class_names[s.classes[0] as usize].clone(), s.part));
            named.collect::<Vec<_>>()
        };
        let named = |name: &str, class: &str, part| (name.to_owned(), class.to_owned(), part);
        assert_eq!(
            found(&["test/b/1.png", "test/a/2.png"]),
            [named("test/a/2.png", "a", Part::Test), named("test/b/1.png", "b", Part::Test)]
        );
        assert_eq!(found(&["only/1.png"]), [named("only/1.png", "only", Part::Train)]);
        assert_eq!(
            found(&["train/b/1.png", "test/a/1.png"]),
            [named("train/b/1.png", "b", Part::Train), named("test/a/1.png", "a", Part::Test)]
        );
        for files in [&["test/b/1.png", "test/a/2.png"][..], &["only/1.png"]] {
            assert!(!stops(&of_folder(tree(files).path(), Purpose::Training).unwrap()).is_empty());
        }
    }

    #[test]
    fn class_folders_are_sorted_and_nested_ones_belong_to_their_class() {
        let listing =
            listed(&["dog/b.JPG", "dog/a.png", "cat/deep/er/x.tiff", "cat/notes.txt", "cat/.hidden.png"]);
        assert_eq!(listing.class_names, ["cat", "dog"]);
        assert_eq!(
            found(&listing),
            [("cat/deep/er/x.tiff", 0, Train), ("dog/a.png", 1, Train), ("dog/b.JPG", 1, Train)]
        );
        assert_eq!(findings(&listing), [(FindingKind::Ignored, "cat/notes.txt")]);
    }

    #[test]
    fn parts_share_the_classes_of_train() {
        let listing =
            listed(&["train/a/1.png", "train/b/1.png", "val/b/2.png", "test/a/3.png", "test/b/4.png"]);
        let parts: Vec<_> = listing.samples.iter().map(|s| (s.classes[0], s.part)).collect();
        assert_eq!(parts, [(0, Train), (1, Train), (1, Valid), (0, Test), (1, Test)]);
        assert_eq!(stops(&listing), "");
        fails(&["train/a/1.png", "train/b/1.png", "test/c/1.png"], "no class of the training part");
        fails(&["test/a/1.png", "test/b/1.png"], "no folder `train`");
        for [one, other] in [["val", "valid"], ["val", "Validation"], ["train", "Training"], ["test", "eval"]]
        {
            let files =
                ["a", "b"].map(|class| ["train", one, other].map(|part| format!("{part}/{class}/1.png")));
            let files: Vec<&str> = files.iter().flatten().map(String::as_str).collect();
            fails(&files, "keep one");
        }
    }

    #[test]
    fn parts_are_known_under_the_names_that_people_give_them() {
        for (name, part) in [
            ("train", Train),
            ("Training", Train),
            ("TRAIN", Train),
            ("train_set", Train),
            ("trainset", Train),
            ("seg_train", Train),
            ("train_images", Train),
            ("train-data", Train),
            ("Training Images", Train),
            ("train2017", Train),
            ("01_train", Train),
            ("dataset_train", Train),
            ("valid", Valid),
            ("val", Valid),
            ("Validation", Valid),
            ("validation_set", Valid),
            ("valid_data", Valid),
            ("dev", Valid),
            ("test", Test),
            ("Testing", Test),
            ("TEST", Test),
            ("test_set", Test),
            ("seg_test", Test),
            ("test_images", Test),
            ("eval", Test),
            ("Evaluation", Test),
        ] {
            assert_eq!(Part::named(name), Some(part), "{name}");
        }
        for name in
            ["", "data", "set", "cat", "trains", "attest", "contest", "fold1", "2017", "images", "pretrain"]
        {
            assert_eq!(Part::named(name), None, "{name}");
        }
        for [train, test] in [
            ["Training", "Testing"],
            ["Train", "Test"],
            ["TRAIN", "TEST"],
            ["training", "testing"],
            ["train_set", "test_set"],
            ["seg_train/seg_train", "seg_test/seg_test"],
            ["train_images", "test_images"],
            ["train/images", "test/images"],
        ] {
            let files = ["a", "b"].map(|class| [train, test].map(|part| format!("{part}/{class}/1.png")));
            let listing = listed(&files.iter().flatten().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(listing.class_names, ["a", "b"], "{train}, {test}");
            let parts: Vec<Part> = listing.samples.iter().map(|sample| sample.part).collect();
            assert_eq!((parts, &listing.findings[..]), (vec![Train, Train, Test, Test], &[][..]));
        }
        // Only where there are class folders in them.
        let listing = listed(&["train/1.png", "car/1.png", "test/1.png"]);
        assert_eq!(
            (&listing.class_names[..], stops(&listing)),
            (&["car", "test", "train"].map(String::from)[..], String::new())
        );
    }

    #[test]
    fn what_lies_beside_the_parts_is_named() {
        let listing = listed(&[
            "train/a/1.png",
            "train/b/1.png",
            "Prüfung/a/1.png",
            "Prüfung/b/1.png",
            "test/1.png",
            "2.png",
            "readme.md",
        ]);
        assert_eq!(
            findings(&listing),
            [
                (FindingKind::NotRead, "2.png"),
                (FindingKind::NotRead, "Prüfung"),
                (FindingKind::NotRead, "test")
            ]
        );
        assert!(
            listing.findings[1].reason.contains("validation")
                && listing.findings[2].reason.contains("no class folders")
        );
    }

    #[test]
    fn folders_that_are_no_classes_are_asked_about() {
        let layout = |parts: &[&str], classes: &[&str]| -> Vec<String> {
            parts
                .iter()
                .flat_map(|part| classes.iter().map(move |class| format!("{part}/{class}/1.png")))
                .collect()
        };
        let asks = |files: &[String], words: &[&str]| {
            let listing = listed(&files.iter().map(String::as_str).collect::<Vec<_>>());
            let error = stops(&listing);
            assert!(
                listing.samples.is_empty() && words.iter().all(|word| error.contains(word)),
                "{files:?}: {error}"
            );
            assert_eq!(listing.findings.len(), 1);
        };
        asks(
            &layout(&["fold1", "fold2"], &["a", "b", "c"]),
            &["fold1, fold2", "a, b, c", "train or training", "dev"],
        );
        asks(&layout(&["Dataset", "Examples"], &["a", "b"]), &["Dataset, Examples", "give that one"]);
        // Nearly the same, and one part of another form.
        asks(
            &[layout(&["left", "right"], &["a", "b", "c"]), layout(&["mid"], &["a", "B"])].concat(),
            &["left, mid, right"],
        );
        asks(&[layout(&["x", "y"], &["a", "b", "c"]), layout(&["."], &["loose"])].concat(), &["x, y"]);
        asks(
            &layout(&["one/train", "one/test", "two/train", "two/test"], &["a", "b"]),
            &["one, two", "whole data sets"],
        );
        asks(
            &[layout(&["Dataset"], &["a", "b"]), layout(&["."], &["Examples"])].concat(),
            &["hardly a class", "Dataset"],
        );
        asks(&layout(&["shapes"], &["a", "b"]), &["one folder only, `shapes`", "a, b"]);
        asks(&layout(&["shapes/train", "shapes/test"], &["a", "b"]), &["shapes"]);
        // Folders in classes: one name in all of them, other names, files beside.
        for files in [
            layout(&["cat", "dog"], &["images"]),
            [layout(&["cat"], &["persian", "siamese"]), layout(&["dog"], &["poodle", "collie"])].concat(),
            [
                layout(&["cat", "dog", "cow"], &["new", "old"]),
                ["cat", "dog", "cow"].map(|c| format!("{c}/1.png")).to_vec(),
            ]
            .concat(),
        ] {
            let listing = listed(&files.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!((stops(&listing), listing.samples.len()), (String::new(), files.len()), "{files:?}");
        }
    }

    #[test]
    fn impossible_folders_are_named() {
        fails(&["a/1.png"], "only class");
        fails(&["notes.txt"], "no class folder");
        fails(&["a/1.png", "b/readme.md"], "`a` is its only class with pictures");
        fails(&["a/1.png", "b/1.png", "2.png"], "1 pictures lie beside the class folders");
    }

    #[test]
    fn classes_beyond_the_256th_have_labels_of_their_own() {
        let many: Vec<String> = (0..300).map(|class| format!("{class:03}/1.png")).collect();
        let listing = listed(&many.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!((listing.class_names.len(), &listing.findings[..]), (300, &[][..]));
        assert!(listing.samples.iter().zip(0..).all(|(sample, class)| sample.classes[0] == class));
    }

    #[test]
    fn an_empty_class_folder_is_left_out_and_said() {
        let listing =
            listed(&["a/1.png", "b/1.png", "_todo/readme.md", "c/1.heic", "@eaDir/1.jpg", ".git/1.png"]);
        assert_eq!(
            (&listing.class_names[..], stops(&listing)),
            (&["a", "b"].map(String::from)[..], String::new())
        );
        assert_eq!(
            findings(&listing),
            [
                (FindingKind::EmptyClass, "_todo"),
                (FindingKind::Ignored, "_todo/readme.md"),
                (FindingKind::EmptyClass, "c"),
                (FindingKind::UnreadFormat, "c/1.heic")
            ]
        );
        let listing =
            listed(&["train/a/1.png", "train/b/1.png", "test/a/1.png", "test/todo/x", "val/b/1.png"]);
        assert_eq!(stops(&listing), "");
        let kinds: Vec<FindingKind> = listing.findings.iter().map(|finding| finding.kind).collect();
        assert_eq!(
            kinds,
            [
                FindingKind::MissingClass,
                FindingKind::EmptyClass,
                FindingKind::Ignored,
                FindingKind::MissingClass
            ]
        );
    }

    #[test]
    fn names_that_look_alike_are_one_class_or_are_said() {
        let (nfc, nfd) = ("M\u{f6}hre", "Mo\u{308}hre");
        let file = |part: &str, class: &str, number: usize| format!("{part}{class}/{number}.png");
        let one = [file("", nfc, 1), file("", nfd, 2), file("", "Gurke", 1)];
        let listing = listed(&one.each_ref().map(String::as_str));
        assert_eq!(listing.class_names, ["Gurke", nfc]);
        assert_eq!(listing.samples.iter().filter(|sample| sample.classes[0] == 1).count(), 2);
        assert!(matches!(&listing.findings[..], [Finding { kind: FindingKind::Names, .. }]));
        let two = [file("train/", nfd, 1), file("train/", "Gurke", 2), file("test/", nfc, 3)];
        let listing = listed(&two.each_ref().map(String::as_str));
        assert_eq!((&listing.class_names[1][..], stops(&listing)), (nfc, String::new()));
        let listing = listed(&["Cat/1.png", "cat/1.png", "dog/1.png"]);
        assert!(listing.findings[0].reason.contains("Cat and cat"), "{:?}", listing.findings);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_folder_above_is_an_error_and_one_to_elsewhere_is_followed() {
        let folder = tree(&["a/1.png", "b/1.png"]);
        let elsewhere = tree(&["2.png"]);
        let fault = || stops(&of_folder(folder.path(), Purpose::Training).unwrap());
        std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("a/more")).unwrap();
        assert_eq!(
            (of_folder(folder.path(), Purpose::Training).unwrap().samples.len(), fault()),
            (3, String::new())
        );
        // To itself, and through the root.
        for target in ["b", "."] {
            std::os::unix::fs::symlink(folder.path().join(target), folder.path().join("b/again")).unwrap();
            assert!(fault().contains("b/again: a symbolic link leads back"), "{}", fault());
            std::fs::remove_file(folder.path().join("b/again")).unwrap();
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_leads_nowhere_is_an_error_for_a_class_and_a_finding_for_a_picture() {
        for parts in [&[""][..], &["train/", "test/"]] {
            for part in parts {
                let files =
                    parts.iter().flat_map(|part| ["a", "b"].map(|class| format!("{part}{class}/1.png")));
                let files: Vec<String> = files.collect();
                let folder = tree(&files.iter().map(String::as_str).collect::<Vec<_>>());
                let link = |name: &str| {
                    std::os::unix::fs::symlink("/mnt/gone", folder.path().join(part).join(name)).unwrap();
                    of_folder(folder.path(), Purpose::Training).unwrap()
                };
                let listing = link("a/2.png");
                assert_eq!((stops(&listing), listing.missing.len()), (String::new(), 1));
                let fault = stops(&link("c"));
                assert!(
                    fault.contains(&format!("{part}c: a link to /mnt/gone, which is not there")),
                    "{fault}"
                );
            }
        }
    }
}

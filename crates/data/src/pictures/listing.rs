//! Which pictures there are, and what their labels are: from folders of classes, or from a CSV file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::error::DataError;

/// File name extensions of pictures, in lower case.
const EXTENSIONS: [&str; 8] = ["png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff"];

/// Labels are bytes.
const MAX_CLASSES: usize = 256;

/// Longest list that is read, in bytes: some millions of lines.
const MAX_LIST_BYTES: u64 = 512 << 20;

/// What a picture is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// To learn from.
    Train,
    /// To choose by.
    Valid,
    /// For the one final test.
    Test,
}

/// One picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// As it is named in messages: below the root, or as the list has it.
    pub(crate) name: String,
    /// The file.
    pub(crate) path: PathBuf,
    pub(crate) label: u8,
    pub(crate) part: Part,
    /// Length and time of change (nanoseconds since 1970); 0 where the system does not tell.
    pub(crate) bytes: u64,
    pub(crate) modified: u128,
}

/// All pictures of a data set, sorted by part, then by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) class_names: Vec<String>,
    pub(crate) samples: Vec<Sample>,
    /// Files in class folders that are no pictures by their names.
    pub(crate) ignored: Vec<String>,
}

fn folder_error(path: &Path, reason: impl Into<String>) -> DataError {
    DataError::Folder { path: path.to_owned(), reason: reason.into() }
}

/// Entries of a folder with their names, sorted; hidden ones are left out.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, DataError> {
    let mut entries = Vec::new();
    for entry in folder.read_dir().map_err(DataError::io("list", folder))? {
        let path = entry.map_err(DataError::io("list", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            entries.push((name, path));
        }
    }
    entries.sort();
    Ok(entries)
}

/// The folders in a folder, with their names.
pub(crate) fn subfolders(folder: &Path) -> Result<Vec<(String, PathBuf)>, DataError> {
    let mut entries = entries(folder)?;
    entries.retain(|(_, path)| path.is_dir());
    Ok(entries)
}

/// Whether the name is that of a picture.
pub(crate) fn is_picture_name(path: &Path) -> bool {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()))
}

/// Lists `root/<class>/…`, or `root/train/<class>/…` with `valid` (or `val`) and `test` beside it. Classes are
/// those of the training part, in the order of their names; folders within a class folder belong to it.
pub(crate) fn of_folder(root: &Path) -> Result<Listing, DataError> {
    let top = subfolders(root)?;
    let named =
        |wanted: &[&str]| top.iter().filter(|(name, _)| wanted.contains(&name.as_str())).collect::<Vec<_>>();
    let train = named(&["train"]);
    let in_parts = match train.first() {
        Some((_, path)) => !subfolders(path)?.is_empty(),
        None => false,
    };
    if !in_parts {
        for part in ["test", "valid", "val"] {
            if let Some((_, path)) = named(&[part]).first()
                && !subfolders(path)?.is_empty()
            {
                let reason = format!(
                    "there is a folder `{part}` with folders in it, but no such folder `train` beside it; \
                     name the training part `train`, or give the folder of the classes itself"
                );
                return Err(folder_error(root, reason));
            }
        }
    }
    let mut found = Found { root, samples: Vec::new(), ignored: Vec::new() };
    let class_names;
    if in_parts {
        let valid = named(&["valid", "val"]);
        if valid.len() > 1 {
            return Err(folder_error(root, "it holds both `valid` and `val`; keep one"));
        }
        let train = &train[0].1;
        class_names = found.classes(train, Part::Train, None)?;
        for (part, folder) in [(Part::Valid, valid.first()), (Part::Test, named(&["test"]).first())] {
            if let Some((_, path)) = folder {
                found.classes(path, part, Some(&class_names))?;
            }
        }
        let others: Vec<&str> = top.iter().map(|(name, _)| name.as_str()).collect();
        let others: Vec<&str> =
            others.into_iter().filter(|name| !["train", "valid", "val", "test"].contains(name)).collect();
        if !others.is_empty() {
            tracing::warn!(
                "{}: beside `train`, these folders are not read: {}",
                root.display(),
                others.join(", ")
            );
        }
    } else {
        class_names = found.classes(root, Part::Train, None)?;
    }
    let Found { samples, ignored, .. } = found;
    Ok(Listing { class_names, samples, ignored })
}

/// Pictures found so far.
struct Found<'a> {
    root: &'a Path,
    samples: Vec<Sample>,
    ignored: Vec<String>,
}

impl Found<'_> {
    /// Every class folder in `folder`; `known` are the classes when they are given already.
    fn classes(
        &mut self,
        folder: &Path,
        part: Part,
        known: Option<&[String]>,
    ) -> Result<Vec<String>, DataError> {
        let classes = subfolders(folder)?;
        let names: Vec<String> = classes.iter().map(|(name, _)| name.clone()).collect();
        if known.is_none() {
            check_classes(folder, &names)?;
        }
        let known = known.unwrap_or(&names);
        let loose =
            entries(folder)?.iter().filter(|(_, path)| is_picture_name(path) && !path.is_dir()).count();
        if loose > 0 {
            let reason = format!(
                "{loose} pictures lie beside the class folders and have no label; move them into a class folder, or away"
            );
            return Err(folder_error(folder, reason));
        }
        for (name, path) in &classes {
            let Some(label) = known.iter().position(|class| class == name) else {
                let reason = format!(
                    "it is no class of the training part, whose classes are {}; add it there or remove it",
                    shortened(known)
                );
                return Err(folder_error(path, reason));
            };
            let before = self.samples.len();
            let above = self.root.canonicalize().map_err(DataError::io("resolve", self.root))?;
            self.walk(path, label as u8, part, &mut vec![above])?;
            if self.samples.len() == before {
                let reason = format!(
                    "an empty class folder: it holds no {}; put pictures into it, or remove it",
                    EXTENSIONS.join(", ")
                );
                return Err(folder_error(path, reason));
            }
        }
        let missing: Vec<&String> = known.iter().filter(|name| !names.contains(name)).collect();
        if !missing.is_empty() {
            tracing::warn!("{}: these classes have no picture here: {missing:?}", folder.display());
        }
        Ok(names)
    }

    /// All pictures below `folder`. Symbolic links are followed; one that leads back up is an error.
    fn walk(
        &mut self,
        folder: &Path,
        label: u8,
        part: Part,
        above: &mut Vec<PathBuf>,
    ) -> Result<(), DataError> {
        let real = folder.canonicalize().map_err(DataError::io("resolve", folder))?;
        if above.contains(&real) {
            let reason =
                format!("a symbolic link leads back to {}, which it is in; remove the link", real.display());
            return Err(folder_error(folder, reason));
        }
        above.push(real);
        for (_, path) in entries(folder)? {
            let name = path.strip_prefix(self.root).unwrap_or(&path).display().to_string();
            if path.is_dir() {
                self.walk(&path, label, part, above)?;
            } else if is_picture_name(&path) {
                self.samples.push(sample(name, path, label, part));
            } else {
                self.ignored.push(name);
            }
        }
        above.pop();
        Ok(())
    }
}

fn sample(name: String, path: PathBuf, label: u8, part: Part) -> Sample {
    // A file that is not there is found out when it is decoded, with all the others.
    let metadata = path.metadata().ok();
    let bytes = metadata.as_ref().map_or(0, Metadata::len);
    let modified = metadata.and_then(|metadata| metadata.modified().ok());
    let modified =
        modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |age| age.as_nanos());
    Sample { name, path, label, part, bytes, modified }
}

fn check_classes(path: &Path, names: &[String]) -> Result<(), DataError> {
    let reason = match names {
        [] => {
            "there is no class folder in it; expected one folder for each class with its pictures, such as \
               cats/1.jpg and dogs/1.jpg"
                .to_owned()
        }
        [one] => format!("`{one}` is its only class; a classifier needs two or more"),
        _ if names.len() > MAX_CLASSES => {
            format!("it has {} classes; expected at most {MAX_CLASSES}", names.len())
        }
        _ => return Ok(()),
    };
    Err(folder_error(path, reason))
}

fn shortened(names: &[String]) -> String {
    const SHOWN: usize = 10;
    let mut text = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

/// Lists the pictures that a CSV file names: a header with `path` and `label`, and `split` if it is wanted
/// (`train`, `valid` or `val`, `test`; empty is `train`), in any order. Paths are relative to the file. Classes
/// are in the order of their names.
pub(crate) fn of_csv(list: &Path) -> Result<Listing, DataError> {
    let fault = |line: u64, reason: String| DataError::List { path: list.to_owned(), line, reason };
    let length = list.metadata().map_err(DataError::io("read", list))?.len();
    if length > MAX_LIST_BYTES {
        return Err(fault(0, format!("the file has {length} bytes; expected at most {MAX_LIST_BYTES}")));
    }
    let bytes = std::fs::read(list).map_err(DataError::io("read", list))?;
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text);
    let header = reader.headers().map_err(|error| fault(1, error.to_string()))?.clone();
    let column = |name: &str| header.iter().position(|field| field.eq_ignore_ascii_case(name));
    let (Some(path_column), Some(label_column)) = (column("path"), column("label")) else {
        let found = header.iter().collect::<Vec<_>>().join(",");
        let reason = format!("expected a header line `path,label` or `path,label,split`, found `{found}`");
        return Err(fault(1, reason));
    };
    let split_column = column("split");

    let folder = list.parent().unwrap_or(Path::new(""));
    let mut rows = Vec::new();
    let mut first_line: BTreeMap<PathBuf, u64> = BTreeMap::new();
    for record in reader.records() {
        let record = record
            .map_err(|error| fault(error.position().map_or(0, csv::Position::line), error.to_string()))?;
        let line = record.position().map_or(0, csv::Position::line);
        let field = |column: usize| record.get(column).unwrap_or_default();
        let (name, label) = (field(path_column), field(label_column));
        if name.is_empty() || label.is_empty() {
            let reason = format!("expected a path and a label, found `{name}` and `{label}`");
            return Err(fault(line, reason));
        }
        let part = match split_column.map_or("", field) {
            "" | "train" => Part::Train,
            "valid" | "val" => Part::Valid,
            "test" => Part::Test,
            other => {
                return Err(fault(
                    line,
                    format!("split `{other}`: expected train, valid, val, test or nothing"),
                ));
            }
        };
        let path = folder.join(name);
        if let Some(first) = first_line.insert(path.clone(), line) {
            let reason = format!("`{name}` is listed twice, first in line {first}; keep one of them");
            return Err(fault(line, reason));
        }
        rows.push((part, name.to_owned(), path, label.to_owned()));
    }
    let names: BTreeSet<&String> =
        rows.iter().filter(|(part, ..)| *part == Part::Train).map(|(.., label)| label).collect();
    let class_names: Vec<String> = names.into_iter().cloned().collect();
    if rows.is_empty() {
        return Err(fault(1, "no picture is listed".to_owned()));
    }
    match class_names.len() {
        0 => return Err(fault(0, "no picture is listed for training".to_owned())),
        1 => {
            let reason = format!("`{}` is the only class; a classifier needs two or more", class_names[0]);
            return Err(fault(0, reason));
        }
        classes if classes > MAX_CLASSES => {
            return Err(fault(0, format!("{classes} different labels; expected at most {MAX_CLASSES}")));
        }
        _ => {}
    }
    let mut samples = Vec::with_capacity(rows.len());
    for (part, name, path, label) in rows {
        let Ok(class) = class_names.binary_search(&label) else {
            let line = first_line.get(&path).copied().unwrap_or(0);
            return Err(fault(line, format!("no picture for training has the label `{label}`")));
        };
        samples.push(sample(name, path, class as u8, part));
    }
    samples.sort_by(|a, b| (a.part, &a.name).cmp(&(b.part, &b.name)));
    Ok(Listing { class_names, samples, ignored: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::Part::{Test, Train, Valid};
    use super::*;
    use proptest::prelude::*;

    /// Empty files, for listing only looks at names.
    fn tree(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
        folder
    }

    fn listed(files: &[&str]) -> Result<Listing, String> {
        of_folder(tree(files).path()).map_err(|error| error.to_string())
    }

    fn fails(files: &[&str], word: &str) {
        let error = listed(files).unwrap_err();
        assert!(error.contains(word), "{files:?}: `{word}` is not in `{error}`");
    }

    #[test]
    fn class_folders_are_sorted_and_nested_ones_belong_to_their_class() {
        let listing =
            listed(&["dog/b.JPG", "dog/a.png", "cat/deep/er/x.tiff", "cat/notes.txt", "cat/.hidden.png"]);
        let listing = listing.unwrap();
        assert_eq!(listing.class_names, ["cat", "dog"]);
        let found: Vec<_> = listing.samples.iter().map(|s| (s.name.as_str(), s.label, s.part)).collect();
        assert_eq!(
            found,
            [
                ("cat/deep/er/x.tiff", 0, Part::Train),
                ("dog/a.png", 1, Part::Train),
                ("dog/b.JPG", 1, Part::Train)
            ]
        );
        assert_eq!(listing.ignored, ["cat/notes.txt"]);
    }

    #[test]
    fn parts_share_the_classes_of_train() {
        let listing =
            listed(&["train/a/1.png", "train/b/1.png", "val/b/2.png", "test/a/3.png", "test/b/4.png"]);
        let listing = listing.unwrap();
        let found: Vec<_> = listing.samples.iter().map(|s| (s.label, s.part)).collect();
        assert_eq!(found, [(0, Train), (1, Train), (1, Valid), (0, Test), (1, Test)]);
        fails(&["train/a/1.png", "train/b/1.png", "test/c/1.png"], "no class of the training part");
        fails(&["test/a/1.png", "test/b/1.png"], "no such folder `train`");
        fails(&["train/a/1.png", "train/b/1.png", "val/a/1.png", "valid/a/1.png"], "both `valid` and `val`");
    }

    #[test]
    fn impossible_folders_are_named() {
        fails(&["a/1.png"], "only class");
        fails(&["notes.txt"], "no class folder");
        fails(&["a/1.png", "b/readme.md"], "an empty class folder");
        fails(&["a/1.png", "b/1.png", "2.png"], "1 pictures lie beside the class folders");
        let many: Vec<String> = (0..257).map(|class| format!("{class}/1.png")).collect();
        fails(&many.iter().map(String::as_str).collect::<Vec<_>>(), "257 classes; expected at most 256");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_folder_above_is_an_error_and_one_to_elsewhere_is_followed() {
        let folder = tree(&["a/1.png", "b/1.png"]);
        let elsewhere = tree(&["2.png"]);
        std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("a/more")).unwrap();
        assert_eq!(of_folder(folder.path()).unwrap().samples.len(), 3);
        std::os::unix::fs::symlink(folder.path().join("b"), folder.path().join("b/again")).unwrap();
        let error = of_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains("b/again") && error.contains("leads back"), "{error}");
        std::fs::remove_file(folder.path().join("b/again")).unwrap();
        // A loop through the root ends as well.
        std::os::unix::fs::symlink(folder.path(), folder.path().join("b/root")).unwrap();
        let error = of_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains("leads back"), "{error}");
    }

    fn csv(text: &str) -> Result<Listing, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list.csv");
        std::fs::write(&path, text).unwrap();
        of_csv(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn a_list_gives_paths_labels_and_parts() {
        let listing =
            csv("\u{feff}label,path,Split\ndog,x/1.png,\n cat , y.png ,test\ncat,\"z,1.jpg\",train\n")
                .unwrap();
        assert_eq!(listing.class_names, ["cat", "dog"]);
        let found: Vec<_> = listing.samples.iter().map(|s| (s.name.as_str(), s.label, s.part)).collect();
        assert_eq!(
            found,
            [("x/1.png", 1, Part::Train), ("z,1.jpg", 0, Part::Train), ("y.png", 0, Part::Test)]
        );
        assert!(listing.samples[0].path.ends_with("x/1.png") && listing.samples[0].path.is_absolute());
    }

    #[test]
    fn a_wrong_list_names_the_line() {
        for (text, words) in [
            ("", &["line 1", "`path,label`"][..]),
            ("a.png,cat\nb.png,dog\n", &["line 1", "found `a.png,cat`"]),
            ("path,label\n", &["no picture is listed"]),
            ("path,label\na.png,cat\nb.png,cat\n", &["`cat` is the only class"]),
            ("path,label\na.png,cat\nb.png,\n", &["line 3", "`b.png` and ``"]),
            ("path,label\na.png,cat\nb.png,dog,test\n", &["line 3"]),
            ("path,label\na.png,cat\na.png,dog\n", &["line 3", "first in line 2"]),
            ("path,label,split\na.png,cat,later\n", &["line 2", "`later`"]),
            ("path,label,split\na.png,cat,\nb.png,dog,\nc.png,cow,test\n", &["line 4", "`cow`"]),
            ("path,label\na.png,\"cat\nb.png,dog\n", &[]),
        ] {
            let error = csv(text).unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)), "{text:?}: {error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn any_bytes_are_a_list_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("list.csv");
            for head in [&b""[..], b"path,label\n", b"path,label,split\n\"a\",b,"] {
                std::fs::write(&path, [head, &bytes].concat()).unwrap();
                if let Ok(listing) = of_csv(&path) {
                    prop_assert!(listing.class_names.len() >= 2);
                }
            }
        }
    }
}

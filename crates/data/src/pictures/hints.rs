//! What may help where a list names files that are not there.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::walk::{EXTENSIONS, What, walk_some};
use crate::text::composed;

/// Files that are looked at for hints; more of them are not.
const LOOKED_AT: usize = 200_000;

/// The pictures below the folder of a list.
pub(crate) struct Hints {
    /// By the composed form of the path below the folder.
    paths: HashMap<String, PathBuf>,
    /// Paths by the lower-case name of the file, and by that without its extension.
    names: BTreeMap<String, Vec<String>>,
    stems: BTreeMap<String, Vec<String>>,
}

impl Hints {
    pub(crate) fn below(folder: &Path) -> Self {
        let mut hints = Self { paths: HashMap::new(), names: BTreeMap::new(), stems: BTreeMap::new() };
        // The folder of `list.csv` is the empty path.
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        for found in walk_some(folder, LOOKED_AT).into_iter().filter(|found| found.what == What::Picture) {
            let Ok(below) = found.path.strip_prefix(folder) else { continue };
            let text = composed(&below.to_string_lossy().replace('\\', "/"));
            let lower = |part: Option<&std::ffi::OsStr>| {
                part.map_or_else(String::new, |part| composed(&part.to_string_lossy()).to_lowercase())
            };
            hints.names.entry(lower(below.file_name())).or_default().push(text.clone());
            hints.stems.entry(lower(below.file_stem())).or_default().push(text.clone());
            hints.paths.insert(text, found.path);
        }
        hints
    }

    /// The file whose path differs in the form of Unicode only, or in the separators.
    pub(crate) fn same_name(&self, name: &str) -> Option<PathBuf> {
        self.paths.get(&composed(&plain(name))).cloned()
    }

    /// Why there is no file `name`, as far as can be told, and what to do.
    pub(crate) fn hint(&self, name: &str) -> String {
        if let Some((scheme, _)) = name.split_once("://") {
            return format!("it is an address ({scheme}), not a file; fetch the pictures and name the files");
        }
        let plain = composed(&plain(name));
        let lower = plain.to_lowercase();
        let last = lower.rsplit('/').next().unwrap_or_default();
        if let Some(same) = self.names.get(last) {
            if let Some(same) = same.iter().find(|same| same.to_lowercase() == lower) {
                return format!("no such file; `{same}` is there: the path differs in capitals");
            }
            return found(
                "no such file",
                same,
                if plain.contains('/') {
                    "paths are relative to the folder of the list"
                } else {
                    "the path lacks its folder; paths are relative to the folder of the list"
                },
            );
        }
        let extension = last.rsplit_once('.').map(|(_, extension)| extension);
        let named = extension.is_some_and(|extension| EXTENSIONS.contains(&extension));
        let stem = if named { last.rsplit_once('.').map_or(last, |(stem, _)| stem) } else { last };
        if let Some(same) = self.stems.get(stem) {
            return found(
                "no such file",
                same,
                if named { "the path has another extension" } else { "the path lacks its extension" },
            );
        }
        if name.starts_with('~') {
            return "no such file; `~` is not replaced in a list: write the path of the folder".to_owned();
        }
        if plain.get(1..3) == Some(":/") || plain.starts_with("//") {
            return "a path of another computer; write paths relative to the folder of the list".to_owned();
        }
        "no such file; paths are relative to the folder of the list".to_owned()
    }
}

/// With `/` between folders, and none that says nothing.
fn plain(name: &str) -> String {
    let slashes = name.replace('\\', "/");
    let rooted = slashes.starts_with('/');
    let parts: Vec<&str> = slashes.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let double = slashes.starts_with("//");
    format!(
        "{}{}",
        if double {
            "//"
        } else if rooted {
            "/"
        } else {
            ""
        },
        parts.join("/")
    )
}

fn found(what: &str, same: &[String], cause: &str) -> String {
    match same {
        [one] => format!("{what}; `{one}` is there: {cause}"),
        [one, others @ ..] => format!("{what}; `{one}` and {} others are there: {cause}", others.len()),
        [] => what.to_owned(),
    }
}

//! A folder with four IDX files, under whatever names.

use std::path::Path;

use super::catalog::CATALOG;
use super::known::assemble_known;
use crate::dataset::{DatasetPair, measure};
use crate::error::DataError;
use crate::formats::class_names::named_classes;
use crate::formats::idx::{self, Content};
use crate::formats::idx_set::{IdxFile, assemble};

/// Loads four files, each with `train` or `t10k`/`test`, and `images` or `labels` in its name; `names` are those of the
/// entries of `folder`.
pub(crate) fn load(folder: &Path, names: &[String]) -> Result<DatasetPair, DataError> {
    let roles = [
        (&["train"][..], "images", Content::Images),
        (&["train"][..], "labels", Content::Labels),
        (&["t10k", "test"][..], "images", Content::Images),
        (&["t10k", "test"][..], "labels", Content::Labels),
    ];
    let mut parts = Vec::with_capacity(4);
    for (part, content_name, content) in roles {
        let matching = names.iter().filter(|name| {
            name.contains("ubyte")
                && name.contains(content_name)
                && part.iter().any(|part| name.contains(part))
        });
        let matching: Vec<&String> = matching.collect();
        let name = match matching[..] {
            [name] => name,
            // The plain file and its compressed twin: the plain one is read faster.
            [plain, packed] if *packed == format!("{plain}.gz") => plain,
            _ => {
                let reason = format!(
                    "expected one file with {} and `{content_name}` in its name, such as \
                     {}-{content_name}-idx{}-ubyte or the same with .gz, found {}",
                    part.iter().map(|part| format!("`{part}`")).collect::<Vec<_>>().join(" or "),
                    part[0],
                    content.rank(),
                    if matching.is_empty() { "none".to_owned() } else { format!("{matching:?}") },
                );
                return Err(DataError::Folder { path: folder.to_owned(), reason });
            }
        };
        let path = folder.join(name);
        let idx = idx::read(&path, content)?;
        parts.push(IdxFile { path, idx });
    }
    let Ok(parts) = <[IdxFile; 4]>::try_from(parts) else {
        let reason = "not four files".to_owned();
        return Err(DataError::Folder { path: folder.to_owned(), reason });
    };
    let origin = folder.display().to_string();
    let hashes = parts.each_ref().map(|part| part.idx.sha256.as_str());
    if let Some(known) = CATALOG.iter().find(|known| known.files.each_ref().map(|file| file.sha256) == hashes)
    {
        return assemble_known(known, parts, origin);
    }
    let sha256 = parts.iter().map(|part| {
        let name = part.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (name, part.idx.sha256.clone())
    });
    let sha256 = sha256.collect();
    let class_names = class_names(folder, &parts[1].idx.bytes)?;
    let name = folder.file_name().map_or_else(|| origin.clone(), |name| name.to_string_lossy().into_owned());
    let (train, test) = assemble(&name, parts, &class_names)?;
    let preprocessing = measure(&train);
    Ok(DatasetPair::published(train, test, preprocessing, sha256, origin))
}

/// The lines of `classes.txt`, or the numbers from 0 to the highest training label.
fn class_names(folder: &Path, labels: &[u8]) -> Result<Vec<String>, DataError> {
    let path = folder.join("classes.txt");
    match std::fs::read(&path) {
        Ok(bytes) => {
            let names = named_classes(&path, &bytes)?;
            if names.is_empty() {
                return Err(DataError::Folder { path, reason: "no class is named in it".to_owned() });
            }
            Ok(names)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let highest = labels.iter().copied().max().unwrap_or(0);
            Ok((0..=highest).map(|class| class.to_string()).collect())
        }
        Err(error) => Err(DataError::io("read", &path)(error)),
    }
}

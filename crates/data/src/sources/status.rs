//! Where each known data set is on this machine, without fetching anything.

use super::archive::{self, ARCHIVES};
use super::catalog::{CATALOG, KnownDataset};
use super::found::{Found, FoundFile, Status};
use super::known::{cache_dir, find_in_folders, find_installed, read_folder};
use super::search::Search;
use crate::dataset::class_counts;
use crate::error::Attempt;

/// Where each known data set is, without downloading, moving or writing anything.
pub fn status(search: &Search) -> Vec<Status> {
    let files = CATALOG.iter().map(|known| local_status(known, search));
    files.chain(ARCHIVES.iter().map(|known| archive::status(known, search))).collect()
}

fn local_status(known: &'static KnownDataset, search: &Search) -> Status {
    let mut attempts = Vec::new();
    let found = find_in_folders(known, search, &mut attempts)
        .or_else(|| {
            let cache = cache_dir(search, known)?;
            let source = format!("cache {}", cache.display());
            match read_folder(known, &cache) {
                Ok(files) => Some((files, source)),
                Err(reason) => {
                    attempts.push(Attempt { source, reason });
                    None
                }
            }
        })
        .or_else(|| find_installed(known, search, &mut attempts));
    let found = found.map(|(files, origin)| {
        let [train_images, train_labels, _, test_labels] = &files;
        Found {
            origin,
            class_names: known.class_names.map(String::from).to_vec(),
            train_counts: class_counts(&train_labels.labels(), known.class_names.len()),
            test_counts: class_counts(&test_labels.labels(), known.class_names.len()),
            size: [train_images.idx.dimensions[1], train_images.idx.dimensions[2]],
            files: files
                .iter()
                .map(|part| FoundFile {
                    path: part.path.clone(),
                    bytes: part.path.metadata().map_or(0, |metadata| metadata.len()),
                    sha256: part.idx.sha256.clone(),
                })
                .collect(),
        }
    });
    Status { name: known.name.to_owned(), found, attempts }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::world::{Server, World};

    #[test]
    fn status_neither_moves_nor_creates_anything() {
        let folder = tempfile::tempdir().unwrap();
        let search = Search {
            data_dir: Some(folder.path().join("data")),
            cache_dir: Some(folder.path().join("cache")),
            packages: false,
            ..Search::default()
        };
        let states = status(&search);
        assert_eq!(states.len(), CATALOG.len() + ARCHIVES.len());
        assert!(states.iter().all(|state| state.found.is_none() && state.attempts.len() == 3));
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);

        let world = World::new();
        world.obtain(&[&Server::new(world.good())]).unwrap();
        let found = local_status(world.known, &world.search(&[])).found.unwrap();
        assert_eq!(found.train_counts, [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(found.files[0].bytes, 28);
        let path = world.cached().join(world.known.files[1].name);
        std::fs::write(&path, "damaged").unwrap();
        let state = local_status(world.known, &world.search(&[]));
        assert!(state.found.is_none() && state.attempts[2].reason.contains("train-labels"), "{state:?}");
        assert!(path.exists());
    }
}

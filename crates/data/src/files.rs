//! Writing files so that nobody reads half of one: under another name until they are whole.

use std::fs::File;
use std::io;
use std::path::Path;

use tempfile::NamedTempFile;

/// A new file in `folder` that vanishes unless it is kept (see [`keep`]); its name begins and ends as asked for. It can
/// be read by whom the process lets read its files (its umask).
///
/// # Errors
/// When the system refuses.
pub fn temporary(folder: &Path, prefix: &str, suffix: &str) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix).suffix(suffix);
    // tempfile would make it private; the umask is taken off this.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

/// Gives a written file its name, over what had it: after a kill at any moment the old file is there or the new one,
/// whole.
///
/// # Errors
/// When the system refuses.
pub fn keep(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    sync_folder(path.parent().unwrap_or(Path::new("")));
    Ok(())
}

/// Makes renames in `folder` durable where the system can do that.
pub fn sync_folder(folder: &Path) {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    // Not every system lets a folder be opened; the rename itself is atomic all the same.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_has_its_name_when_it_is_kept_and_the_mode_of_any_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ours");
        let names =
            || folder.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
        let mut file = temporary(folder.path(), ".new-", "-half").unwrap();
        file.write_all(b"lost").unwrap();
        let name = names()[0].to_string_lossy().into_owned();
        assert!(name.starts_with(".new-") && name.ends_with("-half"), "{name}");
        drop(file);
        assert!(names().is_empty());
        for content in ["first", "second"] {
            let mut file = temporary(folder.path(), ".new-", "").unwrap();
            file.write_all(content.as_bytes()).unwrap();
            keep(file, &path).unwrap();
            assert_eq!((std::fs::read_to_string(&path).unwrap(), names().len()), (content.to_owned(), 1));
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
            File::create(folder.path().join("plain")).unwrap();
            assert_eq!(mode(&path), mode(&folder.path().join("plain")));
        }
    }
}

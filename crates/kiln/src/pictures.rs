//! The pictures that a command was given: files, folders, standard input.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use data::DecodeLimits;
use data::pictures::{EXTENSIONS, Found, What, unread};
use model::Picture;
use train::command::Failure;

/// Where one picture comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A file.
    File(PathBuf),
    /// What a folder holds in the place of a picture, and why it is none.
    Lost(PathBuf, String),
    /// Standard input holds one picture.
    Stdin,
}

impl Source {
    /// As it is printed.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::File(path) | Self::Lost(path, _) => path.display().to_string(),
            Self::Stdin => "-".to_owned(),
        }
    }

    /// The name without folder and extension, for a file that is made of it.
    pub(crate) fn stem(&self) -> String {
        match self {
            Self::File(path) | Self::Lost(path, _) => path
                .file_stem()
                .map_or_else(|| "picture".to_owned(), |stem| stem.to_string_lossy().into_owned()),
            Self::Stdin => "stdin".to_owned(),
        }
    }

    /// Reads and decodes it within the usual limits.
    pub(crate) fn read(&self) -> Result<Picture, String> {
        let limits = DecodeLimits::default();
        let read = |reader: &mut dyn Read| {
            let mut bytes = Vec::new();
            // One byte more than allowed tells a file that is too long from one that is not.
            reader.take(limits.bytes + 1).read_to_end(&mut bytes).map(|_| bytes)
        };
        let bytes = match self {
            Self::File(path) => fs::File::open(path).and_then(|mut file| read(&mut file)),
            Self::Lost(_, reason) => return Err(reason.clone()),
            Self::Stdin => read(&mut std::io::stdin().lock()),
        };
        let bytes = bytes.map_err(|error| format!("cannot read it: {error}"))?;
        data::decode(&bytes, &limits).map_err(|error| error.to_string())
    }
}

/// The pictures that the arguments name: a file is taken whatever its name, a folder is searched with the
/// folders in it, in the order of their names, as training searches it. What is lost there is a source too, so that it is
/// told in its place.
pub(crate) fn sources(arguments: &[PathBuf]) -> Result<Vec<Source>, Failure> {
    let mut sources = Vec::new();
    for argument in arguments {
        if argument == Path::new("-") {
            if sources.contains(&Source::Stdin) {
                return Err(Failure::usage(
                    "`-` names standard input, which holds one picture; give it once",
                ));
            }
            sources.push(Source::Stdin);
        } else if argument.is_dir() {
            let before = sources.len();
            let found = data::pictures::walk(argument, argument).map_err(Failure::failed)?;
            sources.extend(found.into_iter().filter_map(source));
            if sources.len() == before {
                return Err(Failure::failed(format!(
                    "{} holds no picture; expected files named .{}",
                    argument.display(),
                    EXTENSIONS.join(", .")
                )));
            }
        } else {
            sources.push(Source::File(argument.clone()));
        }
    }
    Ok(sources)
}

fn source(Found { path, what }: Found) -> Option<Source> {
    match what {
        // Opening a pipe would wait for its writer.
        What::Picture if !path.is_file() => Some(Source::Lost(path, "not a regular file".to_owned())),
        What::Picture => Some(Source::File(path)),
        What::Unread(format) => Some(Source::Lost(path, unread(format))),
        What::Lost(reason) => Some(Source::Lost(path, format!("cannot read it: {reason}"))),
        What::Unreachable(reason) => Some(Source::Lost(path, reason)),
        // Their pictures are among the sources.
        What::Back(_) | What::Again(_) | What::Other => None,
    }
}

/// Where the picture made of each source goes: the file itself for one source, or a folder with one file
/// for each.
///
/// # Errors
/// When it is no place for PNG files, or a source lies there.
pub(crate) fn outputs(target: &Path, sources: &[Source]) -> Result<Vec<PathBuf>, Failure> {
    let outputs = places(target, sources)?;
    let read: HashSet<PathBuf> = sources
        .iter()
        .filter_map(|source| match source {
            Source::File(path) | Source::Lost(path, _) => path.canonicalize().ok(),
            Source::Stdin => None,
        })
        .collect();
    match outputs.iter().find(|path| path.canonicalize().is_ok_and(|path| read.contains(&path))) {
        Some(path) => Err(Failure::usage(format!(
            "{} is one of the pictures that are read, and would be overwritten: name another place for what is made of them",
            path.display()
        ))),
        None => Ok(outputs),
    }
}

/// Refuses to write over `input`, which was read.
pub(crate) fn keep(input: &Path, out: &Path, what: &str) -> Result<(), Failure> {
    let same = matches!((input.canonicalize(), out.canonicalize()), (Ok(input), Ok(out)) if input == out);
    if same {
        return Err(Failure::usage(format!(
            "--out {} is {what}, and would be overwritten: name another file",
            out.display()
        )));
    }
    Ok(())
}

/// Whether a drawing, which is a PNG file, can go to `target` without taking the place of the data at `places`: a folder
/// of pictures, a list, or a picture that a list names.
///
/// # Errors
/// When it cannot.
pub(crate) fn check_drawing<'a>(
    target: &Path,
    places: impl IntoIterator<Item = &'a str>,
) -> Result<(), Failure> {
    if !is_png(target) || target.is_dir() {
        return Err(Failure::usage(format!(
            "{}: expected the name of a file, ending in .png",
            target.display()
        )));
    }
    let Ok(there) = target.canonicalize() else { return Ok(()) };
    for place in places {
        let Ok(data) = Path::new(place).canonicalize() else { continue };
        let is_data =
            if data.is_dir() { there.starts_with(&data) } else { data == there || names(&data, &there) };
        if is_data {
            return Err(Failure::usage(format!(
                "{} is there already, and belongs to the data {place}: name another file for the drawing",
                target.display()
            )));
        }
    }
    Ok(())
}

/// Whether a list of pictures has `file` in one of its cells.
fn names(list: &Path, file: &Path) -> bool {
    let folder = list.parent().unwrap_or(Path::new(""));
    let bytes = fs::read(list).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let cells = text.split(['\n', '\r', ',', ';', '\t', '"']).map(str::trim).filter(|cell| !cell.is_empty());
    cells.into_iter().any(|cell| folder.join(cell).canonicalize().is_ok_and(|path| path == file))
}

fn is_png(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"))
}

/// Endings of files that nobody means a folder by.
const OTHER_FILES: [&str; 6] = ["txt", "csv", "json", "svg", "pdf", "html"];

fn places(target: &Path, sources: &[Source]) -> Result<Vec<PathBuf>, Failure> {
    if is_png(target) && !target.is_dir() {
        return match sources {
            [_] => Ok(vec![target.to_owned()]),
            _ => Err(Failure::usage(format!(
                "{} is one file for {} pictures: name a folder",
                target.display(),
                sources.len()
            ))),
        };
    }
    let extension = target.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    let is_file = |extension: String| {
        EXTENSIONS.contains(&extension.as_str()) || OTHER_FILES.contains(&extension.as_str())
    };
    if target.is_file() || !target.is_dir() && extension.is_some_and(is_file) {
        return Err(Failure::usage(format!(
            "{}: what is drawn is a PNG file: expected a folder, or the name of a file ending in .png",
            target.display()
        )));
    }
    let mut taken = HashMap::new();
    Ok(sources
        .iter()
        .map(|source| {
            let stem = source.stem();
            let count: &mut usize = taken.entry(stem.clone()).or_default();
            *count += 1;
            let name = if *count == 1 { format!("{stem}.png") } else { format!("{stem}-{count}.png") };
            target.join(name)
        })
        .collect())
}

/// An image of the network, `[C, H, W]`, as a PNG file.
pub(crate) fn png(planes: &[u8], width: usize, height: usize, channels: usize) -> Result<Vec<u8>, Failure> {
    let color = if channels == 1 { image::ExtendedColorType::L8 } else { image::ExtendedColorType::Rgb8 };
    let plane = width * height;
    let interleaved: Vec<u8> =
        (0..plane).flat_map(|at| (0..channels).map(move |channel| planes[channel * plane + at])).collect();
    let mut bytes = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    image::ImageEncoder::write_image(encoder, &interleaved, width as u32, height as u32, color)
        .map_err(|error| Failure::failed(format!("cannot encode a PNG file: {error}")))?;
    Ok(bytes)
}

/// Writes a file whole or not at all.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    train::run::files::write_atomically(path, bytes)
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))
}

//! What lies in a folder, the same for everyone who looks for pictures there: training, checks and predictions.

use std::collections::HashSet;
use std::fs::FileType;
use std::path::{Path, PathBuf};

use crate::error::DataError;

/// File name extensions of pictures, in lower case.
pub const EXTENSIONS: [&str; 10] = ["png", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "gif", "tif", "tiff"];

/// Extensions of pictures that are not read, and what they are.
const UNREAD: [(&str, &str); 43] = [
    ("heic", "HEIC"),
    ("heif", "HEIF"),
    ("hif", "HEIF"),
    ("avif", "AVIF"),
    ("jxl", "JPEG XL"),
    ("jp2", "JPEG 2000"),
    ("j2k", "JPEG 2000"),
    ("jpf", "JPEG 2000"),
    ("jpx", "JPEG 2000"),
    ("jxr", "JPEG XR"),
    ("svg", "SVG"),
    ("psd", "Photoshop"),
    ("xcf", "GIMP"),
    ("exr", "OpenEXR"),
    ("hdr", "Radiance HDR"),
    ("ico", "icon"),
    ("tga", "TGA"),
    ("pcx", "PCX"),
    ("dds", "DDS"),
    ("ppm", "PNM"),
    ("pgm", "PNM"),
    ("pbm", "PNM"),
    ("pnm", "PNM"),
    ("qoi", "QOI"),
    ("dcm", "DICOM"),
    ("nii", "NIfTI"),
    ("fits", "FITS"),
    ("dng", "camera raw"),
    ("cr2", "camera raw"),
    ("cr3", "camera raw"),
    ("crw", "camera raw"),
    ("nef", "camera raw"),
    ("nrw", "camera raw"),
    ("arw", "camera raw"),
    ("sr2", "camera raw"),
    ("orf", "camera raw"),
    ("rw2", "camera raw"),
    ("raf", "camera raw"),
    ("pef", "camera raw"),
    ("srw", "camera raw"),
    ("djvu", "DjVu"),
    ("pdf", "PDF"),
    ("eps", "PostScript"),
];

/// Files and folders that systems and programs leave among the pictures: thumbnails, waste bins, copies of archives.
/// In lower case.
const LEFTOVERS: [&str; 17] = [
    "@eadir",
    "@recycle",
    "@recently-snapshot",
    "@tmp",
    "#recycle",
    "#snapshot",
    "__macosx",
    "__pycache__",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "icon\r",
    "lost+found",
    "$recycle.bin",
    "recycler",
    "system volume information",
    "found.000",
];

/// What an entry of a folder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A picture by its name.
    Picture,
    /// A picture by its name, of this format, which is not read.
    Unread(&'static str),
    /// Another file.
    Other,
    /// A folder.
    Folder,
    /// A link that leads nowhere, or in a circle; why.
    Nowhere(String),
}

/// Whether a file or folder of this name is hidden, or a system's own: nobody's picture.
pub(crate) fn is_leftover(name: &str) -> bool {
    name.starts_with('.') || LEFTOVERS.contains(&name.to_lowercase().as_str())
}

/// What a file is by its name.
pub(crate) fn kind_of_file(path: &Path) -> Kind {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    let Some(extension) = extension else { return Kind::Other };
    if EXTENSIONS.contains(&extension.as_str()) {
        return Kind::Picture;
    }
    let unread = UNREAD.iter().find(|(name, _)| *name == extension);
    unread.map_or(Kind::Other, |(_, format)| Kind::Unread(format))
}

fn kind_of(path: &Path, own: Option<FileType>) -> Kind {
    // Links are asked what they lead to.
    match own {
        Some(own) if own.is_dir() => return Kind::Folder,
        Some(own) if !own.is_symlink() => return kind_of_file(path),
        _ => {}
    }
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => Kind::Folder,
        Ok(_) => kind_of_file(path),
        Err(error) => {
            let reason = match path.read_link() {
                Ok(target) if error.kind() == std::io::ErrorKind::NotFound => {
                    format!("a link to {}, which is not there", target.display())
                }
                Ok(target) => format!("a link to {}, which cannot be followed: {error}", target.display()),
                Err(_) => format!("a link that cannot be followed: {error}"),
            };
            Kind::Nowhere(reason)
        }
    }
}

/// An entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) kind: Kind,
}

/// The entries of a folder by name, without hidden files and leftovers.
pub(crate) fn entries(folder: &Path) -> Result<Vec<Entry>, DataError> {
    let mut entries = Vec::new();
    for entry in folder.read_dir().map_err(DataError::io("list", folder))? {
        let entry = entry.map_err(DataError::io("list", folder))?;
        let path = entry.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !is_leftover(&name) {
            let kind = kind_of(&path, entry.file_type().ok());
            entries.push(Entry { name, path, kind });
        }
    }
    entries.sort_by(|a, b| (&a.name, &a.path).cmp(&(&b.name, &b.path)));
    Ok(entries)
}

/// What a walk came upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The file, folder or link.
    pub path: PathBuf,
    /// What it is.
    pub what: What,
}

/// See [`Found`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A picture by its name.
    Picture,
    /// A picture by its name, of this format, which is not read.
    Unread(&'static str),
    /// A picture by its name, behind a link that leads nowhere; why.
    Lost(String),
    /// Another file.
    Other,
    /// A link that leads nowhere, or a folder that cannot be listed; why. Pictures may be missing.
    Unreachable(String),
    /// A link that leads back to a folder that it is in; which. It is not followed.
    Back(PathBuf),
    /// A link to a folder that was searched already; which. It is not followed again.
    Again(PathBuf),
}

/// Everything below `folder` in the order of names, without hidden files and leftovers. Links are followed; every
/// folder is searched once, whatever leads to it, and none that lies above `folder` or is `top`, or lies above that.
///
/// # Errors
/// When `folder` itself cannot be listed.
pub fn walk(folder: &Path, top: &Path) -> Result<Vec<Found>, DataError> {
    let real = |path: &Path| path.canonicalize().map_err(DataError::io("resolve", path));
    let mut walk =
        Walk { found: Vec::new(), seen: HashSet::new(), above: vec![real(top)?], left: usize::MAX };
    let own = real(folder)?;
    // Where the folder is itself a link that leads back, that is what there is to say.
    if folder != top && walk.above.iter().any(|above| above.starts_with(&own)) {
        return Ok(vec![Found { path: folder.to_owned(), what: What::Back(own) }]);
    }
    let entries = entries(folder)?;
    walk.enter(own, entries);
    Ok(walk.found)
}

/// [`walk`] until `most` files and folders are found; what cannot be listed is left out.
pub(crate) fn walk_some(folder: &Path, most: usize) -> Vec<Found> {
    let mut walk = Walk { found: Vec::new(), seen: HashSet::new(), above: Vec::new(), left: most };
    if let Ok((own, entries)) =
        folder.canonicalize().map_err(drop).and_then(|own| Ok((own, entries(folder).map_err(drop)?)))
    {
        walk.enter(own, entries);
    }
    walk.found
}

struct Walk {
    found: Vec<Found>,
    seen: HashSet<PathBuf>,
    /// The folders that the walk is in, without links.
    above: Vec<PathBuf>,
    /// Entries that may still be looked at.
    left: usize,
}

impl Walk {
    fn enter(&mut self, real: PathBuf, entries: Vec<Entry>) {
        self.seen.insert(real.clone());
        self.above.push(real);
        for Entry { path, kind, .. } in entries {
            let Some(left) = self.left.checked_sub(1) else { break };
            self.left = left;
            let what = match kind {
                Kind::Picture => What::Picture,
                Kind::Unread(format) => What::Unread(format),
                Kind::Other => What::Other,
                Kind::Nowhere(reason) if kind_of_file(&path) == Kind::Picture => What::Lost(reason),
                Kind::Nowhere(reason) => What::Unreachable(reason),
                Kind::Folder => match self.folder(&path) {
                    Some(what) => what,
                    None => continue,
                },
            };
            self.found.push(Found { path, what });
        }
        self.above.pop();
    }

    /// Searches a folder, or says why it is not.
    fn folder(&mut self, path: &Path) -> Option<What> {
        let real = match path.canonicalize() {
            Ok(real) => real,
            Err(error) => return Some(What::Unreachable(format!("it cannot be resolved: {error}"))),
        };
        if self.above.iter().any(|above| above.starts_with(&real)) {
            return Some(What::Back(real));
        }
        if self.seen.contains(&real) {
            return Some(What::Again(real));
        }
        match entries(path) {
            Ok(entries) => self.enter(real, entries),
            Err(error) => return Some(What::Unreachable(error.to_string())),
        }
        None
    }
}

/// Whether there is a picture in the folder or below it, read or not.
pub(crate) fn holds_pictures(folder: &Path) -> bool {
    let mut seen = HashSet::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        if !folder.canonicalize().is_ok_and(|real| seen.insert(real)) {
            continue;
        }
        for Entry { path, kind, .. } in entries(&folder).unwrap_or_default() {
            match kind {
                Kind::Picture | Kind::Unread(_) => return true,
                Kind::Folder => waiting.push(path),
                Kind::Other | Kind::Nowhere(_) => {}
            }
        }
    }
    false
}

/// What is wrong with, and what to do with, a picture of a format that is not read.
pub fn unread(format: &str) -> String {
    format!("a picture of the format {format}, which is not read; save it as PNG or JPEG")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pictures::tests::tree;

    fn walked(folder: &Path) -> Vec<(String, What)> {
        let found = walk(folder, folder).unwrap();
        let name = |path: &Path| path.strip_prefix(folder).unwrap().display().to_string();
        found.into_iter().map(|found| (name(&found.path), found.what)).collect()
    }

    #[test]
    fn names_decide_and_leftovers_are_nobodys_pictures() {
        let leftovers = [
            ".DS_Store",
            "._1.png",
            ".ipynb_checkpoints/1.png",
            "@eaDir/1.png/THUMB.jpg",
            "__MACOSX/1.png",
            "a/@eaDir/x.jpg",
            "#recycle/1.png",
            "lost+found/1.png",
            "$RECYCLE.BIN/1.png",
            "Thumbs.db",
            "System Volume Information/1.png",
            "DESKTOP.INI",
            "@Recycle/1.png",
        ];
        let files = ["1.jpe", "2.JFIF", "3.tif", "4.HEIC", "5.avif", "6.txt", "7", "a/deep/er/8.png"];
        let folder = tree(&[&leftovers[..], &files].concat());
        let expected = [
            ("1.jpe", What::Picture),
            ("2.JFIF", What::Picture),
            ("3.tif", What::Picture),
            ("4.HEIC", What::Unread("HEIC")),
            ("5.avif", What::Unread("AVIF")),
            ("6.txt", What::Other),
            ("7", What::Other),
            ("a/deep/er/8.png", What::Picture),
        ];
        assert_eq!(walked(folder.path()), expected.map(|(name, what)| (name.to_owned(), what)));
        assert!(holds_pictures(folder.path()) && !holds_pictures(tree(&["@eaDir/1.png"]).path()));
    }

    #[cfg(unix)]
    #[test]
    fn every_folder_is_searched_once_whatever_links_lead_to_it() {
        use std::os::unix::fs::symlink;

        let folder = tree(&["root/a/1.png", "root/b/2.png", "elsewhere/3.png", "4.png"]);
        let root = folder.path().join("root");
        // Doors between the folders: 2^20 ways, were each followed.
        for number in 0..20 {
            symlink("../b", root.join(format!("a/b{number:02}"))).unwrap();
            symlink("../a", root.join(format!("b/a{number:02}"))).unwrap();
        }
        symlink("..", root.join("a/up")).unwrap();
        symlink(folder.path(), root.join("a/above")).unwrap();
        symlink("/", root.join("a/everything")).unwrap();
        symlink("../elsewhere", root.join("c")).unwrap();
        symlink("itself", root.join("itself")).unwrap();
        symlink("nothing", root.join("gone")).unwrap();
        symlink("gone.png", root.join("gone.jpg")).unwrap();
        let found = walked(&root);
        let pictures: Vec<&str> =
            found.iter().filter(|(_, what)| *what == What::Picture).map(|(name, _)| name.as_str()).collect();
        assert_eq!(pictures, ["a/1.png", "a/b00/2.png", "c/3.png"]);
        let what = |wanted: &str| found.iter().find(|(name, _)| name == wanted).unwrap().1.clone();
        for back in ["a/up", "a/above", "a/everything", "a/b00/a00"] {
            assert!(matches!(what(back), What::Back(_)), "{back}");
        }
        assert!(matches!(what("a/b01"), What::Again(_)));
        assert!(
            matches!(what("gone"), What::Unreachable(reason) if reason == "a link to nothing, which is not there")
        );
        assert!(matches!(what("itself"), What::Unreachable(reason) if reason.contains("cannot be followed")));
        assert!(matches!(what("gone.jpg"), What::Lost(_)));
    }
}

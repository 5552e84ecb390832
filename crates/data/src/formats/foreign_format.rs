//! Files that people take for pictures that Kiln reads, recognised by their first bytes.

const SAVE: &str = "save it as JPEG or PNG";
const DEVELOP: &str = "develop it to JPEG, PNG or TIFF";
const DRAW: &str = "draw it as a PNG of the size that is wanted";

/// Name and advice, by what the file begins with.
const BEGINNINGS: [(&[u8], &str, &str); 29] = [
    (b"\xFF\x0A", "a JPEG XL image", SAVE),
    (b"\0\0\0\x0CJXL \r\n\x87\n", "a JPEG XL image", SAVE),
    (b"\0\0\0\x0CjP  \r\n\x87\n", "a JPEG 2000 image", SAVE),
    (b"\xFF\x4F\xFF\x51", "a JPEG 2000 image", SAVE),
    (b"8BPS", "a Photoshop document", SAVE),
    (b"gimp xcf", "a GIMP document", SAVE),
    (b"%PDF", "a PDF document", DRAW),
    (b"%!PS", "a PostScript document", DRAW),
    (b"<svg", "an SVG drawing", DRAW),
    (b"II\x1A\0\0\0HEAPCCDR", "a Canon CRW raw photo", DEVELOP),
    (b"IIU\0", "a Panasonic RW2 raw photo", DEVELOP),
    (b"IIRO", "an Olympus ORF raw photo", DEVELOP),
    (b"IIRS", "an Olympus ORF raw photo", DEVELOP),
    (b"MMOR", "an Olympus ORF raw photo", DEVELOP),
    (b"FUJIFILMCCD-RAW", "a Fujifilm RAF raw photo", DEVELOP),
    (b"FOVb", "a Sigma X3F raw photo", DEVELOP),
    (b"\0MRM", "a Minolta MRW raw photo", DEVELOP),
    (b"II\xBC\x01", "a JPEG XR image", SAVE),
    (b"\0\0\x01\0", "a Windows icon", SAVE),
    (b"qoif", "a QOI image", SAVE),
    (b"\x76\x2F\x31\x01", "an OpenEXR image", SAVE),
    (b"#?RADIANCE", "a Radiance HDR image", SAVE),
    (b"SIMPLE  =", "a FITS image", SAVE),
    (b"\x8A\x4D\x4E\x47", "an MNG animation", SAVE),
    (b"AT&TFORM", "a DjVu document", SAVE),
    (b"DDS ", "a DirectDraw texture", SAVE),
    (b"PK\x03\x04", "a ZIP archive", "unpack it"),
    (b"\x1F\x8B", "a gzip file", "unpack it"),
    (
        b"version https://git-lfs",
        "a Git LFS pointer in place of the file",
        "fetch the file with `git lfs pull`",
    ),
];

/// Brands of the ISO base media format (ISO/IEC 14496-12), at byte 8.
const BRANDS: [(&[&[u8; 4]], &str, &str); 4] = [
    (&[b"avif", b"avis"], "an AVIF image", SAVE),
    (
        &[b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1"],
        "an HEIC image",
        "save it as JPEG or PNG (in the settings of an iPhone's camera, Formats: Most Compatible)",
    ),
    (&[b"crx "], "a Canon CR3 raw photo", DEVELOP),
    (&[b"jxl "], "a JPEG XL image", SAVE),
];

/// What the bytes are and what to do with them, where they are known and not read.
pub(crate) fn recognised(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    if bytes.get(4..8) == Some(b"ftyp") {
        let brand = bytes.get(8..12)?;
        let brands = BRANDS.iter().find(|(brands, ..)| brands.iter().any(|known| known.as_slice() == brand));
        // A HEIF file with pictures as AVIF inside says so among its compatible brands.
        let compatible = bytes.get(16..64.min(bytes.len())).unwrap_or_default();
        let is_avif = compatible.chunks_exact(4).any(|brand| brand == b"avif");
        return Some(match brands {
            Some((_, "an HEIC image", _)) if is_avif => ("an AVIF image", SAVE),
            Some((_, name, advice)) => (name, advice),
            None => ("a video", "take pictures out of it"),
        });
    }
    if bytes.get(128..132) == Some(b"DICM") {
        return Some(("a DICOM image", SAVE));
    }
    if let [b'P', b'1'..=b'7', b' ' | b'\n' | b'\r' | b'\t' | b'#', ..] = bytes {
        return Some(("a netpbm image", SAVE));
    }
    let known = BEGINNINGS.iter().find(|(beginning, ..)| bytes.starts_with(beginning));
    if let Some((_, name, advice)) = known {
        return Some((name, advice));
    }
    // Text, after what may stand before it.
    let start = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let start = String::from_utf8_lossy(&start[..start.len().min(1024)]).trim_start().to_lowercase();
    if start.starts_with("<!doctype html") || start.starts_with("<html") {
        return Some(("a web page", "get the picture itself"));
    }
    let is_markup =
        start.starts_with("<?xml") || start.starts_with("<!doctype svg") || start.starts_with("<!--");
    (start.starts_with("<svg") || is_markup && start.contains("<svg")).then_some(("an SVG drawing", DRAW))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_that_are_not_read_are_called_by_name() {
        let brand =
            |brand: &[u8; 4], more: &[u8]| [b"\0\0\0\x20ftyp", brand.as_slice(), b"\0\0\0\0", more].concat();
        for (bytes, name) in [
            (brand(b"heic", b"mif1heic"), "HEIC"),
            (brand(b"mif1", b"mif1avif"), "AVIF"),
            (brand(b"avif", b""), "AVIF"),
            (brand(b"crx ", b""), "CR3"),
            (brand(b"isom", b""), "video"),
            (b"\xFF\x0A\xFA\x1F".to_vec(), "JPEG XL"),
            (b"\0\0\0\x0CjP  \r\n\x87\n".to_vec(), "JPEG 2000"),
            (b"8BPS\0\x01".to_vec(), "Photoshop"),
            (b"%PDF-1.7".to_vec(), "PDF"),
            (b"\xEF\xBB\xBF <?xml version='1.0'?>\n<!-- x -->\n<SVG width='1'>".to_vec(), "SVG"),
            (b"<svg xmlns='http://www.w3.org/2000/svg'/>".to_vec(), "SVG"),
            (b"<!DOCTYPE html><p>404".to_vec(), "web page"),
            ([&[0; 128][..], b"DICM"].concat(), "DICOM"),
            (b"P6\n2 2 255\n".to_vec(), "netpbm"),
        ] {
            let found = recognised(&bytes).map(|(name, _)| name);
            assert!(found.is_some_and(|found| found.contains(name)), "{name}: {found:?}");
        }
        assert_eq!(recognised(b"hello"), None);
        assert_eq!(recognised(b"\xFF\xD8\xFF\xE0"), None);
    }
}

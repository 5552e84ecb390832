//! What a picture file shows, without its name, its time of change and its metadata.

use image::ImageFormat;
use image::metadata::Orientation;
use model::Picture;
use sha2::{Digest, Sha256};

use crate::dataset::ContentHash;

/// Of a file that was decoded to `picture`, which has the size of the file.
///
/// JPEG and WebP: the SHA-256 of the file without metadata, since programs decode them to pixels that differ by a
/// rounding; where the metadata turn the picture, how. Of other formats the pixels count, so that a picture as PNG and
/// as BMP is one.
pub(crate) fn of_picture(bytes: &[u8], picture: &Picture) -> ContentHash {
    let kept = match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => without_jpeg_metadata(bytes),
        Ok(ImageFormat::WebP) => without_webp_metadata(bytes),
        _ => {
            let (width, height) = (picture.width(), picture.height());
            return ContentHash::of_pixels(width, height, picture.channels(), picture.pixels());
        }
    };
    let mut hash = Sha256::new();
    kept.parts.iter().for_each(|part| hash.update(part));
    if let Some(orientation) = kept.exif.and_then(Orientation::from_exif_chunk)
        && orientation != Orientation::NoTransforms
    {
        hash.update([orientation.to_exif()]);
    }
    hash.into()
}

/// What counts of a file.
#[derive(Default)]
struct Kept<'a> {
    parts: Vec<&'a [u8]>,
    /// The first EXIF block.
    exif: Option<&'a [u8]>,
}

/// Without the segments `APPn` and `COM`, and without what follows the end of the picture. What cannot be followed is kept
/// as it is.
fn without_jpeg_metadata(bytes: &[u8]) -> Kept<'_> {
    const STUFFED: u8 = 0;
    const RESTART: std::ops::RangeInclusive<u8> = 0xd0..=0xd7;
    const END_OF_IMAGE: u8 = 0xd9;
    const START_OF_SCAN: u8 = 0xda;
    const APPLICATION: std::ops::RangeInclusive<u8> = 0xe0..=0xef;
    const COMMENT: u8 = 0xfe;
    let (mut rest, mut kept) = (&bytes[bytes.len().min(2)..], Kept::default());
    while let [0xff, marker, body @ ..] = rest {
        let length = match body {
            _ if *marker == END_OF_IMAGE => {
                kept.parts.push(&rest[..2]);
                return kept;
            }
            // Markers may be preceded by any number of such bytes.
            _ if *marker == 0xff => {
                rest = &rest[1..];
                continue;
            }
            [high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
            _ => break,
        };
        if length < 2 || length > body.len() {
            break;
        }
        if APPLICATION.contains(marker) || *marker == COMMENT {
            kept.exif = kept.exif.or_else(|| body[2..length].strip_prefix(b"Exif\0\0"));
            rest = &body[length..];
            continue;
        }
        let mut end = 2 + length;
        if *marker == START_OF_SCAN {
            let scan = rest[end..].windows(2);
            let next = scan.into_iter().position(|pair| {
                pair[0] == 0xff && pair[1] != STUFFED && pair[1] != 0xff && !RESTART.contains(&pair[1])
            });
            end = next.map_or(rest.len(), |next| end + next);
        }
        kept.parts.push(&rest[..end]);
        rest = &rest[end..];
    }
    kept.parts.push(rest);
    kept
}

/// Without the chunks `EXIF`, `XMP ` and `ICCP`, and without the container's length and its list of features, which
/// change with them; of an animation the size of its canvas is kept.
fn without_webp_metadata(bytes: &[u8]) -> Kept<'_> {
    const ANIMATION: u8 = 0b10;
    let (mut rest, mut kept) = (&bytes[bytes.len().min(12)..], Kept::default());
    while let [a, b, c, d, l0, l1, l2, l3, body @ ..] = rest {
        let length = u32::from_le_bytes([*l0, *l1, *l2, *l3]) as usize;
        let Some(content) = body.get(..length) else {
            break;
        };
        let end = body.len().min(length + length % 2);
        match &[*a, *b, *c, *d] {
            b"EXIF" => kept.exif = kept.exif.or(Some(content)),
            b"XMP " | b"ICCP" => {}
            b"VP8X" => {
                if content.first().is_some_and(|features| features & ANIMATION != 0) {
                    kept.parts.push(&content[content.len().min(4)..]);
                }
            }
            _ => kept.parts.push(&rest[..8 + length]),
        }
        rest = &body[end..];
    }
    kept.parts.push(rest);
    kept
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{DynamicImage, ImageBuffer, Rgb};
    use proptest::prelude::*;

    use super::*;
    use crate::formats::decode::decode;
    use crate::formats::decoded::DecodeLimits;

    fn picture(shift: u8) -> DynamicImage {
        DynamicImage::ImageRgb8(ImageBuffer::from_fn(9, 7, |x, y| {
            Rgb([(x * 20) as u8 + shift, (y * 30) as u8, 90])
        }))
    }

    fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn content(bytes: &[u8]) -> ContentHash {
        of_picture(bytes, &decode(bytes, &DecodeLimits::default()).unwrap())
    }

    /// A big-endian TIFF block with one tag: orientation.
    fn exif(orientation: u8) -> Vec<u8> {
        let mut block = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
        block.extend([orientation, 0, 0, 0, 0, 0, 0]);
        block
    }

    fn jpeg_with(segments: &[(u8, &[u8])]) -> Vec<u8> {
        let whole = encoded(&picture(0), ImageFormat::Jpeg);
        let mut bytes = whole[..2].to_vec();
        for (marker, body) in segments {
            bytes.extend([0xff, *marker]);
            bytes.extend((body.len() as u16 + 2).to_be_bytes());
            bytes.extend(*body);
        }
        bytes.extend(&whole[2..]);
        bytes
    }

    #[test]
    fn metadata_of_a_jpeg_do_not_count_and_turning_does() {
        let plain = content(&jpeg_with(&[]));
        let exif_of = |orientation| [b"Exif\0\0", &exif(orientation)[..]].concat();
        for segments in [
            &[(0xfe, &b"a comment"[..])][..],
            &[(0xe1, &exif_of(1)), (0xed, b"Photoshop 3.0")],
            &[(0xe1, b"http://ns.adobe.com/xap/1.0/\0<x/>")],
        ] {
            assert_eq!(content(&jpeg_with(segments)), plain);
        }
        let mut longer = jpeg_with(&[]);
        longer.extend(b"a camera's trailer");
        assert_eq!(content(&longer), plain);
        assert_ne!(content(&jpeg_with(&[(0xe1, &exif_of(6))])), plain);
        assert_ne!(content(&encoded(&picture(1), ImageFormat::Jpeg)), plain);
    }

    fn webp_with(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
        let whole = encoded(&picture(0), ImageFormat::WebP);
        let mut body = b"VP8X\x0a\0\0\0\x08\0\0\0\x08\0\0\x06\0\0".to_vec();
        body.extend(&whole[12..]);
        for (name, content) in chunks {
            body.extend(*name);
            body.extend((content.len() as u32).to_le_bytes());
            body.extend(*content);
            body.extend(vec![0; content.len() % 2]);
        }
        let length = (body.len() as u32 + 4).to_le_bytes();
        [b"RIFF", &length[..], b"WEBP", &body].concat()
    }

    #[test]
    fn metadata_of_a_webp_do_not_count_and_turning_does() {
        let plain = content(&encoded(&picture(0), ImageFormat::WebP));
        assert_eq!(content(&webp_with(&[(b"EXIF", &exif(1)), (b"XMP ", b"<x/>x")])), plain);
        assert_ne!(content(&webp_with(&[(b"EXIF", &exif(6))])), plain);
        assert_ne!(content(&encoded(&picture(1), ImageFormat::WebP)), plain);
    }

    #[test]
    fn one_picture_in_formats_without_loss_is_one() {
        let all = [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff];
        let found = all.map(|format| content(&encoded(&picture(0), format)));
        assert_eq!(found, [found[0]; 3]);
        assert_ne!(content(&encoded(&picture(1), ImageFormat::Png)), found[0]);
        let grey = DynamicImage::ImageLuma8(picture(0).to_luma8());
        let rgb = DynamicImage::ImageRgb8(grey.to_rgb8());
        assert_eq!(content(&encoded(&grey, ImageFormat::Png)), content(&encoded(&rgb, ImageFormat::Bmp)));
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_content(bytes in prop::collection::vec(any::<u8>(), 0..200), webp: bool) {
            let head: &[u8] = if webp { b"RIFF\0\0\0\0WEBP" } else { b"\xff\xd8\xff" };
            let picture = Picture::new(1, 1, 1, vec![0]).unwrap();
            of_picture(&[head, &bytes].concat(), &picture);
        }
    }
}

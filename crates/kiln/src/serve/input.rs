//! The body of a request becomes pictures: a raw image, a form with files, or JSON.
//!
//! Longer than other files: a quarter of it are tests of every form of a request.
//!
//! First the body is taken apart ([`Input::images`]), which costs little whatever it holds. Then each image is opened,
//! priced by its header, decoded, and dropped, one after the other.

use std::borrow::Cow;
use std::fmt;
use std::io::Cursor;

use axum::body::Body;
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest, Multipart};
use axum::http::{Request, StatusCode, header, request::Parts};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use data::DecodeLimits;
use hyper::body::Bytes;
use image::{ImageDecoder, ImageFormat, ImageReader, Limits};
use model::Picture;
use serde::Deserialize;
use serde::de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::parameters::Parameters;
use super::problem::Problem;

/// The most images that a flag may allow.
pub(crate) const MOST_IMAGES: usize = 4096;

/// What reading the header of an image may take.
const HEADER: u64 = 1 << 20;

/// What one request may cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ImageLimits {
    /// What decoding one image may cost.
    pub(crate) decode: DecodeLimits,
    /// Bytes that decoding and fitting one may take.
    pub(crate) memory: u64,
    /// Images of a request.
    pub(crate) images: usize,
}

/// A body, not yet taken apart.
#[derive(Debug)]
pub(crate) enum Input {
    /// Image files.
    Files(Vec<Bytes>),
    /// A JSON document.
    Json(Bytes),
}

/// An image as it was sent: a part of the body.
#[derive(Clone, Debug)]
pub(crate) enum Sent {
    /// A file.
    File(Bytes),
    /// A value in JSON.
    Json(Bytes),
}

/// An image file, or the pixels themselves.
#[derive(Debug)]
pub(crate) enum Opened {
    /// A file.
    File(Bytes),
    /// Pixels from JSON.
    Pixels(Raw),
}

impl Input {
    /// Decides by the content type, and takes a form apart.
    pub(crate) async fn new(parts: Parts, body: Bytes, limits: &ImageLimits) -> Result<Self, Problem> {
        if body.is_empty() {
            return Err(Problem::bad_request(
                "the body is empty; send an image, a form with images, or JSON",
            ));
        }
        let content_type = match parts.headers.get(header::CONTENT_TYPE) {
            Some(value) => value
                .to_str()
                .map_err(|_| Problem::bad_request("the header Content-Type is not text"))?
                .to_ascii_lowercase(),
            None => String::new(),
        };
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json" => Ok(Self::Json(body)),
            "multipart/form-data" => form(parts, body, limits).await.map(Self::Files),
            // What `curl --data-binary` says of anything: the first bytes tell whether it is an image.
            "" | "application/octet-stream" | "application/x-www-form-urlencoded" => {
                Ok(Self::Files(vec![body]))
            }
            image if image.starts_with("image/") => Ok(Self::Files(vec![body])),
            other => Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                format!(
                    "content type `{other}`; expected image/*, application/octet-stream, multipart/form-data \
                     or application/json"
                ),
            )),
        }
    }

    /// The images, and what JSON says beside them. Reads a JSON document to its end: not for a thread that serves
    /// others.
    pub(crate) fn images(
        self,
        parameters: &mut Parameters,
        limits: &ImageLimits,
    ) -> Result<Vec<Sent>, Problem> {
        let body = match self {
            Self::Files(files) => return Ok(files.into_iter().map(Sent::File).collect()),
            Self::Json(body) => body,
        };
        let document: Document = serde_json::from_slice(&body)
            .map_err(|error| Problem::bad_request(format!("the JSON body: {error}")))?;
        let images = match (document.image, document.images) {
            (Some(image), None) => Images { first: vec![image], count: 1 },
            (None, Some(images)) => images,
            _ => {
                return Err(Problem::bad_request("the JSON body: give `image` or `images`, one of them"));
            }
        };
        check_count(images.count, limits)?;
        let Document { top, digits, reject_below, keep, .. } = document;
        for (name, value) in
            [("top", top), ("digits", digits), ("reject_below", reject_below), ("keep", keep)]
        {
            if let Some(value) = value {
                parameters.set(name, value.get())?;
            }
        }
        Ok(images.first.into_iter().map(|image| Sent::Json(body.slice_ref(image.get().as_bytes()))).collect())
    }
}

impl Sent {
    /// Bytes that [`Self::open`] and [`Opened::cost`] may take.
    pub(crate) fn opening(&self) -> u64 {
        let (Self::File(bytes) | Self::Json(bytes)) = self;
        // The file out of base64, and the decoder's copy of it.
        HEADER + 2 * bytes.len() as u64
    }

    /// The file or the pixels.
    pub(crate) fn open(&self, limits: &ImageLimits) -> Result<Opened, Problem> {
        match self {
            Self::File(file) => Ok(Opened::File(file.clone())),
            Self::Json(text) => {
                let item: Item = serde_json::from_slice(text).map_err(|error| {
                    // Where it is in the image says nothing of where it is in the body.
                    let error = error.to_string();
                    let what = error.rsplit_once(" at line ").map_or(error.as_str(), |(what, _)| what);
                    Problem::bad_request(format!("the image in the JSON body: {what}"))
                })?;
                item.open(limits)
            }
        }
    }
}

impl Opened {
    /// About how many bytes it takes to decode the image and to fit it, where ink is searched for on pictures of
    /// `search` pixels a side, and the images of its pieces may take `pieces` bytes; by what the file's header announces.
    pub(crate) fn cost(&self, search: u64, pieces: u64, limits: &ImageLimits) -> Result<u64, Problem> {
        let (decoding, pixels) = match self {
            Self::Pixels(raw) => {
                let bytes = raw.pixels.0.len() as u64;
                (2 * bytes, bytes / raw.channels.max(1) as u64)
            }
            Self::File(file) => match announced(file, &limits.decode)? {
                Announced::Nothing => return Ok(0),
                Announced::Size { bytes, pixels, alpha, parts } => {
                    // What the decoder gives, its own planes, and the same in 8 bits without transparency.
                    let whole = bytes + if alpha { 7 } else { 5 } * pixels + file.len() as u64;
                    if parts {
                        // `data` makes it smaller while it reads it.
                        let read = limits.decode.memory;
                        (whole.min(read + file.len() as u64), pixels.min(read / 3))
                    } else {
                        (whole, pixels)
                    }
                }
                Announced::Unknown => (limits.memory, 0),
            },
        };
        // The picture, its copy and its grey; or the picture, two greys, and the search.
        let fitting = (7 * pixels).max(5 * pixels + INK * pixels.min(search * search));
        Ok(decoding.max(fitting + pieces))
    }

    /// The picture.
    pub(crate) fn decode(self, limits: &ImageLimits) -> Result<Picture, Problem> {
        match self {
            Self::File(file) => decode(&file, limits),
            Self::Pixels(Raw { width, height, channels, pixels }) => {
                Picture::new(width, height, channels, pixels.0)
                    .map_err(|error| Problem::bad_request(error.to_string()))
            }
        }
    }
}

/// Bytes that the search for ink takes for a pixel: levels, means, labels, and the sums that they come from.
const INK: u64 = 36;

/// What a file says of itself before it is decoded.
enum Announced {
    /// It is no image: refusing it costs nothing.
    Nothing,
    Size {
        /// Bytes of the decoded image.
        bytes: u64,
        pixels: u64,
        alpha: bool,
        /// Whether it can be read in parts, within the limits whatever its size.
        parts: bool,
    },
    /// It may take what is allowed.
    Unknown,
}

fn announced(file: &[u8], limits: &DecodeLimits) -> Result<Announced, Problem> {
    let reader = ImageReader::new(Cursor::new(file)).with_guessed_format();
    let Ok(mut reader) = reader else { return Ok(Announced::Nothing) };
    let parts = match reader.format().filter(ImageFormat::reading_enabled) {
        None => return Ok(Announced::Nothing),
        // Its decoder believes a directory that `data` checks first.
        Some(ImageFormat::Tiff) => return Ok(Announced::Unknown),
        Some(format) => matches!(format, ImageFormat::Png | ImageFormat::Jpeg),
    };
    let mut header = Limits::no_limits();
    header.max_alloc = Some(HEADER);
    reader.limits(header);
    let Ok(decoder) = reader.into_decoder() else { return Ok(Announced::Unknown) };
    let (width, height) = decoder.dimensions();
    if width.max(height) > limits.side {
        return Err(refused(&data::DecodeError::TooLarge { width, height, limit: limits.side }));
    }
    Ok(Announced::Size {
        bytes: decoder.total_bytes(),
        pixels: u64::from(width) * u64::from(height),
        alpha: decoder.color_type().has_alpha(),
        parts,
    })
}

fn check_count(found: usize, limits: &ImageLimits) -> Result<(), Problem> {
    if found == 0 {
        return Err(Problem::bad_request("no image in the request"));
    }
    if found > limits.images {
        return Err(Problem::too_large(format!(
            "more images than the {} that one request may bring; send several requests",
            limits.images
        )));
    }
    Ok(())
}

/// The files of a form, whatever their fields are called.
async fn form(parts: Parts, body: Bytes, limits: &ImageLimits) -> Result<Vec<Bytes>, Problem> {
    let request = Request::from_parts(parts, Body::from(body));
    let fault = |detail: String| Problem::bad_request(format!("the form: {detail}"));
    let mut form =
        Multipart::from_request(request, &()).await.map_err(|rejection| fault(rejection.body_text()))?;
    let mut files = Vec::new();
    while let Some(field) = form.next_field().await.map_err(|error| fault(error.body_text()))? {
        let name = field.name().unwrap_or_default().to_owned();
        let named = matches!(name.as_str(), "image" | "images" | "image[]" | "images[]" | "file" | "files");
        if !named && field.file_name().is_none() {
            let name: String = name.chars().take(40).collect();
            return Err(fault(format!("field `{name}` is no file; call the fields with images `image`")));
        }
        files.push(whole(field).await.map_err(|error| fault(error.body_text()))?);
        check_count(files.len(), limits)?;
    }
    check_count(files.len(), limits)?;
    Ok(files)
}

/// The content of a field: as a part of the body where it lies in one piece, so that nothing is copied.
async fn whole(mut field: Field<'_>) -> Result<Bytes, MultipartError> {
    let first = field.chunk().await?.unwrap_or_default();
    let Some(second) = field.chunk().await? else { return Ok(first) };
    let mut bytes = [first, second].concat();
    while let Some(next) = field.chunk().await? {
        bytes.extend_from_slice(&next);
    }
    Ok(bytes.into())
}

fn decode(file: &[u8], limits: &ImageLimits) -> Result<Picture, Problem> {
    let mut decode = limits.decode;
    if let Ok(ImageFormat::WebP | ImageFormat::Gif | ImageFormat::Bmp) = image::guess_format(file) {
        // Read whole or not at all, and smaller then than what the decoder held.
        decode.memory = limits.memory / 2;
    }
    data::decode(file, &decode).map_err(|error| refused(&error))
}

fn refused(error: &data::DecodeError) -> Problem {
    let status = match error {
        data::DecodeError::Format { .. } | data::DecodeError::Foreign { .. } => {
            StatusCode::UNSUPPORTED_MEDIA_TYPE
        }
        data::DecodeError::TooLong { .. }
        | data::DecodeError::TooLarge { .. }
        | data::DecodeError::Memory { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        _ => StatusCode::BAD_REQUEST,
    };
    Problem::new(status, error.to_string())
}

/// Every value is a part of the body.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<'a> {
    #[serde(borrow)]
    image: Option<&'a RawValue>,
    #[serde(borrow)]
    images: Option<Images<'a>>,
    #[serde(borrow)]
    top: Option<&'a RawValue>,
    #[serde(borrow)]
    digits: Option<&'a RawValue>,
    #[serde(borrow)]
    reject_below: Option<&'a RawValue>,
    #[serde(borrow)]
    keep: Option<&'a RawValue>,
}

/// A list of images, of which no more are kept than any flag allows.
struct Images<'a> {
    first: Vec<&'a RawValue>,
    count: usize,
}

impl<'de: 'a, 'a> Deserialize<'de> for Images<'a> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Images<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a list of images")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
                let mut first = Vec::new();
                while first.len() < MOST_IMAGES {
                    let Some(image) = sequence.next_element()? else { break };
                    first.push(image);
                }
                let mut count = first.len();
                while sequence.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Images { first, count })
            }
        }
        deserializer.deserialize_seq(List)
    }
}

/// An image in JSON: a string is a file in base64, an object holds the pixels themselves.
#[derive(Debug, PartialEq)]
enum Item<'a> {
    Base64(Cow<'a, str>),
    Pixels(Raw),
}

/// The pixels of an image.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Raw {
    width: usize,
    height: usize,
    #[serde(default = "one")]
    channels: usize,
    /// `[H, W, C]`, rows from the top, 0 black.
    pixels: Bytewise,
}

fn one() -> usize {
    1
}

impl Item<'_> {
    fn open(self, limits: &ImageLimits) -> Result<Opened, Problem> {
        match self {
            Self::Base64(text) => {
                // `data:image/png;base64,iVBOR...`, as browsers give it.
                let code = match text.split_once(',') {
                    Some((head, code)) if head.starts_with("data:") && head.ends_with(";base64") => code,
                    _ => &text,
                };
                let file = STANDARD
                    .decode(code.trim())
                    .map_err(|error| Problem::bad_request(format!("not base64: {error}")))?;
                Ok(Opened::File(file.into()))
            }
            Self::Pixels(raw) => {
                let (width, height, side) = (raw.width, raw.height, limits.decode.side as usize);
                if width.max(height) > side {
                    return Err(Problem::too_large(format!(
                        "the image is {width}x{height} pixels; expected at most {side} a side"
                    )));
                }
                Ok(Opened::Pixels(raw))
            }
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Item<'a> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Item<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an image: a string in base64, or an object with width, height and pixels")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Item::Base64(text.into()))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Item::Base64(text.to_owned().into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                Raw::deserialize(de::value::MapAccessDeserializer::new(map)).map(Item::Pixels)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Numbers from 0 to 255, flat or in rows (or rows of `[r, g, b]`), one byte each in memory.
#[derive(Debug, PartialEq)]
struct Bytewise(Vec<u8>);

impl<'de> Deserialize<'de> for Bytewise {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut bytes = Vec::new();
        deserializer.deserialize_seq(Level { bytes: &mut bytes, below: 2 })?;
        Ok(Self(bytes))
    }
}

/// One level of brackets, with at most `below` levels inside.
struct Level<'a> {
    bytes: &'a mut Vec<u8>,
    below: u8,
}

impl<'de> Visitor<'de> for Level<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list of numbers from 0 to 255, flat or in rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        while sequence.next_element_seed(Entry { bytes: self.bytes, below: self.below })?.is_some() {}
        Ok(())
    }
}

/// A number, or a list of them.
struct Entry<'a> {
    bytes: &'a mut Vec<u8>,
    below: u8,
}

impl<'de> de::DeserializeSeed<'de> for Entry<'_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Entry<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a whole number from 0 to 255")
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        let byte = u8::try_from(value).map_err(|_| {
            E::invalid_value(de::Unexpected::Unsigned(value), &"a whole number from 0 to 255")
        })?;
        self.bytes.push(byte);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<(), A::Error> {
        if self.below == 0 {
            return Err(de::Error::custom(
                "pixels are nested too deeply; expected rows of [r, g, b] at most",
            ));
        }
        Level { bytes: self.bytes, below: self.below - 1 }.visit_seq(sequence)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits() -> ImageLimits {
        ImageLimits {
            decode: DecodeLimits { bytes: 1 << 16, side: 64, memory: 1 << 20 },
            memory: 7 << 20,
            images: 3,
        }
    }

    fn pictures(body: impl Into<Bytes>) -> Result<Vec<Picture>, Problem> {
        let images = Input::Json(body.into()).images(&mut Parameters::default(), &limits())?;
        let picture = |(index, image): (usize, &Sent)| {
            let opened = image.open(&limits()).and_then(|opened| {
                opened.cost(512, 0, &limits())?;
                opened.decode(&limits())
            });
            opened.map_err(|problem| problem.of_image(index))
        };
        images.iter().enumerate().map(picture).collect()
    }

    fn json(text: &str) -> Result<Vec<Picture>, Problem> {
        pictures(text.as_bytes().to_vec())
    }

    fn png() -> Vec<u8> {
        let image = image::GrayImage::from_fn(3, 2, |x, y| image::Luma([(x * 50 + y * 100) as u8]));
        let mut file = std::io::Cursor::new(Vec::new());
        image.write_to(&mut file, image::ImageFormat::Png).unwrap();
        file.into_inner()
    }

    fn detail(result: Result<Vec<Picture>, Problem>) -> String {
        format!("{:?}", result.unwrap_err())
    }

    #[test]
    fn every_way_to_write_pixels_is_the_same_picture() {
        let expected = Picture::new(2, 2, 1, vec![0, 50, 100, 255]).unwrap();
        for pixels in ["[0, 50, 100, 255]", "[[0, 50], [100, 255]]", "[[[0], [50]], [[100], [255]]]"] {
            let text = format!(r#"{{"image": {{"width": 2, "height": 2, "pixels": {pixels}}}}}"#);
            assert_eq!(json(&text).unwrap(), std::slice::from_ref(&expected), "{text}");
        }
        let colour = r#"{"images": [{"width": 1, "height": 1, "channels": 3, "pixels": [1, 2, 3]}]}"#;
        assert_eq!(json(colour).unwrap(), [Picture::new(1, 1, 3, vec![1, 2, 3]).unwrap()]);
    }

    #[test]
    fn base64_is_a_file() {
        let code = STANDARD.encode(png());
        let expected = data::decode(&png(), &limits().decode).unwrap();
        for text in [
            format!(r#"{{"image": "{code}"}}"#),
            format!(r#"{{"image": "data:image/png;base64,{code}"}}"#),
            format!(r#"{{"images": ["{code}"]}}"#),
        ] {
            assert_eq!(json(&text).unwrap(), std::slice::from_ref(&expected));
        }
        let mixed = format!(r#"{{"images": ["{code}", {{"width": 1, "height": 1, "pixels": [7]}}]}}"#);
        assert_eq!(json(&mixed).unwrap().len(), 2);
    }

    #[test]
    fn faults_say_what_and_where() {
        for (text, words) in [
            ("", "EOF"),
            ("[]", "invalid"),
            ("{}", "give `image` or `images`"),
            (r#"{"image": "AAAA", "images": []}"#, "one of them"),
            (r#"{"images": []}"#, "no image"),
            (r#"{"images": ["", "", "", ""]}"#, "more images than the 3"),
            (r#"{"image": 7}"#, "an image: a string in base64"),
            (r#"{"image": "@@@@"}"#, "not base64"),
            (r#"{"image": "AAAA"}"#, "it begins with 00 00 00"),
            (r#"{"image": "", "model": "/etc/passwd"}"#, "unknown field `model`"),
            (r#"{"image": {"width": 1, "height": 1, "pixels": [256]}}"#, "from 0 to 255"),
            (r#"{"image": {"width": 1, "height": 1, "pixels": [-1]}}"#, "from 0 to 255"),
            (r#"{"image": {"width": 1, "height": 1, "pixels": [0.5]}}"#, "from 0 to 255"),
            (r#"{"image": {"width": 2, "height": 1, "pixels": [1]}}"#, "expected 2"),
            (r#"{"image": {"width": 1, "height": 1, "channels": 2, "pixels": [1, 2]}}"#, "2 channels"),
            (r#"{"image": {"width": 65, "height": 1, "pixels": []}}"#, "at most 64 a side"),
            (r#"{"image": {"width": 1, "height": 1, "pixels": [[[[1]]]]}}"#, "nested too deeply"),
        ] {
            let found = detail(json(text));
            assert!(found.contains(words), "{text}\n{found}\n{words}");
        }
        // Of several images the fault names one.
        let second = r#"{"images": [{"width": 1, "height": 1, "pixels": [1]}, "AAAA"]}"#;
        assert!(detail(json(second)).contains("image: Some(1)"));
    }

    #[test]
    fn parameters_stand_beside_the_images() {
        let read = |text: &str| {
            let mut parameters = Parameters::from_query("top=2").unwrap();
            let images =
                Input::Json(Bytes::copy_from_slice(text.as_bytes())).images(&mut parameters, &limits());
            images.map(|images| (images.len(), parameters.choice))
        };
        let (count, choice) =
            read(r#"{"keep": 1, "image": "", "digits": true, "reject_below": 0.5, "top": null}"#).unwrap();
        assert_eq!(
            (count, choice.keep, choice.digits, choice.reject_below, choice.top),
            (1, 1.0, true, 0.5, 2)
        );
        for (text, words) in [
            (r#"{"image": "", "top": 2}"#, "`top` is given twice"),
            (r#"{"image": "", "keep": 0.25}"#, "`keep` is `0.25`; expected a share from 0.5 to 1"),
            (r#"{"image": "", "keep": "1"}"#, "`keep` is `\\\"1\\\"`"),
            (r#"{"image": "", "digits": 1}"#, "`digits` is `1`; expected `true` or `false`"),
        ] {
            let found = format!("{:?}", read(text).unwrap_err());
            assert!(found.contains(words), "{text}\n{found}");
        }
    }

    /// The header of a lossy WebP picture, as small as a file can be that asks for so much.
    fn header_only(width: u16, height: u16) -> Vec<u8> {
        let mut file = b"RIFF\x1a\0\0\0WEBPVP8 \x0e\0\0\0\x30\x01\0\x9d\x01\x2a".to_vec();
        file.extend(width.to_le_bytes());
        file.extend(height.to_le_bytes());
        file.extend([0; 4]);
        file
    }

    #[test]
    fn a_picture_is_priced_by_its_header_whatever_the_size_of_the_file() {
        let limits = ImageLimits { decode: DecodeLimits { side: 8192, ..limits().decode }, ..limits() };
        let cost = |file: Vec<u8>| Opened::File(file.into()).cost(512, 0, &limits);
        assert!(cost(header_only(8192, 3072)).unwrap() > 8192 * 3072 * 6);
        assert!(cost(header_only(28, 28)).unwrap() < 2 << 20);
        assert!(cost(png()).unwrap() < 2 << 20);
        assert_eq!(cost(b"no picture".to_vec()).unwrap(), 0);
        let pieces = |bytes| Opened::File(png().into()).cost(1600, bytes, &limits).unwrap();
        assert_eq!(pieces(16 << 20), pieces(0) + (16 << 20));
        let problem = format!("{:?}", cost(header_only(8193, 1)).unwrap_err());
        assert!(problem.contains("8193x1"), "{problem}");
    }

    #[test]
    fn many_empty_images_take_no_memory() {
        let body = format!(r#"{{"images": [{}""]}}"#, r#""","#.repeat(100_000));
        let problem = Input::Json(body.into()).images(&mut Parameters::default(), &limits()).unwrap_err();
        assert!(format!("{problem:?}").contains("more images than the 3"));
    }

    #[test]
    fn deep_nesting_does_not_overflow_the_stack() {
        let text = format!(r#"{{"image": {}"#, "[".repeat(30_000));
        assert!(json(&text).is_err());
        let text = format!(r#"{{"image": {{"width":1,"height":1,"pixels":{}"#, "[".repeat(30_000));
        assert!(json(&text).is_err());
    }

    proptest! {
        #[test]
        fn damaged_json_never_panics(
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let code = STANDARD.encode(png());
            let mut bytes =
                format!(r#"{{"images": ["{code}", {{"width": 2, "height": 1, "pixels": [[1], [2]]}}]}}"#)
                    .into_bytes();
            for (position, value) in damage {
                let position = position.index(bytes.len());
                bytes[position] = value;
            }
            let _ = pictures(bytes.clone());
            bytes.truncate(cut.index(bytes.len()));
            let _ = pictures(bytes);
        }
    }
}

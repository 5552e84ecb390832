//! The body of a request becomes pictures: a raw image, a form with files, or JSON.

use axum::body::Body;
use axum::extract::{FromRequest, Multipart};
use axum::http::{Request, StatusCode, header, request::Parts};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use data::DecodeLimits;
use hyper::body::Bytes;
use model::Picture;
use serde::Deserialize;
use serde::de::{self, MapAccess, SeqAccess, Visitor};

use super::problem::Problem;

/// What one request may cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ImageLimits {
    /// What one image may cost.
    pub(crate) decode: DecodeLimits,
    /// Images of a request.
    pub(crate) images: usize,
}

/// The images of a request, not yet decoded.
#[derive(Debug)]
pub(crate) enum Input {
    /// Image files.
    Files(Vec<Bytes>),
    /// A JSON document.
    Json(Bytes),
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

    /// The pictures. Takes as long as the images are large: not for a thread that serves others.
    pub(crate) fn decode(self, limits: &ImageLimits) -> Result<Vec<Picture>, Problem> {
        match self {
            Self::Files(files) => each(files.iter(), |file| decode(file, limits)),
            Self::Json(body) => {
                let mut document: Document = serde_json::from_slice(&body)
                    .map_err(|error| Problem::bad_request(format!("the JSON body: {error}")))?;
                // What was read is in `document` now.
                drop(body);
                let items = match (document.image.take(), document.images.take()) {
                    (Some(image), None) => vec![image],
                    (None, Some(images)) => images,
                    _ => {
                        return Err(Problem::bad_request(
                            "the JSON body: give `image` or `images`, one of them",
                        ));
                    }
                };
                check_count(items.len(), limits)?;
                each(items.into_iter(), |item| item.decode(limits))
            }
        }
    }
}

/// Decodes one after the other; a fault names the image where there are several.
fn each<T>(
    items: impl ExactSizeIterator<Item = T>,
    decode: impl Fn(T) -> Result<Picture, Problem>,
) -> Result<Vec<Picture>, Problem> {
    let several = items.len() > 1;
    items
        .enumerate()
        .map(|(index, item)| {
            decode(item).map_err(|problem| if several { problem.of_image(index) } else { problem })
        })
        .collect()
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
        let file = field.bytes().await.map_err(|error| fault(error.body_text()))?;
        files.push(file);
        check_count(files.len(), limits)?;
    }
    check_count(files.len(), limits)?;
    Ok(files)
}

fn decode(file: &[u8], limits: &ImageLimits) -> Result<Picture, Problem> {
    data::decode(file, &limits.decode).map_err(|error| {
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
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    image: Option<Item>,
    images: Option<Vec<Item>>,
}

/// An image in JSON: a string is a file in base64, an object holds the pixels themselves.
#[derive(Debug, PartialEq)]
enum Item {
    Base64(String),
    Pixels(Raw),
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
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

impl Item {
    fn decode(self, limits: &ImageLimits) -> Result<Picture, Problem> {
        match self {
            Self::Base64(text) => {
                // `data:image/png;base64,iVBOR...`, as browsers give it.
                let code = match text.split_once(',') {
                    Some((head, code)) if head.starts_with("data:") && head.ends_with(";base64") => code,
                    _ => text.as_str(),
                };
                let file = STANDARD
                    .decode(code.trim())
                    .map_err(|error| Problem::bad_request(format!("not base64: {error}")))?;
                decode(&file, limits)
            }
            Self::Pixels(Raw { width, height, channels, pixels }) => {
                let side = limits.decode.side as usize;
                if width.max(height) > side {
                    return Err(Problem::too_large(format!(
                        "the image is {width}x{height} pixels; expected at most {side} a side"
                    )));
                }
                Picture::new(width, height, channels, pixels.0)
                    .map_err(|error| Problem::bad_request(error.to_string()))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Item;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an image: a string in base64, or an object with width, height and pixels")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Item, E> {
                Ok(Item::Base64(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Item, A::Error> {
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

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
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

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
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
        ImageLimits { decode: DecodeLimits { bytes: 1 << 16, side: 64, memory: 1 << 20 }, images: 3 }
    }

    fn json(text: &str) -> Result<Vec<Picture>, Problem> {
        Input::Json(Bytes::copy_from_slice(text.as_bytes())).decode(&limits())
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
            ("[]", "expected struct Document"),
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
            let _ = Input::Json(Bytes::copy_from_slice(&bytes)).decode(&limits());
            bytes.truncate(cut.index(bytes.len()));
            let _ = Input::Json(bytes.into()).decode(&limits());
        }
    }
}

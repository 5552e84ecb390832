//! Requests that are made to cost the server more than they cost the client.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A request as bytes, without its end where the client is to stall.
pub(crate) struct Hostile {
    pub(crate) name: &'static str,
    bytes: Vec<u8>,
}

impl Hostile {
    fn post(name: &'static str, target: &str, content_type: &str, body: &[u8]) -> Self {
        Self::announced(name, target, content_type, body, body.len())
    }

    fn announced(name: &'static str, target: &str, content_type: &str, body: &[u8], length: usize) -> Self {
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
        );
        Self { name, bytes: [head.as_bytes(), body].concat() }
    }

    /// Sends it; reads the answer, or leaves, or stays without a word.
    pub(crate) fn send(&self, address: &str, ending: Ending) {
        let Ok(mut stream) = TcpStream::connect(address) else { return };
        let patience = match ending {
            Ending::Answer => Duration::from_secs(5),
            Ending::Leave => return drop(stream.write_all(&self.bytes)),
            Ending::Stay => Duration::from_millis(300),
        };
        let limits = stream.set_read_timeout(Some(patience)).and(stream.set_write_timeout(Some(patience)));
        // Refused or cut off while sending: what it deserves.
        if limits.is_ok() && stream.write_all(&self.bytes).is_ok() {
            drop(stream.read(&mut [0; 4096]));
        }
    }
}

/// What the client does when it has sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    Answer,
    Leave,
    Stay,
}

/// A lossy WebP picture of 34 bytes whose header asks for `width` x `height`.
fn webp(width: u16, height: u16) -> Vec<u8> {
    let mut file = b"RIFF\x1a\0\0\0WEBPVP8 \x0e\0\0\0\x30\x01\0\x9d\x01\x2a".to_vec();
    file.extend(width.to_le_bytes());
    file.extend(height.to_le_bytes());
    file.extend([0; 4]);
    file
}

fn encoded(image: &image::DynamicImage, format: image::ImageFormat) -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    image.write_to(&mut file, format).expect("a file");
    file.into_inner()
}

fn noise(width: u32, height: u32) -> image::DynamicImage {
    let mut state = 1u32;
    image::GrayImage::from_fn(width, height, |_, _| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        image::Luma([(state >> 24) as u8])
    })
    .into()
}

/// Black marks of digits' size, all over.
fn marks(side: u32) -> image::DynamicImage {
    image::GrayImage::from_fn(side, side, |x, y| {
        image::Luma([if x % 10 < 6 && y % 10 < 8 { 0 } else { 255 }])
    })
    .into()
}

/// One of every kind.
pub(crate) fn all(form: impl Fn(&[Vec<u8>]) -> (String, Vec<u8>)) -> Vec<Hostile> {
    use image::ImageFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
    const PREDICT: &str = "/v1/predict";
    const LARGEST: usize = 4 << 20;
    let several = |name: &'static str, file: &[u8], count: usize| {
        let (content_type, body) = form(&vec![file.to_vec(); count]);
        Hostile::post(name, PREDICT, &content_type, &body)
    };
    let raw = |name, file: &[u8]| Hostile::post(name, PREDICT, "image/png", file);
    let json = |name, text: String| Hostile::post(name, PREDICT, "application/json", text.as_bytes());
    let black = |width, height| image::DynamicImage::from(image::GrayImage::new(width, height));
    let clear = |width, height| image::DynamicImage::from(image::RgbaImage::new(width, height));
    let deep = image::DynamicImage::ImageRgba16(image::ImageBuffer::new(2000, 2000));
    let large_png = encoded(&black(8192, 8192), Png);
    let photo = encoded(&image::DynamicImage::from(image::RgbImage::new(3500, 3000)), Jpeg);
    let base64 = |file: &[u8]| format!("\"{}\"", STANDARD.encode(file));
    let list = |item: &str, count: usize| format!("{{\"images\": [{}]}}", vec![item; count].join(","));
    vec![
        several("64 pictures of 34 bytes and 25 megapixels", &webp(8192, 3072), 64),
        several("64 pictures just below the limit", &webp(4000, 3000), 64),
        several("64 pictures of a megapixel", &encoded(&black(1000, 1000), Png), 64),
        several("one picture too many", &webp(28, 28), 65),
        several("64 drawings with transparency", &encoded(&clear(1200, 1200), Png), 64),
        raw("67 megapixels of black", &large_png),
        raw("12 megapixels with transparency", &encoded(&clear(4000, 3000), Png)),
        raw("16 bits a sample", &encoded(&deep, Png)),
        raw("a photograph", &photo),
        raw("a long strip", &encoded(&black(8192, 1), Png)),
        raw("an animation's frame", &encoded(&clear(3000, 2000), Gif)),
        raw("a TIFF", &encoded(&black(2000, 2000), Tiff)),
        raw("a BMP of 4 MB", &encoded(&black(2000, 2000), Bmp)),
        raw("lossless WebP", &encoded(&black(4000, 3000), WebP)),
        json("64 large pictures in base64", list(&base64(&webp(4000, 3000)), 64)),
        json("a million images of nothing", list("\"\"", 1_300_000)),
        json(
            "4 MB of pixels",
            format!(
                "{{\"image\": {{\"width\": 1400, \"height\": 1400, \"pixels\": [{}0]}}}}",
                "0,".repeat(1_959_999)
            ),
        ),
        json("brackets", format!("{{\"image\": {}", "[".repeat(LARGEST - 100))),
        json("one long string", format!("{{\"image\": \"{}\"}}", "A".repeat(LARGEST - 100))),
        Hostile::post(
            "noise, read as digits",
            "/v1/predict?digits=true",
            "image/png",
            &encoded(&noise(1600, 1600), Png),
        ),
        Hostile::post(
            "marks, read as digits",
            "/v1/predict?digits=true",
            "image/png",
            &encoded(&marks(1600), Png),
        ),
        Hostile::announced("a body that stalls", PREDICT, "image/png", &vec![7; LARGEST - 10], LARGEST),
        Hostile::announced("a body of one byte", PREDICT, "image/png", b"a", LARGEST),
        Hostile::post("a body beyond the limit", PREDICT, "image/png", &vec![7; 8 << 20]),
        Hostile { name: "half a head", bytes: b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ".to_vec() },
        Hostile {
            name: "pages that nobody reads",
            bytes: "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(200).into_bytes(),
        },
    ]
}

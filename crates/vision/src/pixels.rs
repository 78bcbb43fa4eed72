//! Images as the networks see them: u8 pixels of one fixed size, and their encodings.

use std::io::Cursor;

use image::{
    DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageFormat, ImageReader,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Largest width or height that is decoded at all: what claims more is refused unread.
pub const MAX_SIDE: u32 = 4096;

/// Most bytes that one decoded image may have: 4096 x 4096 pixels of RGB with 16 bits a channel.
const MAX_DECODING_BYTES: u64 = 96 << 20;

/// Size and colour of the images that a network takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// Rows, in pixels.
    pub height: usize,
    /// Columns, in pixels.
    pub width: usize,
}

impl InputSpec {
    /// Bytes of one image.
    #[must_use]
    pub fn len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Whether there is no pixel at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether mloop can work with such images.
    #[must_use]
    pub fn is_supported(&self) -> bool {
        let side = 1..=MAX_SIDE as usize;
        matches!(self.channels, 1 | 3) && side.contains(&self.height) && side.contains(&self.width)
    }
}

impl std::fmt::Display for InputSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let colour = if self.channels == 1 { "grey" } else { "RGB" };
        write!(f, "{} x {} {colour}", self.width, self.height)
    }
}

/// An image: u8 intensities row by row, the channels of one pixel side by side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels {
    spec: InputSpec,
    data: Vec<u8>,
}

/// An image that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// Another content type than the ones that are read.
    #[error(
        "content type `{0}` is not read: send image/png, image/jpeg, or application/json with \
         {{\"pixels\": [[…], …]}}"
    )]
    UnknownContentType(String),
    /// Readable, but of another size than the model takes.
    #[error("the image is {got_width} x {got_height}, the model takes {expected}")]
    WrongSize {
        /// Width of the image in pixels.
        got_width: u32,
        /// Height of the image in pixels.
        got_height: u32,
        /// What is wanted.
        expected: InputSpec,
    },
    /// Claims to be larger than [`MAX_SIDE`], or to need more memory than that takes.
    #[error(
        "the image claims {width} x {height} pixels; more than {MAX_SIDE} on a side, or 96 MiB, are \
         refused"
    )]
    TooLarge {
        /// Claimed width in pixels.
        width: u32,
        /// Claimed height in pixels.
        height: u32,
    },
    /// Damaged, cut short, or not an image.
    #[error("the image cannot be decoded")]
    Undecodable(#[source] image::ImageError),
    /// The file ends before its image does.
    #[error("the JPEG file is cut short")]
    CutShort,
    /// A JSON body of another shape.
    #[error("the body is not {{\"pixels\": [[0 to 255, …], …]}}")]
    Json(#[source] serde_json::Error),
    /// Nested rows of uneven length or of the wrong number of channels.
    #[error("`pixels` must hold {expected} as nested rows: {problem}")]
    Rows {
        /// What is wanted.
        expected: InputSpec,
        /// What is wrong with it.
        problem: String,
    },
}

impl Pixels {
    /// Wraps raw intensities; `None` when their number does not fit the size.
    #[must_use]
    pub fn new(spec: InputSpec, data: Vec<u8>) -> Option<Self> {
        (spec.is_supported() && spec.len() == data.len()).then_some(Self { spec, data })
    }

    /// Size and colour.
    #[must_use]
    pub fn spec(&self) -> InputSpec {
        self.spec
    }

    /// Intensities, `height * width * channels` of them.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The intensities alone.
    #[must_use]
    pub fn into_data(self) -> Vec<u8> {
        self.data
    }

    /// Decodes a PNG or JPEG file.
    ///
    /// With `expected`, the size must match and colours are converted (RGB to grey by luma);
    /// without, the image keeps its size, grey images stay grey and all others become RGB.
    /// Sizes are checked before pixels are read, and allocation is bounded, so that a
    /// decompression bomb costs nothing.
    ///
    /// # Errors
    /// [`InputError`] for anything else than such an image.
    pub fn decode(bytes: &[u8], expected: Option<InputSpec>) -> Result<Self, InputError> {
        let format = image::guess_format(bytes).map_err(InputError::Undecodable)?;
        if !matches!(format, ImageFormat::Png | ImageFormat::Jpeg) {
            return Err(InputError::UnknownContentType(format.to_mime_type().to_owned()));
        }
        Self::decode_as(format, bytes, expected)
    }

    fn decode_as(
        format: ImageFormat,
        bytes: &[u8],
        expected: Option<InputSpec>,
    ) -> Result<Self, InputError> {
        let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
        let mut limits = image::Limits::default();
        limits.max_alloc = Some(MAX_DECODING_BYTES);
        reader.limits(limits);
        let decoder = reader.into_decoder().map_err(InputError::Undecodable)?;
        let (width, height) = decoder.dimensions();
        if width.max(height) > MAX_SIDE || decoder.total_bytes() > MAX_DECODING_BYTES {
            return Err(InputError::TooLarge { width, height });
        }
        let grey = !decoder.color_type().has_color();
        let (rows, columns) = (height as usize, width as usize);
        let spec = match expected {
            Some(spec) if (spec.height, spec.width) != (rows, columns) => {
                let (got_width, got_height) = (width, height);
                return Err(InputError::WrongSize { got_width, got_height, expected: spec });
            }
            Some(spec) => spec,
            None => {
                let channels = if grey { 1 } else { 3 };
                InputSpec { channels, height: rows, width: columns }
            }
        };
        if format == ImageFormat::Jpeg && !jpeg_is_whole(bytes) {
            return Err(InputError::CutShort);
        }
        let picture = DynamicImage::from_decoder(decoder).map_err(InputError::Undecodable)?;
        let data = if spec.channels == 1 {
            picture.into_luma8().into_raw()
        } else {
            picture.into_rgb8().into_raw()
        };
        Ok(Self { spec, data })
    }

    /// Decodes the body of a request by its content type: `image/png`, `image/jpeg`, or
    /// `application/json` with `{"pixels": [[row], …]}`, numbers 0 to 255 for grey and triples of
    /// them for RGB.
    ///
    /// # Errors
    /// [`InputError`] when it is not such an image of the expected size.
    pub fn decode_body(
        content_type: &str,
        body: &[u8],
        expected: InputSpec,
    ) -> Result<Self, InputError> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            "image/png" => Self::decode_as(ImageFormat::Png, body, Some(expected)),
            "image/jpeg" | "image/jpg" => Self::decode_as(ImageFormat::Jpeg, body, Some(expected)),
            "application/json" => Self::from_json(body, expected),
            _ => Err(InputError::UnknownContentType(content_type.to_owned())),
        }
    }

    fn from_json(body: &[u8], expected: InputSpec) -> Result<Self, InputError> {
        let rows = if expected.channels == 1 {
            serde_json::from_slice::<Body<u8>>(body).map_err(InputError::Json)?.pixels
        } else {
            let body = serde_json::from_slice::<Body<[u8; 3]>>(body).map_err(InputError::Json)?;
            body.pixels.into_iter().map(|row| row.concat()).collect()
        };
        let wrong = |problem| Err(InputError::Rows { expected, problem });
        if rows.len() != expected.height {
            return wrong(format!("there are {} rows", rows.len()));
        }
        let row_len = expected.width * expected.channels;
        if let Some((index, row)) = rows.iter().enumerate().find(|(_, row)| row.len() != row_len) {
            return wrong(format!("row {index} has {} pixels", row.len() / expected.channels));
        }
        Ok(Self { spec: expected, data: rows.concat() })
    }

    /// The image as a PNG file.
    #[must_use]
    pub fn to_png(&self) -> Vec<u8> {
        encode_png(self.spec, &self.data)
    }
}

/// PNG of intensities that fit `spec`.
pub(crate) fn encode_png(spec: InputSpec, data: &[u8]) -> Vec<u8> {
    use image::codecs::png::{CompressionType, FilterType, PngEncoder};
    let colour = if spec.channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    let mut bytes = Vec::new();
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Best, FilterType::Adaptive)
        .write_image(data, side(spec.width), side(spec.height), colour)
        .expect("the buffer fits the size, and writing to memory cannot fail");
    bytes
}

/// Whether a JPEG file has its end-of-image marker. Decoders fill what is missing with grey, which
/// nobody would notice.
///
/// Walks the segments (ITU-T T.81, annex B): a marker is 0xFF and a code; all but a few carry their
/// length; after a start of scan, compressed data run up to the next marker that is neither a
/// stuffed zero nor a restart.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    const END_OF_IMAGE: u8 = 0xD9;
    const START_OF_SCAN: u8 = 0xDA;
    let mut at = 2;
    loop {
        let Some([0xFF, code]) = bytes.get(at..at + 2) else { return false };
        match code {
            0xFF => {
                at += 1;
                continue;
            }
            &END_OF_IMAGE => return true,
            _ => {}
        }
        let Some([high, low]) = bytes.get(at + 2..at + 4) else { return false };
        at += 2 + usize::from(u16::from_be_bytes([*high, *low]));
        if *code == START_OF_SCAN {
            let rest = bytes.get(at..).unwrap_or_default();
            let is_marker =
                |pair: &[u8]| pair[0] == 0xFF && !matches!(pair[1], 0 | 0xD0..=0xD7 | 0xFF);
            match rest.windows(2).position(is_marker) {
                Some(data) => at += data,
                None => return false,
            }
        }
    }
}

fn side(pixels: usize) -> u32 {
    u32::try_from(pixels).expect("a supported size is at most MAX_SIDE")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<T> {
    pixels: Vec<Vec<T>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREY: InputSpec = InputSpec { channels: 1, height: 2, width: 3 };
    const RGB: InputSpec = InputSpec { channels: 3, height: 1, width: 2 };

    #[test]
    fn png_round_trips_and_grey_stays_grey() {
        let grey = Pixels::new(GREY, vec![0, 50, 100, 150, 200, 255]).expect("fits");
        assert_eq!(Pixels::decode(&grey.to_png(), None).expect("decodes"), grey);
        let rgb = Pixels::new(RGB, vec![1, 2, 3, 40, 50, 60]).expect("fits");
        assert_eq!(Pixels::decode(&rgb.to_png(), None).expect("decodes"), rgb);
    }

    #[test]
    fn a_body_is_read_by_its_content_type() {
        let grey = Pixels::new(GREY, vec![0, 50, 100, 150, 200, 255]).expect("fits");
        let json = br#"{"pixels": [[0, 50, 100], [150, 200, 255]]}"#;
        for (kind, body) in [
            ("application/json; charset=utf-8", json.to_vec()),
            ("image/png", grey.to_png()),
            ("IMAGE/PNG", grey.to_png()),
        ] {
            assert_eq!(Pixels::decode_body(kind, &body, GREY).expect(kind), grey, "{kind}");
        }
        let json = br#"{"pixels": [[[1, 2, 3], [40, 50, 60]]]}"#;
        let rgb = Pixels::decode_body("application/json", json, RGB).expect("reads");
        assert_eq!(rgb.data(), [1, 2, 3, 40, 50, 60]);
    }

    #[test]
    fn every_bad_body_has_its_own_message() {
        let png = Pixels::new(GREY, vec![9; 6]).expect("fits").to_png();
        let message = |kind: &str, body: &[u8], spec| {
            Pixels::decode_body(kind, body, spec).expect_err("refused").to_string()
        };
        assert!(message("text/plain", &png, GREY).contains("`text/plain` is not read"));
        assert!(message("image/png", &png, RGB).contains("is 3 x 2, the model takes 2 x 1 RGB"));
        assert!(message("image/png", &png[..40], GREY).contains("cannot be decoded"));
        assert!(message("image/jpeg", &png, GREY).contains("cannot be decoded"));
        assert!(message("image/png", b"", GREY).contains("cannot be decoded"));
        let json = "application/json";
        assert!(message(json, br#"{"pixels": [[0, 1]]}"#, GREY).contains("there are 1 rows"));
        let uneven = br#"{"pixels": [[0, 1, 2], [0, 1]]}"#;
        assert!(message(json, uneven, GREY).contains("row 1 has 2 pixels"));
        assert!(message(json, br#"{"pixels": [[0, 1, 256]]}"#, GREY).contains("0 to 255"));
        assert!(message(json, b"{", GREY).contains("0 to 255"));
    }

    #[test]
    fn jpeg_files_are_read_and_damage_is_found() {
        let spec = InputSpec { channels: 3, height: 32, width: 32 };
        let data: Vec<u8> = (0..spec.len()).map(|at| (at * 7 % 251) as u8).collect();
        let mut jpeg = Vec::new();
        image::codecs::jpeg::JpegEncoder::new(&mut jpeg)
            .write_image(&data, 32, 32, ExtendedColorType::Rgb8)
            .expect("encodes");
        let image = Pixels::decode_body("image/jpeg", &jpeg, spec).expect("decodes");
        assert_eq!(image.spec(), spec);
        let grey = InputSpec { channels: 1, ..spec };
        assert_eq!(Pixels::decode(&jpeg, Some(grey)).expect("decodes").spec(), grey);
        assert!(Pixels::decode(&jpeg[..200], None).is_err(), "cut in its tables");
        for length in [jpeg.len() * 2 / 3, jpeg.len() - 1, jpeg.len() - 2] {
            let cut = Pixels::decode(&jpeg[..length], None).expect_err("cut in its data");
            assert!(matches!(cut, InputError::CutShort), "{cut}");
        }
        let padded = [jpeg.as_slice(), &[0; 10]].concat();
        assert_eq!(Pixels::decode(&padded, None).expect("decodes"), image, "padding is harmless");
    }

    #[test]
    fn other_formats_are_named_and_refused() {
        let error = Pixels::decode(b"P5 1 1 255 a", None).expect_err("a PGM file").to_string();
        assert!(error.contains("`image/x-portable-anymap` is not read"), "{error}");
    }

    #[test]
    fn a_decompression_bomb_is_refused_by_its_header() {
        let mut png = Pixels::new(GREY, vec![9; 6]).expect("fits").to_png();
        // IHDR: width and height stand at bytes 16..24, its checksum at 29..33.
        png[16..20].copy_from_slice(&60_000_u32.to_be_bytes());
        let crc = crc32(&png[12..29]);
        png[29..33].copy_from_slice(&crc.to_be_bytes());
        let refusal = Pixels::decode(&png, None).expect_err("too large");
        assert!(matches!(refusal, InputError::TooLarge { width: 60_000, height: 2 }), "{refusal}");
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
            })
        })
    }
}

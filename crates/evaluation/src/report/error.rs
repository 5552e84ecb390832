//! What can go wrong with a report.

/// Why a report could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// plotters refused.
    #[error("cannot draw the {picture}: {reason}")]
    Draw {
        /// Which picture.
        picture: &'static str,
        /// What plotters said.
        reason: String,
    },
    /// The image provider gave something that is not an image.
    #[error(
        "image {index} has {found} bytes for {channels} channels of {height} x {width} pixels; expected \
         channels x height x width bytes, with 1 or 3 channels and no empty side"
    )]
    Image {
        /// Its position in the data set.
        index: u32,
        /// Channels claimed.
        channels: usize,
        /// Height claimed.
        height: usize,
        /// Width claimed.
        width: usize,
        /// Bytes given.
        found: usize,
    },
    /// A PNG file could not be encoded.
    #[error("cannot encode a picture as PNG: {0}")]
    Encode(image::ImageError),
    /// The figures could not be written as JSON.
    #[error("cannot write evaluation.json: {0}")]
    Json(#[from] serde_json::Error),
    /// The predictions could not be written as CSV.
    #[error("cannot write predictions.csv: {0}")]
    Csv(#[from] csv::Error),
    /// Formatting text failed.
    #[error("cannot format the report: {0}")]
    Format(#[from] std::fmt::Error),
}

impl ReportError {
    pub(super) fn draw(picture: &'static str, reason: &str) -> Self {
        Self::Draw { picture, reason: reason.to_owned() }
    }
}

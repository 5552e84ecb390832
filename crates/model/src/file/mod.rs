//! The model file, and what it says of the images that its model was trained on.

pub(crate) mod model_file;
mod seen;

pub use model_file::{
    Description, FORMAT_VERSION, Metadata, Model, ModelFileError, PROBE_IMAGES, PROBE_TOLERANCE, decode,
    encode, read_metadata,
};
pub use seen::{MOST_SEEN, Seen};

//! Where a run starts: from drawn weights, from those of a trained model, of another program, or of a checkpoint.

mod begin;
mod configure;
mod container;
mod error;
mod foreign_file;
pub mod model_io;
pub mod weights;

pub use begin::{Started, begin};
pub use configure::{Start, configure, configure_foreign, recorded_start, settle};
pub use error::StartError;

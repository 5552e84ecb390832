//! Where a run starts: from drawn weights, from those of a trained model, of another program, or of a checkpoint.

mod configure;
mod container;
mod error;
mod foreign_file;
mod initial_weights;
pub mod model_io;
pub mod weights;

pub use configure::{Start, configure, configure_foreign, recorded_start, resolve_start};
pub use error::StartError;
pub use initial_weights::{InitialWeights, initial_weights};

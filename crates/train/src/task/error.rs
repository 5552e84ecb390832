//! What is wrong with what is to be learned from.

/// Images that a run cannot learn from as its configuration says.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The data.
    #[error(transparent)]
    Data(#[from] data::DataError),
    /// Images that cannot get the channels asked for.
    #[error("data.channels: {0}")]
    Channels(model::PictureError),
    /// Too few images for a split.
    #[error("{dataset}: {reason}")]
    TooFew {
        /// The data set.
        dataset: String,
        /// What there is too little of, why, and what would help.
        reason: String,
    },
    /// One weight per class is needed.
    #[error("regularization.class_weights has {found} weights, the data has {expected} classes")]
    ClassWeights {
        /// Weights given.
        found: usize,
        /// Classes.
        expected: usize,
    },
}

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
    /// A setting that the task has no use for.
    #[error("{key} has no meaning for {task}: {reason}")]
    Meaningless {
        /// The task.
        task: model::TaskName,
        /// The setting.
        key: &'static str,
        /// Why, and what to do.
        reason: &'static str,
    },
    /// Images with sets of classes for what wants one class each.
    #[error("{dataset} has several labels a picture (multi-label), and {what} is for one class a picture")]
    Sets {
        /// The data set.
        dataset: String,
        /// What was to be done.
        what: &'static str,
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

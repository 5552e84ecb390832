//! Why a run cannot start where its configuration says.

use std::path::PathBuf;

use crate::config::ConfigError;
use crate::start::model_io::ModelIoError;
use crate::start::weights::WeightsError;

/// Why a run cannot start where its configuration says.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Settings of fine-tuning without weights to start from.
    #[error(
        "the configuration has settings of fine-tuning, [finetune], and no finetune.from, the weights to start from: name \
         them (--set finetune.from=RUN|FILE), or use `finetune`, which looks for some"
    )]
    NoWeights,
    /// Another network than that of the starting model.
    #[error(
        "network.{key} = {found}: a fine-tuned network is that of its starting model, and {from} has {expected} there; \
         leave the network out of the configuration"
    )]
    Network {
        /// The first key that differs.
        key: String,
        /// What was asked for.
        found: String,
        /// What the model has.
        expected: String,
        /// The model.
        from: PathBuf,
    },
    /// The starting model.
    #[error("the starting model does not fit: {0}")]
    Record(#[from] model::RecordError),
    /// A head to keep that knows none of the data's classes.
    #[error(
        "the head cannot be kept: the data has the classes {found}, the starting model knows {known}, and classes are \
         matched by their names; leave --keep-head out for a new head, or give the classes of the data the model's names"
    )]
    NoSharedClass {
        /// Classes of the data.
        found: String,
        /// Classes of the model.
        known: String,
    },
    /// A head to keep that has another form than the network's.
    #[error(
        "the head cannot be kept: the starting model's takes other features than the network's; leave --keep-head out"
    )]
    HeadForm,
    /// A head that was trained for another task.
    #[error(
        "finetune.keep_head = true: the starting model was trained for {found}, the data is for {expected}, and a head \
         means something else there; leave it out, and the head is new"
    )]
    HeadTask {
        /// Task of the starting model.
        found: model::TaskName,
        /// Task of the data.
        expected: model::TaskName,
    },
    /// The network does not fit the images.
    #[error("the network does not fit: {0}")]
    Shape(#[from] model::ShapeError),
    /// Images of another size than the starting model was trained on.
    #[error("{dataset} has images of {found}, the model takes {expected}")]
    Input {
        /// The data set.
        dataset: String,
        /// Its images.
        found: String,
        /// The model's input.
        expected: String,
    },
    /// A starting model that cannot be read.
    #[error(transparent)]
    ModelIo(#[from] ModelIoError),
    /// Weights of another program.
    #[error(transparent)]
    Foreign(#[from] WeightsError),
    /// Weights that are not those the configuration was made for.
    #[error(
        "{path} was changed since the configuration was made: its weights are {found}, expected {expected} \
         (finetune.from_weights_sha256). Restore it, or start a new run from it with `finetune --from`"
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// SHA-256 of the weights in it.
        found: String,
        /// SHA-256 in the configuration.
        expected: String,
    },
}

impl StartError {
    /// Whether the command line or the configuration is at fault (exit status 2).
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Config(_)
                | Self::NoWeights
                | Self::Shape(_)
                | Self::Network { .. }
                | Self::Foreign(WeightsError::Fetch(
                    data::DataError::UnknownWeights { .. } | data::DataError::WeightsPin { .. }
                ))
        )
    }
}

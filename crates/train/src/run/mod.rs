//! The folder of a run: its files, its checkpoints, and the lock that keeps other processes out.

pub mod checkpoint;
pub mod committer;
pub mod data_record;
mod error;
pub mod files;
pub mod folder;
pub mod history;
pub mod lock;
pub mod record;
pub mod tensorboard;

pub use error::RunFolderError;

//! The commands but `train`, `finetune` and `serve`, which have rooms of their own: a file or folder each.

pub(crate) mod bench;
pub(crate) mod compare;
pub(crate) mod data;
pub(crate) mod evaluate;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod federated;
pub(crate) mod lr_find;
pub(crate) mod models;
pub(crate) mod predict;
mod rejection;
pub(crate) mod runs;
pub(crate) mod sweep;

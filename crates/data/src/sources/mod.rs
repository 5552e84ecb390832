//! Where bytes come from: the user's folders, the cache, mirrors, packages, and the program itself.

pub(crate) mod archive;
pub(crate) mod cache;
pub mod catalog;
pub(crate) mod found;
mod http;
pub(crate) mod idx_folder;
pub(crate) mod known;
mod packages;
pub mod published;
pub mod sample;
pub(crate) mod search;
pub(crate) mod status;
mod store;
#[cfg(test)]
mod world;

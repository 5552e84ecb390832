//! Several runs in one folder, of which each is begun, gone on with, or taken as it stands.

pub mod folds;
mod member;
mod unfinished;

pub use member::{Member, Spread, complete};
pub use unfinished::open_newest_unfinished;

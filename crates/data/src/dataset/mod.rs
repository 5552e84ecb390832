//! Labelled images in memory, and what is known of them: parts, classes, what they show, and what a data set is.

mod account;
mod classes;
mod content;
mod identity;
mod images;
mod labels;
mod pair;
mod part;

pub use account::{Copied, Duplicates, PictureReport, Sizes};
pub use classes::{ClassAgreement, ClassMap, listed};
pub use content::ContentHash;
pub use identity::{Changes, Entry};
pub(crate) use images::measure;
pub use images::{Dataset, class_counts};
pub use labels::Labels;
pub use pair::DatasetPair;
pub use part::Part;

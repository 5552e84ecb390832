//! What was found out about the picture files of a data set.

use serde::{Deserialize, Serialize};

use super::part::Part;
use crate::error::BadImage;
use crate::findings::Finding;

/// What was found out about the files of a data set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PictureReport {
    /// Files that were left out because they cannot be decoded.
    pub bad: Vec<BadImage>,
    /// Files in class folders that are no pictures by their names.
    pub ignored: Vec<String>,
    /// Files whose extension names another format than their content; they were read by their content.
    pub mislabelled: Vec<String>,
    /// All that is wrong, those files included.
    #[serde(skip)]
    pub findings: Vec<Finding>,
    /// Sizes of the pictures before they were resized.
    pub sizes: Sizes,
    /// Whether the images come from the cache of an earlier run.
    pub from_cache: bool,
    /// Classes of which no picture was set aside for the test, where the data names no test part.
    pub untested: Vec<String>,
    /// Groups whose pictures the data itself names for different parts.
    pub torn_groups: Vec<String>,
    /// Pictures that show the same.
    pub duplicates: Duplicates,
}

/// Sizes of the pictures before they were resized, width and height.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// Fewest pixels.
    pub smallest: [usize; 2],
    /// The middle one by number of pixels.
    pub median: [usize; 2],
    /// Most pixels.
    pub largest: [usize; 2],
    /// How many different sizes there are.
    pub distinct: usize,
}

/// Pictures of a data set that show exactly the same, as sets of two or more files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Duplicates {
    /// Copies with one label in one part.
    pub harmless: Vec<Vec<Copied>>,
    /// Sets with more than one label.
    pub contradicting: Vec<Vec<Copied>>,
    /// Sets with pictures in more than one part.
    pub across_parts: Vec<Vec<Copied>>,
    /// Sets with pictures of more than one group: a group is kept together, and its copies elsewhere are not.
    pub across_groups: Vec<Vec<Copied>>,
}

/// One of the files that show the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Copied {
    /// Its name in the data set.
    pub file: String,
    /// Its label.
    pub class: String,
    /// What it is for.
    pub part: Part,
}

//! What the images of a data set are for.

use serde::{Deserialize, Serialize};

/// What a picture is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// To learn from.
    Train,
    /// To choose by.
    Valid,
    /// For the one final test.
    Test,
}

impl Part {
    /// Every part.
    pub(crate) const ALL: [Self; 3] = [Self::Train, Self::Valid, Self::Test];

    /// Names by which people and programs call it, in lower case.
    pub(crate) const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Train => &["train", "training", "trn"],
            Self::Valid => {
                &["valid", "val", "validation", "validate", "validating", "dev", "devel", "development"]
            }
            Self::Test => &["test", "testing", "tst", "eval", "evaluation", "evaluating"],
        }
    }

    /// Its usual name.
    pub(crate) const fn name(self) -> &'static str {
        self.names()[0]
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

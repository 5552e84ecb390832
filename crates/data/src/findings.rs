//! What is wrong with the files of a data set, as data: found all at once, listed by `kiln data check`, and the reason
//! for which training refuses.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::text::one_line;

/// What sort of fault it is; in the order in which they are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FindingKind {
    /// It is not clear which folder or which column is what.
    Layout,
    /// A line of a list that cannot be followed.
    Line,
    /// A link that leads nowhere or back, or a folder that cannot be listed.
    Unreachable,
    /// A picture that cannot be decoded.
    Unusable,
    /// A class of which too few usable pictures are left for training.
    TooFew,
    /// One picture under several labels.
    Contradicting,
    /// One picture that is tested on and also in another part.
    Tested,
    /// A group that the data set itself divides among parts.
    TornGroup,
    /// An empty class folder; it is left out.
    EmptyClass,
    /// A class that has pictures to train on, but none in this part.
    MissingClass,
    /// A folder or file beside the parts of the data set that belongs to none.
    NotRead,
    /// Named once more; read once.
    Repeated,
    /// Names that are, or look like, one.
    Names,
    /// A list that had to be guessed how to read.
    Encoding,
    /// A picture by its name, of a format that is not read.
    UnreadFormat,
    /// No picture by its name.
    Ignored,
    /// Of another format than its name says.
    Mislabelled,
    /// All pixels are alike once it is decoded.
    SingleColor,
    /// A file of 16 bits a sample whose values have fewer, which were stretched.
    FewBits,
    /// Too large for the limits, and made smaller while it was read.
    Reduced,
    /// A class of which no picture was set aside for the test.
    Untested,
    /// One picture both to train on and to validate on.
    Validated,
    /// One picture in several groups, which may be in different parts.
    AcrossGroups,
    /// One picture under several names.
    Duplicate,
}

impl FindingKind {
    /// Whether training refuses data with such a finding.
    pub fn stops(self) -> bool {
        self <= Self::TooFew
    }

    /// Whether it must be mended, or what comes of the data is not what it seems.
    pub fn is_fault(self) -> bool {
        self <= Self::TornGroup
    }

    /// The head of a list of such findings.
    pub fn title(self) -> &'static str {
        match self {
            Self::Layout => "not clear",
            Self::Line => "lines that cannot be followed",
            Self::Unreachable => "cannot be followed",
            Self::Unusable => "cannot be used",
            Self::TooFew => "classes with too few pictures to train on",
            Self::Contradicting => "duplicates with contradicting labels",
            Self::Tested => "duplicates on both sides of the test, which make it too easy",
            Self::TornGroup => "groups that the list itself divides among the parts",
            Self::EmptyClass => "empty class folders, left out",
            Self::MissingClass => "classes without a picture in a part",
            Self::NotRead => "not read",
            Self::Repeated => "listed or linked more than once, read once",
            Self::Names => "names of classes to look at",
            Self::Encoding => "the encoding is a guess",
            Self::UnreadFormat => "pictures of a format that is not read, left out",
            Self::Ignored => "no pictures by their names, ignored",
            Self::Mislabelled => "of another format than their names say, read by content",
            Self::SingleColor => "pictures of a single colour",
            Self::FewBits => "of 16 bits with values of fewer, stretched from black to white",
            Self::Reduced => "too large to be decoded whole, made smaller while read",
            Self::Untested => "classes without a picture in the test part, which says nothing about them",
            Self::Validated => "duplicates both to train on and to validate on",
            Self::AcrossGroups => "duplicates in several groups, which may be in different parts",
            Self::Duplicate => "duplicates, one picture under several names",
        }
    }
}

/// One fault of one file, folder or line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// What sort of fault it is.
    pub kind: FindingKind,
    /// The file, folder or line, as the data set names it.
    pub path: String,
    /// What is wrong with it and what to do; may be empty where the kind says all.
    pub reason: String,
}

impl Finding {
    pub(crate) fn new(kind: FindingKind, path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { kind, path: path.into(), reason: reason.into() }
    }

    /// `path: reason`, in one line.
    pub fn line(&self) -> String {
        let path = one_line(&self.path);
        if self.reason.is_empty() { path } else { format!("{path}: {}", one_line(&self.reason)) }
    }
}

/// The findings by kind, at most `most` of each, as lines under heads: `cannot be used: 2`.
pub fn grouped(findings: &[Finding], most: usize) -> String {
    let mut kinds: BTreeMap<FindingKind, Vec<&Finding>> = BTreeMap::new();
    for finding in findings {
        kinds.entry(finding.kind).or_default().push(finding);
    }
    let mut lines = Vec::new();
    for (kind, findings) in kinds {
        lines.push(format!("{}: {}", kind.title(), findings.len()));
        lines.extend(findings.iter().take(most).map(|finding| format!("  {}", finding.line())));
        if findings.len() > most {
            lines.push(format!("  and {} more (kiln data check --json lists all)", findings.len() - most));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_listed_by_kind_and_a_name_stays_in_its_line() {
        let findings = [
            Finding::new(FindingKind::Ignored, "a/notes.txt", ""),
            Finding::new(FindingKind::Unusable, "a/1.png", "the file is empty"),
            Finding::new(FindingKind::Unusable, "a/2\nerror.png", "the file is empty"),
            Finding::new(FindingKind::Unusable, "a/3.png", "the file is empty"),
        ];
        assert_eq!(
            grouped(&findings, 2),
            "cannot be used: 3\n  a/1.png: the file is empty\n  a/2\\nerror.png: the file is empty\n  \
             and 1 more (kiln data check --json lists all)\n\
             no pictures by their names, ignored: 1\n  a/notes.txt"
        );
    }
}

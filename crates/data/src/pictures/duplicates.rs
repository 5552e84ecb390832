//! Pictures that show the same: harmless within a class, a fault across classes and across parts.

use std::collections::HashMap;

use crate::dataset::{ContentHash, Copied, Dataset, Duplicates, Part};
use crate::findings::{Finding, FindingKind};

impl Duplicates {
    /// Of all images of a data set with their parts.
    pub(crate) fn of(all: &Dataset, parts: &[Part]) -> Self {
        let mut by_content: HashMap<&ContentHash, Vec<usize>> = HashMap::new();
        for (index, content) in all.content.iter().enumerate() {
            by_content.entry(content).or_default().push(index);
        }
        let copied = |&index: &usize| Copied {
            file: all.files[index].clone(),
            class: all.class_of(index).into_owned(),
            part: parts[index],
        };
        let mut sets: Vec<Vec<usize>> = by_content.into_values().filter(|set| set.len() > 1).collect();
        sets.sort();
        let mut duplicates = Self::default();
        for set in sets {
            let differ =
                |differ: &dyn Fn(usize, usize) -> bool| set.iter().any(|&index| differ(index, set[0]));
            let named: Vec<Copied> = set.iter().map(copied).collect();
            let contradict = differ(&|a, b| all.labels.of(a) != all.labels.of(b));
            let in_parts = differ(&|a, b| parts[a] != parts[b]);
            let in_groups = differ(&|a, b| all.units[a] != all.units[b]);
            for (applies, list) in [
                (contradict, &mut duplicates.contradicting),
                (in_parts, &mut duplicates.across_parts),
                (in_groups, &mut duplicates.across_groups),
                (!contradict && !in_parts && !in_groups, &mut duplicates.harmless),
            ] {
                if applies {
                    list.push(named.clone());
                }
            }
        }
        duplicates
    }

    /// Each set as a finding of its kind.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let class = |copy: &Copied| copy.class.clone();
        let part = |copy: &Copied| copy.part.to_string();
        let is_tested = |set: &&Vec<Copied>| set.iter().any(|copy| copy.part == Part::Test);
        let (tested, validated): (Vec<_>, Vec<_>) = self.across_parts.iter().partition(is_tested);
        let lines = |kind, sets: Vec<&Vec<Copied>>, tell: &dyn Fn(&Copied) -> String| -> Vec<Finding> {
            sets.into_iter().map(|set| Finding::new(kind, in_line(set, tell), "")).collect()
        };
        [
            lines(FindingKind::Contradicting, self.contradicting.iter().collect(), &class),
            lines(FindingKind::Tested, tested, &part),
            lines(FindingKind::Validated, validated, &part),
            lines(FindingKind::AcrossGroups, self.across_groups.iter().collect(), &part),
            lines(FindingKind::Duplicate, self.harmless.iter().collect(), &|_| String::new()),
        ]
        .concat()
    }
}

/// The files of a set in one line, with what `tell` says of each.
pub(super) fn in_line(set: &[Copied], tell: impl Fn(&Copied) -> String) -> String {
    set.iter()
        .map(|copy| match tell(copy) {
            text if text.is_empty() => copy.file.clone(),
            text => format!("{} ({text})", copy.file),
        })
        .collect::<Vec<_>>()
        .join(" = ")
}

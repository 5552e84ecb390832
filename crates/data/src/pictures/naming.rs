//! How a list says which classes a picture is of: one, several in a cell, or a column for each class.

use model::TaskName;

use crate::dataset::listed;
use crate::text::composed;

/// How a list says which classes a picture is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// The one in this column.
    One(usize),
    /// Those in this column, with this character between them.
    Set(usize, char),
    /// Those whose columns say 1: positions and names.
    Each(Vec<(usize, String)>),
}

impl Naming {
    /// That pictures have several labels, and which columns are not read (`unread`); `None` of one class each.
    pub(super) fn told(&self, unread: &[String]) -> Option<String> {
        match self {
            Self::One(_) => None,
            Self::Set(_, between) => {
                Some(format!("several labels a picture, with `{between}` between them (multi-label)"))
            }
            Self::Each(classes) => {
                let names: Vec<&String> = classes.iter().map(|(_, name)| name).collect();
                Some(format!(
                    "several labels a picture, a column of 0 and 1 for each of {} classes: {} (multi-label); columns not \
                     read: {}",
                    names.len(),
                    listed(&names),
                    listed(unread)
                ))
            }
        }
    }
}

/// What there is between the names of a set.
const BETWEEN: [char; 2] = [';', '|'];

/// What a list has in its rows, by column.
pub(super) struct Cells<'a> {
    /// The cells of a column.
    pub(super) of: &'a dyn Fn(usize) -> Vec<String>,
    /// What the list is read for, where that is known.
    pub(super) task: Option<TaskName>,
}

/// What a cell says that is for yes or no; `None` where it says neither.
pub(super) fn flag(cell: &str) -> Option<bool> {
    match cell.to_lowercase().as_str() {
        "true" | "1" | "1.0" | "yes" | "y" | "t" => Some(true),
        "false" | "0" | "0.0" | "no" | "n" | "f" => Some(false),
        _ => None,
    }
}

/// Those that promise more than one.
const PLURALS: [&str; 8] =
    ["labels", "classes", "classnames", "labelnames", "categories", "categorynames", "targets", "tags"];

/// Whether the names in a column, called `name` in lower case, are sets: where that is asked for, and where the column promises several and has them.
pub(super) fn naming(column: usize, name: &str, cells: &Cells) -> Result<Naming, String> {
    if cells.task == Some(TaskName::Classify) {
        return Ok(Naming::One(column));
    }
    let is_plural = PLURALS.contains(&name);
    let values = (cells.of)(column);
    let found: Vec<char> =
        BETWEEN.into_iter().filter(|&between| values.iter().any(|value| value.contains(between))).collect();
    let is_asked = cells.task == Some(TaskName::MultiLabel);
    match found[..] {
        [_, _, ..] if is_asked || is_plural => Err(format!(
            "some labels have `{}` in them and some `{}`; keep one of them between the labels of a picture",
            found[0], found[1]
        )),
        [between, ..] if is_asked || is_plural => Ok(Naming::Set(column, between)),
        [] if is_asked => Ok(Naming::Set(column, BETWEEN[0])),
        [between, ..] => {
            tracing::warn!(
                "some labels have `{between}` in them, and each is taken for one class; where they are several, call the \
                 column `labels` or give --task multi-label"
            );
            Ok(Naming::One(column))
        }
        [] => Ok(Naming::One(column)),
    }
}

/// Whether a column is that of a class: most of its cells, and one at least, say yes or no.
pub(super) fn says_flags(cells: &[String]) -> bool {
    let flags = cells.iter().filter(|cell| flag(cell).is_some()).count();
    flags > 0 && 2 * flags >= cells.iter().filter(|cell| !cell.is_empty()).count()
}

/// The labels of a picture in ascending order, each once.
pub(super) fn labels(record: &csv::StringRecord, naming: &Naming) -> Result<Vec<String>, String> {
    let cell = |column: usize| record.get(column).unwrap_or_default();
    let mut labels: Vec<String> = match naming {
        Naming::One(column) => vec![composed(cell(*column))],
        Naming::Set(column, between) => {
            let names = cell(*column).split(*between).map(str::trim).filter(|name| !name.is_empty());
            names.map(composed).collect()
        }
        Naming::Each(classes) => {
            let mut own = Vec::new();
            for (column, name) in classes {
                let value = cell(*column);
                let wrong = || format!("column `{name}`: expected 0 or 1, found `{value}`");
                if flag(value).ok_or_else(wrong)? {
                    own.push(name.clone());
                }
            }
            own
        }
    };
    labels.sort_unstable();
    labels.dedup();
    Ok(labels)
}

//! Which columns of a list say what.

use model::TaskName;

use super::naming::{self, Cells, Naming, naming, says_flags};
use crate::dataset::Part;
use crate::text::composed;

/// Which column says what; positions from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Columns {
    pub(super) path: usize,
    pub(super) label: Naming,
    pub(super) parts: Parts,
    pub(super) group: Option<usize>,
    /// Columns of the header.
    pub(super) count: usize,
    /// Names of the columns that say nothing of classes where each class has a column.
    pub(super) unread: Vec<String>,
}

/// How a list says which part a picture belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parts {
    /// Not at all.
    None,
    /// By the name of the part.
    Named(usize),
    /// By a column that says whether it is for validation, and one for the test, as fastai has it.
    Flags { valid: Option<usize>, test: Option<usize> },
}

/// Names of columns in lower case, letters only: the usual one first, which is taken where others are there too.
const PATHS: [&str; 18] = [
    "path",
    "paths",
    "file",
    "files",
    "filename",
    "filenames",
    "filepath",
    "filepaths",
    "image",
    "images",
    "imagepath",
    "imagefile",
    "imagename",
    "img",
    "imgpath",
    "imgname",
    "picture",
    "fname",
];
const LABELS: [&str; 15] = [
    "label",
    "labels",
    "class",
    "classes",
    "classname",
    "classnames",
    "labelname",
    "labelnames",
    "category",
    "categories",
    "categoryname",
    "categorynames",
    "target",
    "targets",
    "tags",
];
const SPLITS: [&str; 9] =
    ["split", "splits", "set", "subset", "part", "partition", "dataset", "phase", "datasplit"];
const GROUPS: [&str; 4] = ["group", "groups", "groupid", "groupname"];
const IS_VALID: [&str; 3] = ["isvalid", "isval", "isvalidation"];
const IS_TEST: [&str; 1] = ["istest"];

impl Columns {
    /// `names_parts` tells of a column whether parts are named in it: one that is not called `split` may be about something
    /// else.
    pub(super) fn of(
        header: &csv::StringRecord,
        names_parts: impl Fn(usize) -> bool,
        cells: &Cells,
    ) -> Result<Self, String> {
        let names: Vec<String> = header
            .iter()
            .map(|name| name.to_lowercase().chars().filter(|character| character.is_alphanumeric()).collect())
            .collect();
        let column = |what: &str,
                      known: &[&str],
                      fits: &dyn Fn(usize) -> bool|
         -> Result<Option<usize>, String> {
            let at = |name: &str| (0..names.len()).filter(|&at| names[at] == name).collect::<Vec<_>>();
            let usual = at(known[0]);
            let others = || known.iter().flat_map(|name| at(name)).filter(|&at| fits(at)).collect::<Vec<_>>();
            let found = if usual.is_empty() { others() } else { usual };
            match found[..] {
                [] => Ok(None),
                [only] => Ok(Some(only)),
                _ => {
                    let columns: Vec<String> = found.iter().map(|&at| format!("`{}`", &header[at])).collect();
                    Err(format!(
                        "{} may each be the column of the {what}; name the right one `{}`",
                        columns.join(" and "),
                        known[0]
                    ))
                }
            }
        };
        let missing = || {
            let found = header.iter().collect::<Vec<_>>().join(",");
            format!(
                "expected a header line `path,label`, with `split` and `group` where they are wanted, separated by commas, semicolons or tabs, found `{found}`"
            )
        };
        let path = column("paths", &PATHS, &|_| true)?.ok_or_else(missing)?;
        let label = column("labels", &LABELS, &|_| true)?;
        let group = column("groups", &GROUPS, &|_| true)?;
        let valid = column("validation flags", &IS_VALID, &|_| true)?;
        let test = column("test flags", &IS_TEST, &|_| true)?;
        let parts = match (column("parts", &SPLITS, &names_parts)?, valid.or(test)) {
            (Some(split), Some(flag)) => {
                return Err(format!(
                    "`{}` and `{}` both say which part a picture belongs to; keep one",
                    &header[split], &header[flag]
                ));
            }
            (Some(split), None) => Parts::Named(split),
            (None, Some(_)) => Parts::Flags { valid, test },
            (None, None) => Parts::None,
        };
        let mut unread = Vec::new();
        let label = match label {
            Some(column) => naming(column, &names[column], cells)?,
            None if cells.task == Some(TaskName::Classify) => return Err(missing()),
            None => {
                let known = |at: &usize| {
                    *at == path
                        || group == Some(*at)
                        || valid == Some(*at)
                        || test == Some(*at)
                        || parts == Parts::Named(*at)
                };
                let named = (0..header.len()).filter(|at| !known(at) && !header[*at].is_empty());
                let (flags, others): (Vec<usize>, Vec<usize>) =
                    named.partition(|&at| says_flags(&(cells.of)(at)));
                if flags.len() < 2 {
                    return Err(missing());
                }
                unread.extend(others.into_iter().map(|at| header[at].to_owned()));
                let mut classes: Vec<(usize, String)> =
                    flags.into_iter().map(|at| (at, composed(&header[at]))).collect();
                classes.sort_by(|a, b| a.1.cmp(&b.1));
                if let Some(two) = classes.windows(2).find(|two| two[0].1 == two[1].1) {
                    return Err(format!("two columns are called `{}`; keep one", two[0].1));
                }
                Naming::Each(classes)
            }
        };
        Ok(Self { path, label, parts, group, count: header.len(), unread })
    }

    /// The part that a row names.
    pub(super) fn part(&self, row: &csv::StringRecord) -> Result<Part, String> {
        let cell = |column: usize| {
            let missing = || format!("expected {} fields, found {}", self.count, row.len());
            row.get(column).ok_or_else(missing)
        };
        let flag = |column: Option<usize>| match column {
            None => Ok(false),
            Some(column) => match cell(column)? {
                "" => Ok(false),
                cell => naming::flag(cell)
                    .ok_or_else(|| format!("`{}`: expected true or false", cell.to_lowercase())),
            },
        };
        match self.parts {
            Parts::None => Ok(Part::Train),
            Parts::Named(column) => match cell(column)? {
                "" => Ok(Part::Train),
                name => Part::named(name)
                    .ok_or_else(|| format!("split `{name}`: expected train, valid, test or nothing")),
            },
            Parts::Flags { valid, test } => match (flag(valid)?, flag(test)?) {
                (false, false) => Ok(Part::Train),
                (true, false) => Ok(Part::Valid),
                (false, true) => Ok(Part::Test),
                (true, true) => Err("it is both for validation and for the test".to_owned()),
            },
        }
    }
}

/// The separator that a first line `sep=;` names, as spreadsheets write it, and the text after that line.
pub(super) fn announced(text: &str) -> Option<(u8, &str)> {
    let end = text.find(['\r', '\n'])?;
    let (line, rest) = text.split_at(end);
    let line = line.trim_matches('"');
    let (head, separator) = line.split_at_checked(4)?;
    // In a table of two columns the line itself may be continued by a separator.
    let separator = separator.as_bytes().first()?;
    let rest = rest.strip_prefix("\r\n").unwrap_or(&rest[1..]);
    head.eq_ignore_ascii_case("sep=")
        .then_some((*separator, rest))
        .filter(|(separator, _)| separator.is_ascii())
}

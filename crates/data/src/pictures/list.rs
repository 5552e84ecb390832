//! Which pictures a CSV file lists, as programs and spreadsheets write them. What is wrong comes along as findings.
//!
//! Longer than other files for its tests: every way in which programs write lists has one.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use model::TaskName;

use super::columns::{Columns, announced};
use super::hints::Hints;
use super::listed::{Listing, Sample, similar};
use super::naming::{Cells, Naming, labels};
use crate::dataset::Part;
use crate::error::DataError;
use crate::findings::{Finding, FindingKind};
use crate::options::Purpose;
use crate::text::{composed, decoded};

/// Longest list that is read, in bytes: some millions of lines.
const MAX_LIST_BYTES: u64 = 512 << 20;

/// What may separate columns; a line `sep=…` at the beginning may name another.
const SEPARATORS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// Lists the pictures that a CSV file names: a header with `path` and `label`, and `split` and `group` (what belongs
/// together in one part) if they are wanted, in any order and case, or under the names that others give them ([`Columns`]); columns separated by commas, semicolons or
/// tabs; UTF-8, UTF-16 or Windows-1252. Several labels a picture stand in a column `labels` with `;` or `|` between
/// them, or as 1 (and 0) in a column for each class; `task` says where either is not meant so. Paths are relative to the file. Classes are in the order of their names.
///
/// # Errors
/// When the file cannot be read; all else is a finding.
pub(crate) fn of_csv(list: &Path, purpose: Purpose, task: Option<TaskName>) -> Result<Listing, DataError> {
    let length = list.metadata().map_err(DataError::io("read", list))?.len();
    let mut reader = Reader {
        list,
        purpose,
        task,
        folder: list.parent().unwrap_or(Path::new("")),
        listing: Listing::default(),
    };
    if length > MAX_LIST_BYTES {
        reader.find(
            FindingKind::Layout,
            0,
            format!("the file has {length} bytes; expected at most {MAX_LIST_BYTES}"),
        );
        return Ok(reader.listing);
    }
    let bytes = std::fs::read(list).map_err(DataError::io("read", list))?;
    match decoded(&bytes) {
        Ok((text, guess)) => {
            if let Some(guess) = guess {
                reader.find(FindingKind::Encoding, 0, guess);
            }
            reader.read(&text);
        }
        Err(reason) => reader.find(FindingKind::Layout, 0, reason),
    }
    Ok(reader.listing)
}

/// One picture of the list.
struct Row {
    part: Part,
    /// The path as it stands in the list.
    name: String,
    path: PathBuf,
    /// In ascending order, none twice.
    labels: Vec<String>,
    /// What it belongs together with, where that is named.
    group: Option<String>,
    line: u64,
}

struct Reader<'a> {
    list: &'a Path,
    purpose: Purpose,
    task: Option<TaskName>,
    folder: &'a Path,
    listing: Listing,
}

impl Reader<'_> {
    /// `line` 0: the list as a whole.
    fn find(&mut self, kind: FindingKind, line: u64, reason: impl Into<String>) {
        let list = self.list.display();
        let path = if line == 0 { list.to_string() } else { format!("{list}, line {line}") };
        self.listing.findings.push(Finding::new(kind, path, reason));
    }

    fn read(&mut self, text: &str) {
        let (separators, body, skipped) = match announced(text) {
            Some((separator, rest)) => (vec![separator], rest, 1),
            None => (SEPARATORS.to_vec(), text, 0),
        };
        let reader = |separator: u8| {
            csv::ReaderBuilder::new()
                .has_headers(false)
                .flexible(true)
                .trim(csv::Trim::All)
                .delimiter(separator)
                .from_reader(body.as_bytes())
        };
        // The separator is the one that makes a header of the first line.
        let mut reason = None;
        let columns = separators.into_iter().find_map(|separator| {
            let mut header = csv::StringRecord::new();
            reader(separator).read_record(&mut header).ok()?;
            let names_parts = |column: usize| {
                let mut rows = reader(separator).into_records().skip(1).flatten();
                rows.any(|row| row.get(column).is_some_and(|cell| Part::named(cell).is_some()))
            };
            let of = |column: usize| {
                let rows = reader(separator).into_records().skip(1).flatten();
                rows.filter_map(|row| Some(row.get(column)?.to_owned())).collect()
            };
            match Columns::of(&header, names_parts, &Cells { of: &of, task: self.task }) {
                Ok(columns) => Some((separator, columns)),
                Err(wrong) => {
                    // What is said of several columns says more than what is said of one.
                    if reason.is_none() || header.len() > 1 {
                        reason = Some(wrong);
                    }
                    None
                }
            }
        });
        let Some((separator, columns)) = columns else {
            let reason =
                reason.unwrap_or_else(|| "expected a header line `path,label`, found nothing".to_owned());
            return self.find(FindingKind::Layout, 1 + skipped, reason);
        };
        if let Some(told) = columns.label.told(&columns.unread) {
            tracing::info!("{}: {told}", self.list.display());
        }
        let mut rows = Rows { listed: Vec::new(), of_file: HashMap::new(), folders: HashMap::new() };
        for record in reader(separator).into_records().skip(1) {
            match record {
                Ok(record) => {
                    let line = record.position().map_or(0, csv::Position::line) + skipped;
                    match self.row(&record, &columns, line) {
                        Ok(Some(row)) => rows.push(row, self),
                        Ok(None) => {}
                        Err(reason) => self.find(FindingKind::Line, line, reason),
                    }
                }
                Err(error) => self.find(FindingKind::Line, 0, error.to_string()),
            }
        }
        let rows = self.located(rows);
        self.take(rows, &columns.label);
    }

    /// `None` for a row of empty cells, as spreadsheets leave them at the end.
    fn row(&self, record: &csv::StringRecord, columns: &Columns, line: u64) -> Result<Option<Row>, String> {
        if record.iter().all(str::is_empty) {
            return Ok(None);
        }
        if record.iter().skip(columns.count).any(|cell| !cell.is_empty()) {
            return Err(format!(
                "expected {} fields, found {}; put a path or label that holds the separator between quotation marks",
                columns.count,
                record.len()
            ));
        }
        let cell = |column: usize| record.get(column).unwrap_or_default();
        let name = cell(columns.path);
        let label = match &columns.label {
            Naming::One(column) | Naming::Set(column, _) => cell(*column),
            Naming::Each(_) => "",
        };
        if name.is_empty() || (label.is_empty() && matches!(columns.label, Naming::One(_))) {
            return Err(format!("expected a path and a label, found `{name}` and `{label}`"));
        }
        if name.contains(['\n', '\r']) || label.contains(['\n', '\r']) {
            return Err(
                "a path or label goes on in the next line; is a quotation mark not closed?".to_owned()
            );
        }
        let part = columns.part(record)?;
        let path = located(self.folder, name);
        let group = columns.group.map(cell).filter(|group| !group.is_empty()).map(composed);
        let labels = labels(record, &columns.label)?;
        Ok(Some(Row { part, name: name.to_owned(), path, labels, group, line }))
    }

    /// Says of files that are not there what may help, and finds those whose names have another form of Unicode.
    fn located(&mut self, rows: Rows) -> Vec<Row> {
        let mut rows = rows.listed;
        let mut hints = None;
        for row in &mut rows {
            if row.path.symlink_metadata().is_ok() {
                continue;
            }
            let hints = hints.get_or_insert_with(|| Hints::below(self.folder));
            match hints.same_name(&row.name) {
                Some(path) => row.path = path,
                None => {
                    let hint = hints.hint(&row.name);
                    self.listing.missing.insert(row.name.clone(), format!("cannot read it: {hint}"));
                }
            }
        }
        rows
    }

    fn take(&mut self, rows: Vec<Row>, naming: &Naming) {
        let evaluates = self.purpose == Purpose::Evaluation;
        let named = rows.iter().filter(|row| evaluates || row.part == Part::Train);
        let names: BTreeSet<&String> = match naming {
            Naming::Each(classes) => classes.iter().map(|(_, name)| name).collect(),
            Naming::One(_) | Naming::Set(..) => named.flat_map(|row| &row.labels).collect(),
        };
        let class_names: Vec<String> = names.into_iter().cloned().collect();
        let reason = match class_names.len() {
            _ if rows.is_empty() => Some("no picture is listed".to_owned()),
            0 | 1 if evaluates => None,
            0 => Some("no picture is listed for training".to_owned()),
            1 => Some(format!("`{}` is the only class; a classifier needs two or more", class_names[0])),
            _ => None,
        };
        if let Some(reason) = reason {
            // Findings about lines say why there are none.
            if !rows.is_empty() || self.listing.findings.iter().all(|finding| !finding.kind.stops()) {
                self.find(FindingKind::Layout, 0, reason);
            }
        }
        if let Some(reason) = similar(&class_names) {
            self.find(FindingKind::Names, 0, reason);
        }
        for Row { part, name, path, labels, group, line } in rows {
            let class = |label: &String| class_names.binary_search(label).map(|class| class as u32);
            match labels.iter().map(|label| class(label).map_err(|_| label)).collect::<Result<Vec<_>, _>>() {
                Ok(classes) => {
                    let sample = Sample::new(name, path, classes, part);
                    self.listing.samples.push(Sample { group, ..sample });
                }
                Err(label) => {
                    self.find(
                        FindingKind::Line,
                        line,
                        format!("no picture for training has the label `{label}`"),
                    );
                }
            }
        }
        self.listing.samples.sort_by(|a, b| (a.part, &a.name).cmp(&(b.part, &b.name)));
        self.listing.class_names = class_names;
        self.listing.is_sets = !matches!(naming, Naming::One(_));
    }
}

/// The file that a list names: as it is written, else with `\` as the separator that it is where Windows wrote it.
fn located(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    if name.contains('\\') && path.symlink_metadata().is_err() {
        let other = folder.join(name.replace('\\', "/"));
        if other.symlink_metadata().is_ok() {
            return other;
        }
    }
    path
}

/// The pictures of the list, each file once.
struct Rows {
    listed: Vec<Row>,
    /// Where in `listed` a file is, by its folder without links and its name.
    of_file: HashMap<PathBuf, usize>,
    /// Folders without links, by how they are written.
    folders: HashMap<PathBuf, PathBuf>,
}

impl Rows {
    fn push(&mut self, row: Row, reader: &mut Reader<'_>) {
        let file = self.file(&row.path);
        let Some(&first) = self.of_file.get(&file) else {
            self.of_file.insert(file, self.listed.len());
            self.listed.push(row);
            return;
        };
        let first = &self.listed[first];
        let (name, line) = (&row.name, first.line);
        if first.labels != row.labels {
            let reason = format!(
                "`{name}` is listed twice, first in line {line}, with the labels `{}` and `{}`; keep one of them",
                first.labels.join(";"),
                row.labels.join(";")
            );
            reader.find(FindingKind::Line, row.line, reason);
        } else if first.part != row.part {
            let reason = format!(
                "`{name}` is listed twice, first in line {line}, for the parts {} and {}; keep one of them",
                first.part.name(),
                row.part.name()
            );
            reader.find(FindingKind::Line, row.line, reason);
        } else if first.group != row.group {
            let reason =
                format!("`{name}` is listed twice, first in line {line}, in two groups; keep one of them");
            reader.find(FindingKind::Line, row.line, reason);
        } else {
            let reason = format!("`{name}` is listed already in line {line}");
            reader.find(FindingKind::Repeated, row.line, reason);
        }
    }

    /// `./a//b.png` and `a/b.png` are one file; `a/b.png`, a link to `c.png`, and `c.png` are two.
    fn file(&mut self, path: &Path) -> PathBuf {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return path.to_owned() };
        let real = self.folders.entry(folder.to_owned()).or_insert_with(|| {
            // Without the folder, its parts alone: `.` and doubled separators are none.
            folder.canonicalize().unwrap_or_else(|_| folder.components().collect())
        });
        real.join(name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn listed(bytes: &[u8]) -> Listing {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list.csv");
        std::fs::write(&path, bytes).unwrap();
        of_csv(&path, Purpose::Training, None).unwrap()
    }

    fn stops(listing: &Listing) -> String {
        let stopping = listing.findings.iter().filter(|finding| finding.kind.stops());
        stopping.map(Finding::line).collect::<Vec<_>>().join("\n")
    }

    fn found(listing: &Listing) -> Vec<(&str, u32, Part)> {
        listing.samples.iter().map(|s| (s.name.as_str(), s.classes[0], s.part)).collect()
    }

    #[test]
    fn a_list_for_an_evaluation_may_be_of_the_test_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list.csv");
        let listing = |text: &str, purpose| {
            std::fs::write(&path, text).unwrap();
            of_csv(&path, purpose, None).unwrap()
        };
        for text in ["path,label,split\n1.png,b,test\n2.png,a,test\n", "path,label\n1.png,b\n"] {
            assert!(stops(&listing(text, Purpose::Training)).contains("classifier") || text.contains("test"));
            let found = listing(text, Purpose::Evaluation);
            assert_eq!(stops(&found), "");
            assert_eq!(found.samples.len(), text.lines().count() - 1);
        }
    }

    #[test]
    fn a_list_gives_paths_labels_and_parts() {
        let listing = listed(
            "\u{feff}label,path,Split\ndog,x/1.png,\n cat , y.png ,test\ncat,\"z,1.jpg\",train\n".as_bytes(),
        );
        assert_eq!(listing.class_names, ["cat", "dog"]);
        assert_eq!(
            found(&listing),
            [("x/1.png", 1, Part::Train), ("z,1.jpg", 0, Part::Train), ("y.png", 0, Part::Test)]
        );
        assert!(listing.samples[0].path.ends_with("x/1.png") && listing.samples[0].path.is_absolute());
    }

    #[test]
    fn a_list_is_read_as_any_program_writes_it() {
        let rows = "a.png,käse,train\r\nb.png,brot,Validation\r\nc.png,brot,TRAINING\r\nd.png,käse,eval\r\n";
        let plain = format!("path,label,split\r\n{rows}");
        let expected = listed(plain.as_bytes());
        assert_eq!((stops(&expected), expected.samples.len()), (String::new(), 4));
        let wide =
            |bytes: fn(u16) -> [u8; 2], text: &str| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
        let with = |from: &str, to: &str| plain.replace(from, to).into_bytes();
        for (what, bytes) in [
            ("semicolons", with(",", ";")),
            ("tabs", with(",", "\t")),
            ("bars", with(",", "|")),
            ("a mark of UTF-8", format!("\u{feff}{plain}").into_bytes()),
            ("sep=", format!("sep=;\r\n{}", plain.replace(',', ";")).into_bytes()),
            ("sep= after a mark", format!("\u{feff}\"sep=,\"\n{plain}").into_bytes()),
            ("old Mac", with("\r\n", "\r")),
            ("Unix", with("\r\n", "\n")),
            ("Latin-1", plain.chars().map(|character| character as u8).collect()),
            ("UTF-16 LE", wide(u16::to_le_bytes, &format!("\u{feff}{plain}"))),
            ("UTF-16 BE", wide(u16::to_be_bytes, &format!("\u{feff}{plain}"))),
            ("UTF-16 without a mark", wide(u16::to_le_bytes, &plain)),
            ("UTF-16 BE without a mark", wide(u16::to_be_bytes, &plain)),
            ("empty columns", with("\r\n", ",,\r\n")),
            (
                "empty columns in the rows",
                format!("path,label,split\r\n{}", rows.replace("\r\n", ",,\r\n")).into_bytes(),
            ),
            ("rows of separators", format!("{plain},,\r\n,,\r\n\r\n").into_bytes()),
            ("other capitals", with("path,label,split", "Path,LABEL,Split")),
            ("synonyms", with("path,label,split", "File Name,category,data_set")),
            ("decomposed", with("ä", "a\u{308}")),
            ("numbered", plain.replace("\r\n", ",9\r\n").replace("split,9", "split,number").into_bytes()),
        ] {
            let listing = listed(&bytes);
            assert_eq!(
                (&found(&listing), &listing.class_names),
                (&found(&expected), &expected.class_names),
                "{what}"
            );
            let guesses =
                listing.findings.iter().filter(|finding| finding.kind == FindingKind::Encoding).count();
            assert_eq!(guesses, usize::from(what == "Latin-1"), "{what}: {:?}", listing.findings);
        }
    }

    #[test]
    fn columns_of_flags_name_the_parts() {
        let listing = listed(b"image,label,is_valid\na,x,False\nb,y,FALSE\nc,x,True\nd,y,1\n");
        let parts: Vec<Part> = listing.samples.iter().map(|sample| sample.part).collect();
        assert_eq!(parts, [Part::Train, Part::Train, Part::Valid, Part::Valid]);
        let listing = listed(b"image,label,is_valid,is_test\na,x,,\nb,y,,\nc,x,no,yes\nd,y,1,1\n");
        assert_eq!(found(&listing)[2], ("c", 0, Part::Test));
        assert!(stops(&listing).contains("line 5: it is both"), "{}", stops(&listing));
    }

    #[test]
    fn a_wrong_list_names_every_line() {
        for (text, words) in [
            ("", &["line 1", "`path,label`"][..]),
            ("a.png,cat\nb.png,dog\n", &["line 1", "found `a.png,cat`", "semicolons"]),
            ("path,label\n", &["no picture is listed"]),
            ("path,label\na.png,cat\nb.png,cat\n", &["`cat` is the only class"]),
            (
                "path,label\na.png,cat\nb.png,\n,dog\nc.png,dog\n",
                &["line 3", "`b.png` and ``", "line 4", "`` and `dog`"],
            ),
            ("path,label\na.png,cat\nb.png,dog,test\n", &["line 3", "expected 2 fields, found 3"]),
            ("path,label,split\na.png,cat\nb.png,dog,\n", &["line 2", "expected 3 fields, found 2"]),
            ("path,label\na.png,cat\na.png,dog\n", &["line 3", "first in line 2"]),
            ("path,label\na.png,cat\n.//a.png,dog\n", &["line 3", "`cat` and `dog`"]),
            ("path,label,split\na.png,cat,\nb.png,dog,\na.png,cat,test\n", &["line 4", "train and test"]),
            ("path,label,split\na.png,cat,later\nb.png,cat,3\n", &["line 2", "`later`", "line 3"]),
            ("path,label,split\na.png,cat,\nb.png,dog,\nc.png,cow,test\n", &["line 4", "`cow`"]),
            ("path,label\na.png,\"cat\nb.png,dog\n", &["line 2", "quotation mark"]),
            ("file,image,label\na,b,c\n", &["`file` and `image`", "name the right one `path`"]),
            ("path,class,category\na,b,c\n", &["`class` and `category`", "`label`"]),
            ("path,label,label\na,b,c\n", &["`label` and `label`"]),
            ("path,label,split,is_valid\na,b,,\n", &["keep one"]),
            ("PK\u{3}\u{4}x", &["workbook"]),
        ] {
            let error = stops(&listed(text.as_bytes()));
            assert!(words.iter().all(|word| error.contains(word)), "{text:?}: {error}");
        }
        // A column that names no part is about something else.
        let listing = listed(b"path,label,dataset,set\na.png,cat,birds,1\nb.png,dog,birds,2\n");
        assert_eq!((stops(&listing), listing.samples.len()), (String::new(), 2));
        // The usual name of a column is taken where others are there too.
        let listing = listed(b"file,path,class,label\nx,a.png,1,cat\nx,b.png,2,dog\n");
        assert_eq!(
            (stops(&listing), &listing.class_names[..]),
            (String::new(), &["cat", "dog"].map(String::from)[..])
        );
    }

    #[test]
    fn a_file_that_is_listed_twice_alike_is_read_once() {
        let listing = listed(b"path,label\nx/a.png,cat\n./x//a.png,cat\nx/./a.png,cat\nb.png,dog\n");
        assert_eq!((found(&listing).len(), stops(&listing)), (2, String::new()));
        let lines: Vec<&str> =
            listing.findings.iter().map(|finding| &finding.path[finding.path.len() - 1..]).collect();
        assert_eq!(lines, ["3", "4"]);
    }

    #[test]
    fn files_that_are_not_there_are_found_or_explained() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("imgs")).unwrap();
        for name in ["a.png", "B.png", "twice.png", "M\u{f6}hre.png"] {
            std::fs::write(folder.path().join("imgs").join(name), b"").unwrap();
        }
        std::fs::write(folder.path().join("twice.png"), b"").unwrap();
        let list = folder.path().join("list.csv");
        let listing = |path: &str| {
            std::fs::write(&list, format!("path,label\n{path},x\nimgs/a.png,x\ntwice.png,y\n")).unwrap();
            of_csv(&list, Purpose::Training, None).unwrap()
        };
        for path in ["imgs\\B.png", ".\\imgs\\B.png", "imgs/Mo\u{308}hre.png", "imgs\\Mo\u{308}hre.png"] {
            let listing = listing(path);
            assert!(
                listing.missing.is_empty() && listing.samples.iter().all(|sample| sample.path.exists()),
                "{path}"
            );
        }
        for (path, words) in [
            ("a.png", &["`imgs/a.png` is there", "lacks its folder"][..]),
            ("data\\imgs\\a.png", &["`imgs/a.png` is there", "relative to the folder of the list"]),
            ("C:\\Users\\me\\a.png", &["`imgs/a.png` is there"]),
            ("C:\\Users\\me\\z.png", &["another computer"]),
            ("imgs/a", &["`imgs/a.png` is there", "lacks its extension"]),
            ("a", &["lacks its extension"]),
            ("imgs/a.jpg", &["another extension"]),
            ("IMGS/b.png", &["`imgs/B.png` is there", "capitals"]),
            ("x/twice.png", &["and 1 others are there"]),
            ("https://example.org/a.png", &["an address (https)"]),
            ("~/z.png", &["`~`"]),
            ("z.png", &["no such file"]),
        ] {
            let listing = listing(path);
            let hint = listing.missing.get(path).cloned().unwrap_or_default();
            assert!(words.iter().all(|word| hint.contains(word)), "{path}: {hint}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn any_bytes_are_a_list_or_have_findings(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("list.csv");
            for head in [&b""[..], b"path,label\n", b"path,label,split\n\"a\",b,", b"sep=", b"\xff\xfep\0"] {
                std::fs::write(&path, [head, &bytes].concat()).unwrap();
                let listing = of_csv(&path, Purpose::Training, None).unwrap();
                if !listing.findings.iter().any(|finding| finding.kind.stops()) {
                    prop_assert!(listing.class_names.len() >= 2);
                }
            }
        }
    }
}

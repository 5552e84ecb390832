//! What a run learns from, remembered so that a change shows: `run.json` holds hashes and classes, `data.csv` every
//! picture.
//!
//! Longer than other files for its tests, which go through whole runs.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use data::{Changes, ContentHash, DatasetPair, Entry, InputRequest, Part};

use crate::config::TrainConfig;
use crate::run::error::RunFolderError;
use crate::run::folder::RunFolder;
use crate::run::record::{ChangedData, DataRecord, RunRecord, read_record};

/// Data that a run cannot go on with.
#[derive(Debug, thiserror::Error)]
pub enum DataRecordError {
    /// It is not what the run began with.
    #[error("{run}: the data ({place}) is not what this run began with:\n  {}\n{remedy}", .changes.join("\n  "))]
    Changed {
        /// The run folder.
        run: PathBuf,
        /// Where the data is.
        place: String,
        /// What is different, one line each.
        changes: Vec<String>,
        /// What to do.
        remedy: &'static str,
    },
    /// It is nowhere.
    #[error(
        "{run}: its data is not found: it was {} when it was last read, and `{typed}` is nothing below {}; say where it \
         is now with --dataset",
        .recorded.display(), .here.display()
    )]
    NotFound {
        /// The run folder.
        run: PathBuf,
        /// Where it was.
        recorded: PathBuf,
        /// As the configuration has it.
        typed: String,
        /// The working folder.
        here: PathBuf,
    },
    /// `run.json` cannot be read, though there are checkpoints.
    #[error(
        "{run}: what it was trained on is not known any more ({reason}); restore its run.json, or begin a new run"
    )]
    Record {
        /// The run folder.
        run: PathBuf,
        /// Why not.
        reason: String,
    },
    /// `data.csv` is not what a run writes.
    #[error("{path} is damaged: {reason}; remove it to compare the data by its hash alone")]
    Listing {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

const RESTORE: &str = "Restore it, or begin a new run; --accept-changed-data goes on with it all the same";
const OTHER_CLASSES: &str = "A run cannot go on with other classes. Restore them, or begin a new run: \
                             `finetune --from` a finished one takes over what it has learned, classes by their names";
const SERIES: &str = "Its members would be judged on different data. Restore it, or begin anew";

/// Where the data of a run is now: as it was named now, else where the run found it, else as the configuration has it.
///
/// # Errors
/// [`DataRecordError::NotFound`].
pub fn place(run: &Path, named: Option<&str>, typed: &str) -> Result<String, DataRecordError> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    let records = records_in(run);
    let recorded = records.iter().find_map(|(_, record)| record.data.as_ref()?.path.clone());
    match recorded {
        Some(path) if path.exists() => Ok(path.display().to_string()),
        Some(recorded) if !Path::new(typed).exists() => Err(DataRecordError::NotFound {
            run: run.to_owned(),
            recorded,
            typed: typed.to_owned(),
            here: std::env::current_dir().unwrap_or_default(),
        }),
        _ => Ok(typed.to_owned()),
    }
}

/// The configuration with the size that the pictures had as a run began: a copy of one in colour makes no other network of
/// it. `folders` are those of runs or series; the first that remembers a size counts.
pub fn with_input(folders: &[&Path], config: &TrainConfig) -> TrainConfig {
    let mut config = config.clone();
    let mut records = folders.iter().flat_map(|folder| records_in(folder));
    if let Some(recorded) = records.find_map(|(_, record)| record.data?.input) {
        config.data.input = Some(match config.data.channels {
            0 => recorded,
            // Those are made of what was loaded.
            _ => InputRequest { channels: config.data.input.and_then(|input| input.channels), ..recorded },
        });
    }
    config
}

/// The records of a run, or of the runs in the folder of a series, with their folders.
fn records_in(folder: &Path) -> Vec<(PathBuf, RunRecord)> {
    if let Ok(record) = read_record(folder) {
        return vec![(folder.to_owned(), record)];
    }
    let Ok(listing) = std::fs::read_dir(folder) else { return Vec::new() };
    let is_folder = |path: &PathBuf| path.is_dir() && !path.is_symlink();
    let mut folders: Vec<PathBuf> =
        listing.filter_map(Result::ok).map(|entry| entry.path()).filter(is_folder).collect();
    folders.sort();
    folders.iter().flat_map(|folder| records_in(folder)).collect()
}

/// Whether a run has begun in the folder of a series.
pub fn holds_runs(folder: &Path) -> bool {
    !records_in(folder).is_empty()
}

/// Compares the data of every run in the folder of a series with what is there now, and puts the images of `pair` into
/// the order that those runs know.
///
/// # Errors
/// [`DataRecordError::Changed`]: figures of different data cannot be put together.
pub fn join_series(folder: &Path, place: &str, pair: &mut DatasetPair) -> Result<(), DataRecordError> {
    let now = DataRecord::new(place, pair);
    let mut known = None;
    for (run, record) in records_in(folder) {
        if let Some(changes) = changes(&run, &record, pair, &now)? {
            let place = place.to_owned();
            return Err(DataRecordError::Changed { run, place, changes: changes.lines, remedy: SERIES });
        }
        if known.is_none() {
            known = read_listing(&listing_path(&run, &record))?;
        }
    }
    if let Some(ordered) = known.and_then(|listing| pair.in_order_of(&listing)) {
        *pair = ordered;
    }
    Ok(())
}

/// What a run that goes on was and is trained on.
pub struct Remembered {
    /// Its record so far.
    pub record: RunRecord,
    /// The change that was accepted now; its step is not known yet.
    pub change: Option<ChangedData>,
}

impl Remembered {
    /// Puts what was known into the record of the run that goes on: hashes stay those that it began with, and a change
    /// that was accepted after `step` batches is added. Gives whether there was one.
    pub fn put_into(self, record: &mut RunRecord, step: usize) -> bool {
        let Self { record: before, change } = self;
        let changed = change.is_some();
        record.changed_data = before.changed_data;
        record.changed_data.extend(change.map(|change| ChangedData { step, ..change }));
        record.data_sha256 = before.data_sha256;
        record.head = before.head;
        if let Some(data) = before.data {
            let path = record.data.take().and_then(|now| now.path);
            record.data = Some(DataRecord { path, ..data });
        }
        changed
    }
}

/// Compares the data of a run that is to go on with `pair`, and puts the images of `pair` into the order that the run
/// knows. `None` for a folder without a record.
///
/// # Errors
/// [`DataRecordError::Changed`], unless it is accepted and the classes are the same.
pub fn resume(
    run: &RunFolder,
    place: &str,
    pair: &mut DatasetPair,
    accept: bool,
) -> Result<Option<Remembered>, DataRecordError> {
    let record = match read_record(run.path()) {
        Ok(record) => record,
        // Nothing was trained yet that other data could be mixed with.
        Err(_) if run.checkpoints().steps().is_ok_and(|steps| steps.is_empty()) => return Ok(None),
        Err(error) => {
            return Err(DataRecordError::Record { run: run.path().to_owned(), reason: error.to_string() });
        }
    };
    let now = DataRecord::new(place, pair);
    let Some(Difference { lines, classes_differ }) = changes(run.path(), &record, pair, &now)? else {
        if let Some(listing) = read_listing(&listing_path(run.path(), &record))?
            && let Some(ordered) = pair.in_order_of(&listing)
        {
            *pair = ordered;
        }
        return Ok(Some(Remembered { record, change: None }));
    };
    if classes_differ || !accept {
        let remedy = if classes_differ { OTHER_CLASSES } else { RESTORE };
        let (run, place) = (run.path().to_owned(), place.to_owned());
        return Err(DataRecordError::Changed { run, place, changes: lines, remedy });
    }
    tracing::warn!(
        "going on with changed data, as --accept-changed-data asks for:\n  {}",
        lines.join("\n  ")
    );
    let change = ChangedData {
        step: 0,
        data_sha256: pair.sha256.clone(),
        content_sha256: now.content_sha256,
        changes: lines,
    };
    Ok(Some(Remembered { record, change: Some(change) }))
}

/// What is different from what the run in the folder `run` was trained on last, one line each.
///
/// # Errors
/// When its listing is damaged.
pub fn differences(
    run: &Path,
    record: &RunRecord,
    place: &str,
    pair: &DatasetPair,
) -> Result<Option<Vec<String>>, DataRecordError> {
    Ok(changes(run, record, pair, &DataRecord::new(place, pair))?.map(|difference| difference.lines))
}

struct Difference {
    lines: Vec<String>,
    classes_differ: bool,
}

/// What is different from what a run was trained on last; `None` for nothing.
fn changes(
    run: &Path,
    record: &RunRecord,
    pair: &DatasetPair,
    now: &DataRecord,
) -> Result<Option<Difference>, DataRecordError> {
    let files = record.changed_data.last().map_or(&record.data_sha256, |changed| &changed.data_sha256);
    let Some(before) = &record.data else {
        // A run of a version that kept hashes of files only, and set other pictures aside.
        let same = *files == pair.sha256 && pair.pictures.is_none();
        let line = if *files == pair.sha256 {
            "the run is of a version of Kiln that set other pictures aside for validation and test".to_owned()
        } else {
            files_differ(files, &pair.sha256)
        };
        return Ok((!same).then(|| Difference { lines: vec![line], classes_differ: false }));
    };
    let content =
        record.changed_data.last().map_or(&before.content_sha256, |changed| &changed.content_sha256);
    let same_classes = before.classes == now.classes;
    // Images without files of their own are known by their positions.
    let same_order = pair.pictures.is_some() || hashes(files) == hashes(&pair.sha256);
    if *content == now.content_sha256 && same_classes && same_order {
        return Ok(None);
    }
    let listing = read_listing(&listing_path(run, record))?;
    let changes = match &listing {
        Some(listing) => {
            let entries = pair.entries(|_| None);
            Changes::between((&before.classes, listing), (&now.classes, &entries))
        }
        None => Changes::between((&before.classes, &[]), (&now.classes, &[])),
    };
    let mut lines = changes.in_words();
    if listing.is_none() && hashes(files) != hashes(&pair.sha256) {
        lines.push(files_differ(files, &pair.sha256));
    }
    if lines.is_empty() {
        lines.push("images moved between the parts for training and validation".to_owned());
    }
    Ok(Some(Difference { lines, classes_differ: !same_classes }))
}

/// Whatever the files are called.
fn hashes(files: &BTreeMap<String, String>) -> Vec<&String> {
    let mut hashes: Vec<&String> = files.values().collect();
    hashes.sort();
    hashes
}

fn files_differ(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> String {
    let other = |name: &&String| before.get(*name) != now.get(*name);
    let mut names: Vec<&String> = before.keys().chain(now.keys()).filter(other).collect();
    names.sort();
    names.dedup();
    format!("another SHA-256: {}", data::listed(&names))
}

/// What the pictures show that a run has learned from; `None` where it does not remember them.
///
/// # Errors
/// When a listing is damaged.
pub fn learned_from(run: &Path, record: &RunRecord) -> Result<Option<HashSet<ContentHash>>, DataRecordError> {
    let mut seen: Option<HashSet<ContentHash>> = None;
    for changes in 0..=record.changed_data.len() {
        if let Some(listing) = read_listing(&run.join(listing_name(changes)))? {
            let learned = listing.iter().filter(|entry| entry.part == Some(Part::Train));
            seen.get_or_insert_default().extend(learned.map(|entry| entry.content));
        }
    }
    Ok(seen)
}

/// The file with what a run was trained on last.
fn listing_path(run: &Path, record: &RunRecord) -> PathBuf {
    run.join(listing_name(record.changed_data.len()))
}

/// Its name after so many accepted changes: an older one is never overwritten.
fn listing_name(changes: usize) -> String {
    if changes == 0 { "data.csv".to_owned() } else { format!("data-{}.csv", changes + 1) }
}

/// Writes the pictures that a run is trained on, if that is not there yet, or `is_new`.
///
/// # Errors
/// When the system refuses.
pub fn write_listing(
    run: &RunFolder,
    record: &RunRecord,
    entries: &[Entry],
    is_new: bool,
) -> Result<(), RunFolderError> {
    let name = listing_name(record.changed_data.len());
    if entries.is_empty() || !is_new && run.path().join(&name).exists() {
        return Ok(());
    }
    let mut writer = csv::Writer::from_writer(Vec::new());
    let written = entries.iter().try_for_each(|entry| writer.serialize(entry));
    let bytes = written
        .map_err(std::io::Error::from)
        .and_then(|()| writer.into_inner().map_err(csv::IntoInnerError::into_error));
    let failed = |source| RunFolderError::Io { action: "serialise", path: run.path().join(&name), source };
    run.write(&name, &bytes.map_err(failed)?)
}

/// What a listing holds; `None` where there is none.
fn read_listing(path: &Path) -> Result<Option<Vec<Entry>>, DataRecordError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(DataRecordError::Listing { path: path.to_owned(), reason: error.to_string() });
        }
    };
    let entries: Result<Vec<Entry>, csv::Error> =
        csv::Reader::from_reader(&bytes[..]).deserialize().collect();
    let damaged =
        |error: csv::Error| DataRecordError::Listing { path: path.to_owned(), reason: error.to_string() };
    entries.map(Some).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use image::{GrayImage, Luma};

    use super::*;
    use crate::config::ConfigLayers;
    use crate::config::arguments::ProgressMode;
    use crate::fit::{FitError, Outcome, RunContext, fit};
    use crate::start::Start;

    /// Pictures of three classes in `data`, and runs in `runs`.
    struct Bench {
        folder: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Self {
            let bench = Self { folder: tempfile::tempdir().unwrap() };
            for (class, base) in [("circle", 0), ("cross", 60), ("square", 120)] {
                (0..14).for_each(|n| bench.picture(&format!("{class}/{n:02}.png"), base + n * 4));
            }
            bench
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn picture(&self, name: &str, shade: u8) {
            let path = self.path("data").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            GrayImage::from_fn(12, 12, |x, y| Luma([shade.wrapping_add((x * y) as u8)])).save(path).unwrap();
        }

        fn rename(&self, from: &str, to: &str) {
            std::fs::rename(self.path("data").join(from), self.path("data").join(to)).unwrap();
        }

        fn config(&self, more: &[&str]) -> TrainConfig {
            let mut layers = ConfigLayers::default();
            let dataset = format!("data.dataset={}", self.path("data").display());
            let small = ["network.dense=[]", "epochs=2", "batch_size=8", "data.valid_fraction=0.2"];
            for expression in [&[dataset.as_str()], &small[..], more].concat() {
                layers.set_expression(expression).unwrap();
            }
            layers.resolve().unwrap()
        }

        fn run_context(&self, stopped: bool) -> RunContext {
            RunContext {
                command: "train",
                artifacts: self.path("runs"),
                name: Some("run".to_owned()),
                search: data::Search { cache_dir: Some(self.path("cache")), ..data::Search::default() },
                dataset: None,
                accept_changed_data: false,
                progress: ProgressMode::None,
                stop: Arc::new(stopped.into()),
                adapts_budget: false,
            }
        }

        /// A run that is stopped after its first batch.
        fn begun(more: &[&str]) -> (Self, TrainConfig) {
            let bench = Self::new();
            let config = bench.config(more);
            let outcome = fit(&config, &bench.run_context(true), Start::Scratch).unwrap();
            assert!(matches!(outcome, Outcome::Interrupted { .. }));
            (bench, config)
        }

        fn go_on(&self, config: &TrainConfig, accept: bool) -> Result<Outcome, FitError> {
            let context = RunContext { accept_changed_data: accept, ..self.run_context(false) };
            fit(config, &context, Start::Resume(RunFolder::open(&self.path("runs/run")).unwrap()))
        }

        fn record(&self) -> RunRecord {
            read_record(&self.path("runs/run")).unwrap()
        }
    }

    fn weights(outcome: Outcome) -> String {
        match outcome {
            Outcome::Finished(finished) => finished.result.last_weights_sha256,
            Outcome::Interrupted { .. } => String::new(),
        }
    }

    /// Every change is refused with its name, and only what leaves the classes as they were can be accepted.
    #[test]
    fn a_run_does_not_go_on_with_data_that_changed() {
        type Change = fn(&Bench);
        let cases: [(&str, bool, Change); 8] = [
            ("class circle is called ring now", false, |bench| bench.rename("circle", "ring")),
            ("1 new class: bar", false, |bench| {
                (0..14).for_each(|n| bench.picture(&format!("bar/{n}.png"), 200 + n));
            }),
            ("1 class is gone: cross", false, |bench| {
                std::fs::remove_dir_all(bench.path("data/cross")).unwrap();
            }),
            ("28 images have another class", true, |bench| {
                bench.rename("circle", "x");
                bench.rename("cross", "circle");
                bench.rename("x", "cross");
            }),
            ("1 new image: circle/new.png", true, |bench| bench.picture("circle/new.png", 250)),
            ("1 image is gone: square/03.png", true, |bench| {
                std::fs::remove_file(bench.path("data/square/03.png")).unwrap();
            }),
            ("square/c.png (square instead of circle)", true, |bench| {
                bench.rename("circle/03.png", "square/c.png");
            }),
            ("1 image shows something else: cross/02.png", true, |bench| bench.picture("cross/02.png", 251)),
        ];
        for (words, acceptable, change) in cases {
            let (bench, config) = Bench::begun(&[]);
            let before = bench.record();
            change(&bench);
            let error = bench.go_on(&config, false).unwrap_err();
            assert!(error.to_string().contains(words) && !error.is_usage(), "`{words}` is not in {error}");
            assert_eq!(bench.record(), before, "{words}: a refused run stays as it was");
            let accepted = bench.go_on(&config, true);
            if !acceptable {
                assert!(accepted.unwrap_err().to_string().contains("other classes"), "{words}");
                continue;
            }
            accepted.unwrap();
            let after = bench.record();
            assert_eq!((&after.data_sha256, &after.data), (&before.data_sha256, &before.data), "{words}");
            let [changed] = &after.changed_data[..] else { panic!("{words}: one change") };
            assert!(changed.changes.iter().any(|line| line.contains(words)), "{changed:?}");
            assert_ne!(Some(&changed.content_sha256), before.data.as_ref().map(|data| &data.content_sha256));
            assert!(bench.path("runs/run/data.csv").is_file() && bench.path("runs/run/data-2.csv").is_file());
        }
    }

    /// New times, names, formats without loss and places of the files are no change: the run ends as if nothing had
    /// happened, bit for bit.
    #[test]
    fn what_changes_no_picture_changes_nothing() {
        let (bench, config) = Bench::begun(&[]);
        let whole = weights(bench.go_on(&config, false).unwrap());
        let (bench, config) = Bench::begun(&[]);
        bench.picture("circle/01.png", 4);
        bench.rename("circle/02.png", "circle/zz.png");
        let bmp = image::open(bench.path("data/cross/05.png")).unwrap();
        bmp.save(bench.path("data/cross/05.bmp")).unwrap();
        std::fs::remove_file(bench.path("data/cross/05.png")).unwrap();
        let grey = image::open(bench.path("data/cross/06.png")).unwrap();
        grey.to_rgb8().save(bench.path("data/cross/06.png")).unwrap();
        std::fs::rename(bench.path("data"), bench.path("moved")).unwrap();
        let lost = bench.go_on(&config, false).unwrap_err().to_string();
        assert!(
            lost.contains("--dataset") && lost.contains(&bench.path("data").display().to_string()),
            "{lost}"
        );
        let moved = RunContext {
            dataset: Some(bench.path("moved").display().to_string()),
            ..bench.run_context(false)
        };
        let run = RunFolder::open(&bench.path("runs/run")).unwrap();
        assert_eq!(weights(fit(&config, &moved, Start::Resume(run)).unwrap()), whole);
        let record = bench.record();
        assert_eq!(record.data.unwrap().path, Some(bench.path("moved")), "where it is from now on");
        assert!(record.changed_data.is_empty());
    }

    /// Begins folds or goes on with them, up to the first batch or to the end; gives the last weights of each.
    fn folds(bench: &Bench, stopped: bool) -> Vec<Option<String>> {
        let path = bench.path("runs/run");
        let folder = if path.is_dir() {
            RunFolder::open(&path)
        } else {
            RunFolder::create(&bench.path("runs"), Some("run"), "x")
        };
        let config = bench.config(&["data.folds=2", "epochs=1"]);
        let context = bench.run_context(stopped);
        crate::series::folds::cross_validate(&config, &folder.unwrap(), &path, &context).unwrap();
        let weights = |(_, record): (_, RunRecord)| record.result.map(|result| result.last_weights_sha256);
        records_in(&path).into_iter().map(weights).collect()
    }

    /// The first run settles order, size and channels, also for those that begin in another process.
    #[test]
    fn all_runs_of_a_series_see_the_same_pictures_in_the_same_size() {
        let whole = folds(&Bench::new(), false);
        assert!(whole.len() == 2 && whole.iter().all(Option::is_some), "{whole:?}");
        let bench = Bench::new();
        assert_eq!(folds(&bench, true), [None]);
        bench.rename("circle/02.png", "circle/zz.png");
        let grey = image::open(bench.path("data/cross/06.png")).unwrap();
        grey.to_rgb8().save(bench.path("data/cross/06.png")).unwrap();
        assert_eq!(folds(&bench, false), whole);
    }

    #[test]
    fn a_run_does_not_begin_beside_runs_on_other_data() {
        let bench = Bench::new();
        folds(&bench, true);
        bench.picture("circle/new.png", 250);
        let (series, context) = (bench.path("runs/run"), bench.run_context(false));
        let config = bench.config(&["data.folds=2", "data.fold=2", "epochs=1"]);
        let error = crate::series::complete(&config, &series.join("fold-2"), &series, &context);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("circle/new.png") && error.contains("different data"), "{error}");
    }

    #[test]
    fn folds_of_different_data_are_not_put_together() {
        let bench = Bench::new();
        let config = bench.config(&["data.folds=2", "epochs=1"]);
        let context = RunContext { accept_changed_data: true, ..bench.run_context(false) };
        let folder = RunFolder::create(&bench.path("runs"), Some("folds"), "x").unwrap();
        crate::series::folds::cross_validate(&config, &folder, folder.path(), &context).unwrap().unwrap();
        let again = || crate::series::folds::cross_validate(&config, &folder, folder.path(), &context);
        again().unwrap().unwrap();
        bench.rename("circle", "ring");
        let error = again().unwrap_err().to_string();
        assert!(error.contains("ring") && error.contains("different data"), "{error}");
    }

    #[test]
    fn a_damaged_listing_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.csv");
        assert_eq!(read_listing(&path).unwrap(), None);
        std::fs::write(&path, "file,class,part,content\na/1.png,a,train,00\n").unwrap();
        assert!(read_listing(&path).unwrap_err().to_string().contains("data.csv is damaged"));
    }
}

//! The labelled images that a trained model is evaluated on: which part of which data, and the classes of the model by
//! their names.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use data::text::counted;
use data::{
    ClassAgreement, ClassMap, ContentHash, Dataset, DatasetPair, ImageOptions, OnBadImage, Purpose, Search,
    listed,
};
use model::{Metadata, TaskName};
use serde::Serialize;
use serde_json::Value;

use crate::config::TrainConfig;
use crate::run::data_record::{self, DataRecordError};
use crate::run::record::{RunRecord, read_record};
use crate::task::division::{trained_images, validation_part};

/// A part of labelled data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The test split, which no choice during training has used
    Test,
    /// The validation split that the data names; of the model's own data the one that chose the best epoch
    Valid,
    /// All labelled training images, the validation split included
    Train,
    /// Every labelled image
    All,
}

impl Part {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Valid => "valid",
            Self::Train => "train",
            Self::All => "all",
        }
    }
}

/// What to do with images of a class that the model does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum UnknownClasses {
    /// Stop with an error that names the classes
    #[default]
    Reject,
    /// Leave them out and count them
    Skip,
}

/// What to evaluate on.
#[derive(Clone, Debug)]
pub struct EvaluationRequest<'a> {
    /// The data; `None`: what the model was trained on.
    pub dataset: Option<&'a str>,
    /// Which part of it; `None`: what is fair, see [`EvaluationSet::why`].
    pub part: Option<Part>,
    /// What becomes of classes that the model does not know.
    pub unknown: UnknownClasses,
    /// What a picture that cannot be decoded means; `None`: what it meant when the model was trained.
    pub on_bad_image: Option<OnBadImage>,
    /// Where data is looked for.
    pub search: &'a Search,
}

/// Images to evaluate a model on.
#[derive(Debug)]
pub struct EvaluationSet {
    /// The data as it was named.
    pub dataset: String,
    /// The images, with the model's classes in the model's order.
    pub images: Dataset,
    /// Which part of the data they are.
    pub part: Part,
    /// Why this part.
    pub why: String,
    /// Labelled images in all parts together.
    pub labelled: usize,
    /// Which classes of the data the model knows.
    pub classes: ClassAgreement,
    /// Images left out since the model does not know their classes.
    pub left_out: usize,
    /// How many of the images the model was trained on, as far as that is remembered.
    pub trained_on: Option<usize>,
    /// What a user has to know about the figures; complete sentences.
    pub warnings: Vec<String>,
}

/// Data that a model cannot be evaluated on.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationSetError {
    /// No data is named anywhere.
    #[error("the model does not say what it was trained on: name data with --dataset")]
    NoData,
    /// The data.
    #[error(transparent)]
    Data(#[from] data::DataError),
    /// The data of the model's run.
    #[error(transparent)]
    Run(#[from] DataRecordError),
    /// Several labels a picture for a model that answers with one class.
    #[error(
        "{0} has several labels a picture (multi-label), and the model answers with one class a picture (classify): give \
         data with one label a picture, or a model that was trained with --task multi-label"
    )]
    Sets(String),
    /// No class in common.
    #[error(
        "{dataset} has none of the model's classes: it has {found}, the model knows {known}; classes are matched by their \
         names: rename those of the data where they are the same things"
    )]
    NoClass {
        /// The data.
        dataset: String,
        /// Its classes.
        found: String,
        /// The model's.
        known: String,
    },
    /// Some classes of the data are not the model's.
    #[error(
        "{dataset} has {} of classes that the model does not know: {unknown}; it knows {known}. Rename the \
         classes where they are the same things, or leave those images out by --unknown-classes skip",
        counted(*.images, "image")
    )]
    UnknownClasses {
        /// The data.
        dataset: String,
        /// Images of those classes.
        images: usize,
        /// The classes.
        unknown: String,
        /// The model's.
        known: String,
    },
    /// Nothing is in the part asked for.
    #[error("{dataset} has no {part} images: {reason}")]
    NoPart {
        /// The data.
        dataset: String,
        /// What was asked for.
        part: &'static str,
        /// Why, and what to do.
        reason: String,
    },
}

impl EvaluationSetError {
    /// Whether the command line is at fault (exit status 2).
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::NoData)
    }
}

impl EvaluationSet {
    /// Loads the images, fitted to the input of the model at `path`, a file or a run folder, which `metadata` describes.
    ///
    /// # Errors
    /// [`EvaluationSetError`].
    pub fn load(
        path: &Path,
        metadata: &Metadata,
        question: &EvaluationRequest,
    ) -> Result<Self, EvaluationSetError> {
        let origin = Origin::of(path, metadata);
        let (dataset, place) = match (question.dataset, origin.dataset) {
            (Some(dataset), _) => (dataset, dataset.to_owned()),
            (None, Some(dataset)) => (dataset, origin.place(dataset)?),
            (None, None) => return Err(EvaluationSetError::NoData),
        };
        let own = origin.images();
        let options = ImageOptions {
            input: Some(metadata.preprocessing.input.into()),
            fit: Some(metadata.preprocessing.fit),
            on_bad_image: question.on_bad_image.unwrap_or(own.on_bad_image),
            purpose: Purpose::Evaluation,
            task: match metadata.task.name() {
                TaskName::MultiLabel => Some(TaskName::MultiLabel),
                TaskName::Classify => origin.config.as_ref().and_then(|config| config.task),
            },
            ..own
        };
        let mut pair = data::load_with(&place, question.search, &options)?;
        if metadata.task.name() == TaskName::MultiLabel {
            pair = pair.with_sets();
        }
        if metadata.task.is_classify() && pair.train.labels.is_sets() {
            return Err(EvaluationSetError::Sets(dataset.to_owned()));
        }
        let is_same = origin.is_of(&pair);
        let is_own = is_same || origin.names(&place);
        let mut warnings = Vec::new();
        if is_own && !is_same {
            let changes = origin
                .changes(&place, &pair)
                .map_or_else(String::new, |lines| format!(": {}", lines.join("; ")));
            warnings.push(format!("{dataset} has changed since the model was trained on it{changes}"));
        }
        let (part, why) = choose(question.part, &pair, is_own);
        let map = ClassMap::new(&pair.train.class_names, &metadata.classes);
        let labelled = pair.train.len() + pair.test.len();
        let of_own = origin.config.as_ref().filter(|_| is_same && matches!(part, Part::Train | Part::All));
        let of_own = of_own.map(|config| trained_images(config, &pair));
        let images = take(part, pair, origin.config.as_ref().filter(|_| is_own), dataset)?;
        let left_out = check_classes(&map, &images, dataset, &metadata.classes, question.unknown)?;
        if let Some((images, unknown)) = &left_out {
            warnings.push(format!(
                "left out, of classes that the model does not know: {}: {unknown}",
                counted(*images, "image")
            ));
        }
        let images = map.apply(images);
        // The model file says it too, where it has left its run, and for what it began as.
        let listed = origin.learned_from()?;
        let recorded = metadata.seen.as_ref();
        let counted = (listed.is_some() || recorded.is_some()).then(|| {
            let learned = |content: &&ContentHash| {
                listed.as_ref().is_some_and(|listed| listed.contains(*content))
                    || recorded.is_some_and(|seen| seen.trained_on(content.bytes()))
            };
            images.content.iter().filter(learned).count()
        });
        // A known data set is not listed.
        let trained_on = of_own.filter(|_| listed.is_none() && images.is_fixed()).or(counted).or(of_own);
        if let Some(count) = trained_on.filter(|count| *count > 0) {
            warnings.push(format!(
                "the model was trained on {count} of {}: on new ones it is hardly as good",
                match images.len() {
                    1 => "1 image".to_owned(),
                    len => format!("these {len} images"),
                }
            ));
        }
        let classes = map.agreement().clone();
        let dataset = dataset.to_owned();
        let left_out = left_out.map_or(0, |(images, _)| images);
        Ok(Self { dataset, images, part, why, labelled, classes, left_out, trained_on, warnings })
    }
}

/// What a model says about the data that it was trained on, and the run that it lies in.
struct Origin<'a> {
    metadata: &'a Metadata,
    dataset: Option<&'a str>,
    config: Option<TrainConfig>,
    run: Option<(PathBuf, RunRecord)>,
}

impl<'a> Origin<'a> {
    fn of(path: &Path, metadata: &'a Metadata) -> Self {
        let text = |key: &str| metadata.provenance.get(key).and_then(Value::as_str);
        let config = text("config");
        let config =
            config.and_then(|text| TrainConfig::from_toml(text, Path::new("the model's configuration")).ok());
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
        let run = read_record(folder).ok().map(|record| (folder.to_owned(), record));
        let is_its = |record: &RunRecord| {
            record.result.as_ref().is_some_and(|result| result.weights_sha256 == metadata.weights_sha256)
        };
        Self { metadata, dataset: text("dataset"), config, run: run.filter(|(_, record)| is_its(record)) }
    }

    /// Where the data is now, called `dataset` in the configuration.
    fn place(&self, dataset: &str) -> Result<String, EvaluationSetError> {
        match &self.run {
            Some((folder, _)) => Ok(data_record::place(folder, None, dataset)?),
            None => Ok(dataset.to_owned()),
        }
    }

    /// Whether the data at `place` is called what the model was trained on, whatever is in it now.
    fn names(&self, place: &str) -> bool {
        let recorded = self.run.as_ref().and_then(|(_, record)| record.data.as_ref()?.path.as_ref());
        match recorded {
            Some(path) => std::path::absolute(place).is_ok_and(|place| place == *path),
            None => self.dataset == Some(place),
        }
    }

    /// How the images were loaded: what was set aside for the test then is so now.
    fn images(&self) -> ImageOptions {
        self.config.as_ref().map_or_else(ImageOptions::default, |config| config.data.images())
    }

    /// Whether this is just the data that the model was trained on.
    fn is_of(&self, pair: &DatasetPair) -> bool {
        let of_change =
            |change: &Value| change.get("content_sha256").and_then(Value::as_str).map(str::to_owned);
        let text = |key: &str| self.metadata.provenance.get(key).and_then(Value::as_str);
        if let Some(content) = text("content_sha256") {
            let now = pair.content_sha256();
            let changed = self.metadata.provenance.get("changed_data").and_then(Value::as_array);
            return content == now
                || changed
                    .is_some_and(|all| all.iter().any(|change| of_change(change).as_ref() == Some(&now)));
        }
        // A model of a version that kept hashes of files only.
        let files = self.metadata.provenance.get("data_sha256").and_then(Value::as_object);
        files.is_some_and(|files| {
            let same = |(name, sha256): (&String, &Value)| {
                pair.sha256.get(name).is_some_and(|found| Some(found.as_str()) == sha256.as_str())
            };
            files.len() == pair.sha256.len() && files.iter().all(same)
        })
    }

    /// What the run has learned from, where it remembers it.
    fn learned_from(&self) -> Result<Option<HashSet<ContentHash>>, EvaluationSetError> {
        let Some((folder, record)) = &self.run else { return Ok(None) };
        Ok(data_record::learned_from(folder, record)?)
    }

    /// What is different from what the run was trained on.
    fn changes(&self, place: &str, pair: &DatasetPair) -> Option<Vec<String>> {
        let (folder, record) = self.run.as_ref()?;
        data_record::differences(folder, record, place, pair).ok()?
    }
}

/// Which part is fair, and why.
fn choose(asked: Option<Part>, pair: &DatasetPair, is_own: bool) -> (Part, String) {
    if let Some(part) = asked {
        return (part, format!("--split {}", part.name()));
    }
    if !pair.test_set_aside {
        return (Part::Test, "the test part that the data names".to_owned());
    }
    if is_own {
        let why = "the model was trained on this data: what was set aside for the test";
        return (Part::Test, why.to_owned());
    }
    (Part::All, "all of it: the data names no test part, and is not what the model was trained on".to_owned())
}

/// The images of a part; `config` is that of the model where this is its own data.
fn take(
    part: Part,
    pair: DatasetPair,
    config: Option<&TrainConfig>,
    dataset: &str,
) -> Result<Dataset, EvaluationSetError> {
    let images = match part {
        Part::Test => pair.test,
        Part::Train => pair.train,
        Part::All => pair.train.joined(pair.test),
        Part::Valid => {
            let valid = match config {
                _ if !pair.valid.is_empty() => pair.valid.clone(),
                Some(config) => validation_part(config, &pair),
                None => Vec::new(),
            };
            pair.train.subset(&valid)
        }
    };
    if images.is_empty() {
        let reason = match part {
            Part::Valid => "it names none, and is not what the model was trained on; choose another --split",
            _ => "choose another --split",
        };
        let (dataset, part) = (dataset.to_owned(), part.name());
        return Err(EvaluationSetError::NoPart { dataset, part, reason: reason.to_owned() });
    }
    Ok(images)
}

/// How many images the model cannot be asked about, and their classes with counts.
fn check_classes(
    map: &ClassMap,
    images: &Dataset,
    dataset: &str,
    known: &[String],
    policy: UnknownClasses,
) -> Result<Option<(usize, String)>, EvaluationSetError> {
    let found = map.unknown_images(images);
    let count = map.unknown_count(images);
    let (dataset, known) = (dataset.to_owned(), listed(known));
    if count == images.len() {
        return Err(EvaluationSetError::NoClass { dataset, found: listed(&images.class_names), known });
    }
    let unknown = listed(&found.iter().map(|(name, count)| format!("{name} ({count})")).collect::<Vec<_>>());
    match policy {
        _ if count == 0 => Ok(None),
        UnknownClasses::Reject => {
            Err(EvaluationSetError::UnknownClasses { dataset, images: count, unknown, known })
        }
        UnknownClasses::Skip => Ok(Some((count, unknown))),
    }
}

#[cfg(test)]
mod tests {
    use model::InputShape;

    use super::*;

    fn pair(test_set_aside: bool) -> DatasetPair {
        let sample = data::load("mnist-sample", &Search::default()).unwrap();
        let some = |dataset: &Dataset, count: u32| dataset.subset(&(0..count).collect::<Vec<_>>());
        DatasetPair {
            train: some(&sample.train, 30),
            test: some(&sample.test, 10),
            valid: vec![1, 4],
            test_set_aside,
            ..sample
        }
    }

    #[test]
    fn what_was_held_back_from_nothing_is_evaluated_whole() {
        let cases = [
            (false, false, Part::Test, 10),
            (false, true, Part::Test, 10),
            (true, true, Part::Test, 10),
            (true, false, Part::All, 40),
        ];
        for (test_set_aside, is_own, part, images) in cases {
            let pair = pair(test_set_aside);
            assert_eq!(choose(None, &pair, is_own).0, part, "{test_set_aside} {is_own}");
            assert_eq!(take(part, pair, None, "some").unwrap().len(), images);
        }
        for (asked, images) in [(Part::Train, 30), (Part::Valid, 2), (Part::All, 40), (Part::Test, 10)] {
            assert_eq!(choose(Some(asked), &pair(true), false).0, asked);
            assert_eq!(take(asked, pair(true), None, "some").unwrap().len(), images, "{asked:?}");
        }
        let unnamed = DatasetPair { valid: Vec::new(), ..pair(true) };
        let error = take(Part::Valid, unnamed, None, "some").unwrap_err().to_string();
        assert!(error.contains("some has no valid images"), "{error}");
    }

    #[test]
    fn unknown_classes_are_refused_by_name_or_left_out_when_asked() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let images = |classes: &[&str], labels: &[u32]| {
            let pixels = labels.iter().map(|&label| label as u8).collect();
            Dataset::new("x", pixels, labels.to_vec(), InputShape::new(1, 1, 1), names(classes))
        };
        let known = names(&["circle", "cross", "square"]);
        let check = |images: &Dataset, policy| {
            let map = ClassMap::new(&images.class_names, &known);
            check_classes(&map, images, "d", &known, policy).map_err(|error| error.to_string())
        };
        let reject = UnknownClasses::Reject;
        assert_eq!(check(&images(&["square", "circle"], &[0, 1, 1]), reject), Ok(None));
        // A class without an image asks nothing.
        assert_eq!(check(&images(&["bar", "circle"], &[1, 1]), reject), Ok(None));
        let shifted = images(&["bar", "cross", "square"], &[0, 0, 1, 2]);
        let error = check(&shifted, reject).unwrap_err();
        assert!(error.contains("bar (2)") && error.contains("--unknown-classes skip"), "{error}");
        assert_eq!(check(&shifted, UnknownClasses::Skip), Ok(Some((2, "bar (2)".to_owned()))));
        for policy in [reject, UnknownClasses::Skip] {
            let error = check(&images(&["0", "1", "2"], &[0, 1, 2]), policy).unwrap_err();
            assert!(error.contains("0, 1, 2") && error.contains("circle, cross, square"), "{error}");
        }
    }
}

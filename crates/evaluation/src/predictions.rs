//! What a finished run answered, read back from its report.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use model::TaskName;
use serde::Deserialize;

/// The answers of a finished run, in the order of the images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predictions {
    /// `test`, or `validation` for a run that was not tested.
    pub subset: String,
    /// Names of the classes by their numbers.
    pub classes: Vec<String>,
    /// Position of each image in its data set, `[N]`.
    pub indices: Vec<u32>,
    /// The right class of each, `[N]`.
    pub targets: Vec<u32>,
    /// The answer to each, `[N]`.
    pub predicted: Vec<u32>,
    /// The file of each, `[N]`; empty texts where images have none, and in reports of earlier versions.
    pub files: Vec<String>,
}

/// Predictions that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PredictionsError {
    /// The system refused.
    #[error("cannot read {path}: {source}; a run has its report only after it has finished")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Several labels a picture.
    #[error(
        "{0} is of a multi-label run: whether answers differ by chance is tested for one class a picture; its figures are \
         those of `kiln runs` and of its report"
    )]
    Sets(PathBuf),
    /// The file is not what a report holds.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The part of `evaluation.json` that says what was predicted.
#[derive(Deserialize)]
struct Evaluated {
    #[serde(default)]
    task: TaskName,
    subset: String,
    samples: u64,
    per_class: Vec<Class>,
}

#[derive(Deserialize)]
struct Class {
    class: String,
}

/// The part of a row of `predictions.csv` that is needed.
#[derive(Deserialize)]
struct Row {
    index: u32,
    target: u32,
    predicted: u32,
    #[serde(default)]
    file: String,
}

impl Predictions {
    /// Reads `report/predictions.csv` of the run folder `run`.
    ///
    /// # Errors
    /// When the report is missing, damaged, or has another number of rows than its summary says.
    pub fn read(run: &Path) -> Result<Self, PredictionsError> {
        let path = run.join("report/evaluation.json");
        let text = fs::read(&path).map_err(|source| PredictionsError::Read { path: path.clone(), source })?;
        let damaged =
            |path: &Path, reason: String| PredictionsError::Damaged { path: path.to_owned(), reason };
        let evaluated: Evaluated =
            serde_json::from_slice(&text).map_err(|error| damaged(&path, error.to_string()))?;
        if evaluated.task != TaskName::Classify {
            return Err(PredictionsError::Sets(path));
        }
        let path = run.join("report/predictions.csv");
        let file =
            File::open(&path).map_err(|source| PredictionsError::Read { path: path.clone(), source })?;
        let classes = evaluated.per_class.into_iter().map(|class| class.class).collect();
        parse(file, evaluated.subset, classes, evaluated.samples).map_err(|reason| damaged(&path, reason))
    }

    /// The class that image `position` is of; empty when it has no name.
    pub fn class(&self, position: usize) -> &str {
        self.targets
            .get(position)
            .and_then(|&target| self.classes.get(target as usize))
            .map_or("", |name| name)
    }

    /// For each image whether the answer is right, `[N]`.
    pub fn right(&self) -> impl Iterator<Item = bool> + '_ {
        self.targets.iter().zip(&self.predicted).map(|(target, predicted)| target == predicted)
    }
}

fn parse(
    content: impl std::io::Read,
    subset: String,
    classes: Vec<String>,
    samples: u64,
) -> Result<Predictions, String> {
    let (indices, targets, predicted) = (Vec::new(), Vec::new(), Vec::new());
    let mut found = Predictions { subset, classes, indices, targets, predicted, files: Vec::new() };
    for row in csv::Reader::from_reader(content).into_deserialize() {
        let row: Row = row.map_err(|error| error.to_string())?;
        if found.indices.len() as u64 == samples {
            return Err(format!("it has more rows than the {samples} that evaluation.json counts"));
        }
        found.indices.push(row.index);
        found.targets.push(row.target);
        found.predicted.push(row.predicted);
        found.files.push(row.file);
    }
    if (found.indices.len() as u64) < samples {
        return Err(format!("it has {} rows, evaluation.json counts {samples}", found.indices.len()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "index,target,predicted,probability,loss\n0,7,7,0.99,0.01\n1,2,3,0.5,1.25\n";

    #[test]
    fn rows_come_back() {
        let found = parse(TEXT.as_bytes(), "test".to_owned(), Vec::new(), 2).unwrap();
        assert_eq!((&found.indices[..], &found.targets[..]), (&[0, 1][..], &[7, 2][..]));
        assert_eq!(found.right().collect::<Vec<_>>(), [true, false]);
    }

    /// What later versions write beside it is not needed.
    #[test]
    fn more_columns_are_passed_over() {
        let text =
            "index,target,predicted,probability,loss,file,rejected\n4,1,0,0.9,2.5,\"a, b/1.png\",true\n";
        let found =
            parse(text.as_bytes(), "test".to_owned(), vec!["a".to_owned(), "b".to_owned()], 1).unwrap();
        assert_eq!((found.indices[0], found.class(0), found.predicted[0]), (4, "b", 0));
    }

    #[test]
    fn another_number_of_rows_is_an_error() {
        for (samples, word) in [(1, "more rows"), (3, "2 rows")] {
            let error = parse(TEXT.as_bytes(), "test".to_owned(), Vec::new(), samples).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        for text in [
            "",
            "index,target\n0,1\n",
            "index,target,predicted\n0,1,4294967296\n",
            "index,target,predicted\n0,1,x\n",
        ] {
            assert!(parse(text.as_bytes(), "test".to_owned(), Vec::new(), 1).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn damage_is_an_error_or_another_number_and_never_a_panic(
            position in 0usize..TEXT.len(), byte: u8, cut in 0usize..TEXT.len(),
        ) {
            let mut bytes = TEXT.as_bytes().to_vec();
            bytes[position] = byte;
            if let Ok(found) = parse(&bytes[..], "test".to_owned(), Vec::new(), 2) {
                prop_assert_eq!(found.indices.len(), 2);
            }
            let _ = parse(&TEXT.as_bytes()[..cut], "test".to_owned(), Vec::new(), 2);
        }
    }
}

//! Classification metrics: the confusion matrix of integers and what follows from it.
//!
//! Definitions are scikit-learn's (`precision_recall_fscore_support` with `zero_division=0` over the classes that have
//! samples): a class that was there and was never predicted has precision 0. A class without samples has no figures, and
//! no part in an average: nothing was asked about it.
//!
//! Longer than other files for its tests: every figure has one that was computed by hand.

use serde::{Deserialize, Serialize};

/// What can be wrong with predictions before anything is computed from them.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MetricsError {
    /// A target or predicted class that the class list does not have.
    #[error(
        "{role} class {class} is out of range: there are {classes} classes (0 to {}); \
         check that the model and the data set belong together",
        classes.saturating_sub(1)
    )]
    ClassOutOfRange {
        /// `target` or `predicted`.
        role: &'static str,
        /// The class met.
        class: usize,
        /// How many classes there are.
        classes: usize,
    },
    /// Two matrices over different numbers of classes cannot be added.
    #[error("cannot merge a confusion matrix of {found} classes into one of {expected} classes")]
    ClassesDiffer {
        /// Classes of the receiving matrix.
        expected: usize,
        /// Classes of the other matrix.
        found: usize,
    },
    /// Rows read from a file do not form a square.
    #[error("confusion matrix is not square: row {row} has {found} columns, expected {expected}")]
    NotSquare {
        /// The first wrong row, counted from 0.
        row: usize,
        /// How many rows there are.
        expected: usize,
        /// Columns found in this row.
        found: usize,
    },
    /// An evaluation of nothing has no accuracy.
    #[error("no predictions to evaluate: the data set or its selected part is empty")]
    Empty,
}

/// How often each target class was predicted as each class: rows are targets, columns are predictions.
///
/// Serialised as an array of rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Vec<u64>>", into = "Vec<Vec<u64>>")]
pub struct ConfusionMatrix {
    classes: usize,
    /// Row-major, `[classes, classes]`.
    counts: Vec<u64>,
}

/// Precision, recall and F1 of one class, or their average over the classes; `None` (`null`) for a class without
/// samples, and for an average over no classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassMetrics {
    /// Share of right ones among the samples predicted as this class.
    pub precision: Option<f64>,
    /// Share of found ones among the samples of this class.
    pub recall: Option<f64>,
    /// Harmonic mean of precision and recall.
    pub f1: Option<f64>,
    /// Samples whose target is this class; for an average, all samples.
    pub support: u64,
}

/// One kind of mistake and how often it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    /// The class it was.
    pub target: usize,
    /// The class it was taken for.
    pub predicted: usize,
    /// How many samples.
    pub count: u64,
}

impl ConfusionMatrix {
    /// An empty matrix over `classes` classes.
    pub fn new(classes: usize) -> Self {
        Self { classes, counts: vec![0; classes * classes] }
    }

    /// How many classes it is over.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Counts one sample.
    ///
    /// # Errors
    /// [`MetricsError::ClassOutOfRange`], and nothing is counted.
    pub fn add(&mut self, target: usize, predicted: usize) -> Result<(), MetricsError> {
        for (role, class) in [("target", target), ("predicted", predicted)] {
            if class >= self.classes {
                return Err(MetricsError::ClassOutOfRange { role, class, classes: self.classes });
            }
        }
        self.counts[target * self.classes + predicted] += 1;
        Ok(())
    }

    /// Adds the counts of `other`, which another part of the same data set gave.
    ///
    /// # Errors
    /// [`MetricsError::ClassesDiffer`].
    pub fn merge(&mut self, other: &Self) -> Result<(), MetricsError> {
        if self.classes != other.classes {
            return Err(MetricsError::ClassesDiffer { expected: self.classes, found: other.classes });
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        Ok(())
    }

    /// Samples of class `target` that were predicted as class `predicted`; 0 outside the matrix.
    pub fn count(&self, target: usize, predicted: usize) -> u64 {
        if target < self.classes && predicted < self.classes {
            self.counts[target * self.classes + predicted]
        } else {
            0
        }
    }

    /// All samples counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Samples on the diagonal.
    pub fn correct(&self) -> u64 {
        (0..self.classes).map(|class| self.count(class, class)).sum()
    }

    /// Samples whose target is `class`: the sum of its row.
    pub fn support(&self, class: usize) -> u64 {
        (0..self.classes).map(|other| self.count(class, other)).sum()
    }

    /// Samples predicted as `class`: the sum of its column.
    pub fn predicted(&self, class: usize) -> u64 {
        (0..self.classes).map(|other| self.count(other, class)).sum()
    }

    /// Share of right predictions in 0..=1; 0 when nothing was counted.
    pub fn accuracy(&self) -> f64 {
        ratio(self.correct(), self.total())
    }

    /// The metrics of every class, in class order.
    pub fn per_class(&self) -> Vec<ClassMetrics> {
        (0..self.classes)
            .map(|class| {
                let hits = self.count(class, class);
                let (support, predicted) = (self.support(class), self.predicted(class));
                let figure = |part, whole| (support > 0).then(|| ratio(part, whole));
                ClassMetrics {
                    precision: figure(hits, predicted),
                    recall: figure(hits, support),
                    // 2PR/(P+R) with P and R written out: one division, no 0/0 between.
                    f1: figure(2 * hits, support + predicted),
                    support,
                }
            })
            .collect()
    }

    /// The classes without samples, in class order.
    pub fn without_samples(&self) -> Vec<usize> {
        (0..self.classes).filter(|&class| self.support(class) == 0).collect()
    }

    /// The unweighted mean over the classes with samples: a rare class counts as much as a frequent one.
    pub fn macro_average(&self) -> ClassMetrics {
        self.average(|_| 1)
    }

    /// The mean over the classes weighted by support. Its recall is the accuracy.
    pub fn weighted_average(&self) -> ClassMetrics {
        self.average(|metrics| metrics.support)
    }

    fn average(&self, weight: impl Fn(&ClassMetrics) -> u64) -> ClassMetrics {
        let mut per_class = self.per_class();
        per_class.retain(|metrics| metrics.support > 0);
        let weights: u64 = per_class.iter().map(&weight).sum();
        let mean = |figure: fn(&ClassMetrics) -> Option<f64>| {
            let sum: f64 = per_class.iter().filter_map(|m| Some(figure(m)? * weight(m) as f64)).sum();
            (weights > 0).then(|| sum / weights as f64)
        };
        ClassMetrics {
            precision: mean(|m| m.precision),
            recall: mean(|m| m.recall),
            f1: mean(|m| m.f1),
            support: self.total(),
        }
    }

    /// The `n` most frequent mistakes, most frequent first, ties in class order.
    pub fn top_confusions(&self, n: usize) -> Vec<Confusion> {
        let mut confusions: Vec<Confusion> = (0..self.classes)
            .flat_map(|target| (0..self.classes).map(move |predicted| (target, predicted)))
            .map(|(target, predicted)| Confusion { target, predicted, count: self.count(target, predicted) })
            .filter(|confusion| confusion.target != confusion.predicted && confusion.count > 0)
            .collect();
        confusions.sort_by_key(|confusion| std::cmp::Reverse(confusion.count)); // stable: ties keep class order
        confusions.truncate(n);
        confusions
    }
}

impl TryFrom<Vec<Vec<u64>>> for ConfusionMatrix {
    type Error = MetricsError;

    fn try_from(rows: Vec<Vec<u64>>) -> Result<Self, MetricsError> {
        let classes = rows.len();
        for (row, columns) in rows.iter().enumerate() {
            if columns.len() != classes {
                return Err(MetricsError::NotSquare { row, expected: classes, found: columns.len() });
            }
        }
        Ok(Self { classes, counts: rows.concat() })
    }
}

impl From<ConfusionMatrix> for Vec<Vec<u64>> {
    fn from(matrix: ConfusionMatrix) -> Self {
        if matrix.classes == 0 {
            return Vec::new();
        }
        matrix.counts.chunks(matrix.classes).map(<[u64]>::to_vec).collect()
    }
}

/// `part / whole`, and 0 when `whole` is 0 (scikit-learn's `zero_division=0`).
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// What the network said about one image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Position of the image in its data set.
    pub index: u32,
    /// The class it is.
    pub target: u32,
    /// The class with the highest logit.
    pub predicted: u32,
    /// Softmax probability of the predicted class.
    pub probability: f32,
    /// Cross-entropy of this image, without label smoothing or class weights.
    pub loss: f32,
}

impl Prediction {
    /// Whether the prediction is right.
    pub fn is_correct(&self) -> bool {
        self.target == self.predicted
    }
}

/// One pass of a model over a data set, complete: every figure of the report follows from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Names of the classes, in class order.
    pub class_names: Vec<String>,
    /// Rows are targets, columns are predictions.
    pub confusion: ConfusionMatrix,
    /// Mean cross-entropy over the samples.
    pub mean_loss: f64,
    /// One per sample, in the order of evaluation.
    pub predictions: Vec<Prediction>,
}

impl Evaluation {
    /// Counts `predictions`. The loss is summed in `f64` in their order, so that it does not depend on
    /// the batch size.
    ///
    /// # Errors
    /// [`MetricsError::Empty`], or [`MetricsError::ClassOutOfRange`] for a class without a name.
    pub fn new(class_names: Vec<String>, predictions: Vec<Prediction>) -> Result<Self, MetricsError> {
        if predictions.is_empty() {
            return Err(MetricsError::Empty);
        }
        let mut confusion = ConfusionMatrix::new(class_names.len());
        let mut loss = 0.0;
        for prediction in &predictions {
            confusion.add(prediction.target as usize, prediction.predicted as usize)?;
            loss += f64::from(prediction.loss);
        }
        Ok(Self { class_names, confusion, mean_loss: loss / predictions.len() as f64, predictions })
    }

    /// Share of right predictions in 0..=1.
    pub fn accuracy(&self) -> f64 {
        self.confusion.accuracy()
    }

    /// Names of the classes without a sample: they have no figures, and no part in the averages.
    pub fn without_samples(&self) -> Vec<String> {
        self.confusion.without_samples().into_iter().map(|class| self.class_names[class].clone()).collect()
    }

    /// Positions among the predictions of the `n` mistakes with the highest loss, worst first: the images whose true
    /// class the network held for least likely. Ties keep the order of evaluation.
    pub fn worst_mistakes(&self, n: usize) -> Vec<usize> {
        let loss = |position: usize| self.predictions[position].loss;
        let mut mistakes: Vec<usize> = (0..self.predictions.len())
            .filter(|&position| !self.predictions[position].is_correct())
            .collect();
        mistakes.sort_by(|&a, &b| loss(b).total_cmp(&loss(a)));
        mistakes.truncate(n);
        mistakes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matrix(rows: &[&[u64]]) -> ConfusionMatrix {
        ConfusionMatrix::try_from(rows.iter().map(|row| row.to_vec()).collect::<Vec<_>>())
            .expect("square rows")
    }

    fn assert_close(what: &str, actual: f64, expected: f64) {
        assert!((actual - expected).abs() <= 1e-12, "{what}: {actual}, expected {expected}");
    }

    fn assert_metrics(what: &str, actual: &ClassMetrics, expected: &ClassMetrics) {
        for (figure, actual, expected) in [
            ("precision", actual.precision, expected.precision),
            ("recall", actual.recall, expected.recall),
            ("f1", actual.f1, expected.f1),
        ] {
            assert_eq!(actual.is_some(), expected.is_some(), "{what} {figure}");
            assert_close(&format!("{what} {figure}"), actual.unwrap_or(0.0), expected.unwrap_or(0.0));
        }
        assert_eq!(actual.support, expected.support, "{what} support");
    }

    fn metrics([precision, recall, f1]: [f64; 3], support: u64) -> ClassMetrics {
        ClassMetrics { precision: Some(precision), recall: Some(recall), f1: Some(f1), support }
    }

    /// Cats, dogs and foxes: 4 of 6 cats found, 1 taken for a dog, 1 for a fox; and so on by hand.
    #[test]
    fn figures_of_a_small_matrix_by_hand() {
        let m = matrix(&[&[4, 1, 1], &[6, 2, 0], &[3, 0, 3]]);
        assert_eq!((m.total(), m.correct()), (20, 9));
        assert_close("accuracy", m.accuracy(), 0.45);
        let expected = [
            metrics([4.0 / 13.0, 4.0 / 6.0, 8.0 / 19.0], 6),
            metrics([2.0 / 3.0, 2.0 / 8.0, 4.0 / 11.0], 8),
            metrics([3.0 / 4.0, 3.0 / 6.0, 6.0 / 10.0], 6),
        ];
        for (class, (actual, expected)) in m.per_class().iter().zip(&expected).enumerate() {
            assert_metrics(&format!("class {class}"), actual, expected);
        }
        let macro_f1 = (8.0 / 19.0 + 4.0 / 11.0 + 0.6) / 3.0;
        assert_close("macro f1", m.macro_average().f1.expect("a figure"), macro_f1);
        let weighted_precision = (6.0 * 4.0 / 13.0 + 8.0 * 2.0 / 3.0 + 6.0 * 0.75) / 20.0;
        assert_close(
            "weighted precision",
            m.weighted_average().precision.expect("a figure"),
            weighted_precision,
        );
    }

    #[test]
    fn a_class_that_is_never_predicted_has_figures_of_zero() {
        let m = matrix(&[&[0, 2], &[0, 2]]);
        assert_metrics("class 0", &m.per_class()[0], &metrics([0.0; 3], 2));
        assert_metrics("macro", &m.macro_average(), &metrics([0.25, 0.5, 1.0 / 3.0], 4));
    }

    /// Cats and dogs are read without a mistake, no fox was shown: that is a macro F1 of 1, not of 2/3.
    #[test]
    fn a_class_without_samples_has_no_figures_and_no_part_in_an_average() {
        let none = ClassMetrics::default();
        let m = matrix(&[&[4, 0, 0], &[0, 6, 0], &[0, 0, 0]]);
        assert_eq!(m.without_samples(), [2]);
        assert_metrics("the fox", &m.per_class()[2], &none);
        assert_metrics("macro", &m.macro_average(), &metrics([1.0; 3], 10));
        assert_metrics("weighted", &m.weighted_average(), &metrics([1.0; 3], 10));
        assert_eq!(serde_json::to_value(none).expect("serialises")["f1"], serde_json::Value::Null);
        // A cat taken for a fox is a mistake about a cat.
        let m = matrix(&[&[3, 0, 1], &[0, 6, 0], &[0, 0, 0]]);
        assert_metrics("the fox", &m.per_class()[2], &none);
        assert_metrics("macro", &m.macro_average(), &metrics([1.0, 0.875, 13.0 / 14.0], 10));

        let nothing = ConfusionMatrix::new(3);
        assert_close("accuracy of nothing", nothing.accuracy(), 0.0);
        assert_metrics("macro of nothing", &nothing.macro_average(), &none);
        assert_metrics("weighted of nothing", &nothing.weighted_average(), &none);
    }

    #[test]
    fn top_confusions_are_sorted_and_leave_out_the_diagonal() {
        let m = matrix(&[&[50, 2, 5], &[5, 60, 0], &[1, 0, 70]]);
        let top: Vec<_> = m.top_confusions(3).iter().map(|c| (c.target, c.predicted, c.count)).collect();
        assert_eq!(top, [(0, 2, 5), (1, 0, 5), (0, 1, 2)]);
        assert_eq!(m.top_confusions(100).len(), 4);
    }

    #[test]
    fn out_of_range_is_an_error_and_counts_nothing() {
        let mut m = ConfusionMatrix::new(2);
        let error = m.add(0, 2).expect_err("class 2 of 2");
        assert!(
            error.to_string().starts_with("predicted class 2 is out of range: there are 2 classes (0 to 1)")
        );
        assert_eq!(m.total(), 0);
        assert_eq!(
            m.merge(&ConfusionMatrix::new(3)),
            Err(MetricsError::ClassesDiffer { expected: 2, found: 3 })
        );
    }

    #[test]
    fn a_matrix_survives_json_and_a_ragged_one_is_refused() {
        let m = matrix(&[&[1, 2], &[3, 4]]);
        let json = serde_json::to_string(&m).expect("serialises");
        assert_eq!(json, "[[1,2],[3,4]]");
        assert_eq!(serde_json::from_str::<ConfusionMatrix>(&json).expect("parses"), m);
        let error = serde_json::from_str::<ConfusionMatrix>("[[1,2],[3]]").expect_err("ragged");
        assert!(error.to_string().contains("row 1 has 1 columns, expected 2"), "{error}");
        let empty = serde_json::to_string(&ConfusionMatrix::new(0)).expect("serialises");
        assert_eq!(empty, "[]");
    }

    #[test]
    fn an_evaluation_counts_averages_and_ranks() {
        let prediction =
            |index, target, predicted, loss| Prediction { index, target, predicted, probability: 0.5, loss };
        let names = vec!["a".to_owned(), "b".to_owned()];
        let predictions = vec![
            prediction(7, 0, 1, 2.0),
            prediction(8, 1, 1, 0.5),
            prediction(9, 1, 0, 3.0),
            prediction(4, 0, 1, 2.0),
        ];
        let evaluation = Evaluation::new(names.clone(), predictions).expect("valid");
        assert_close("accuracy", evaluation.accuracy(), 0.25);
        assert_close("mean loss", evaluation.mean_loss, 7.5 / 4.0);
        assert_eq!(evaluation.worst_mistakes(2), [2, 0]);
        assert_eq!(Evaluation::new(names.clone(), Vec::new()), Err(MetricsError::Empty));
        let foreign = Evaluation::new(names, vec![prediction(0, 2, 0, 0.0)]);
        assert!(matches!(foreign, Err(MetricsError::ClassOutOfRange { class: 2, classes: 2, .. })));
    }

    #[derive(Deserialize)]
    struct Golden {
        classes: usize,
        accuracy: f64,
        per_class: Vec<ClassMetrics>,
        macro_average: ClassMetrics,
        weighted_average: ClassMetrics,
        confusion: ConfusionMatrix,
        targets: Vec<usize>,
        predicted: Vec<usize>,
    }

    /// `tests/golden/metrics.py` made the file with scikit-learn:
    /// `precision_recall_fscore_support(targets, predicted, labels=present, zero_division=0)`.
    #[test]
    fn figures_equal_scikit_learns() {
        let golden: Golden =
            serde_json::from_str(include_str!("../../../tests/golden/metrics.json")).expect("golden");
        assert_eq!((golden.targets.len(), golden.predicted.len()), (1000, 1000));
        let mut m = ConfusionMatrix::new(golden.classes);
        for (&target, &predicted) in golden.targets.iter().zip(&golden.predicted) {
            m.add(target, predicted).expect("in range");
        }
        assert_eq!(m, golden.confusion);
        assert_close("accuracy", m.accuracy(), golden.accuracy);
        let per_class = m.per_class();
        assert_eq!(per_class.len(), golden.per_class.len());
        for (class, (actual, expected)) in per_class.iter().zip(&golden.per_class).enumerate() {
            assert_metrics(&format!("class {class}"), actual, expected);
        }
        assert_metrics("macro", &m.macro_average(), &golden.macro_average);
        assert_metrics("weighted", &m.weighted_average(), &golden.weighted_average);
    }

    /// Up to 12 classes and some (target, predicted) pairs of them.
    fn pairs() -> impl Strategy<Value = (usize, Vec<(usize, usize)>)> {
        (1..12_usize).prop_flat_map(|k| (Just(k), prop::collection::vec((0..k, 0..k), 0..200)))
    }

    proptest! {
        /// Against the definitions, counted sample by sample: P and R from true and false positives and
        /// negatives, F1 as the harmonic mean.
        #[test]
        fn metrics_agree_with_the_definitions((classes, samples) in pairs(), cut in 0..200_usize) {
            let cut = cut.min(samples.len());
            let mut m = ConfusionMatrix::new(classes);
            let mut rest = ConfusionMatrix::new(classes);
            for (position, &(target, predicted)) in samples.iter().enumerate() {
                let part = if position < cut { &mut m } else { &mut rest };
                part.add(target, predicted).expect("in range");
            }
            m.merge(&rest).expect("same classes");

            let how_many = |wanted: &dyn Fn(usize, usize) -> bool| {
                samples.iter().filter(|&&(t, p)| wanted(t, p)).count() as f64
            };
            let quotient = |a: f64, b: f64| if b == 0.0 { 0.0 } else { a / b };
            let n = samples.len() as f64;
            let (mut macro_f1, mut weighted_recall, mut present) = (0.0, 0.0, 0);
            for (class, found) in m.per_class().iter().enumerate() {
                let true_positive = how_many(&|t, p| t == class && p == class);
                let false_positive = how_many(&|t, p| t != class && p == class);
                let false_negative = how_many(&|t, p| t == class && p != class);
                let precision = quotient(true_positive, true_positive + false_positive);
                let recall = quotient(true_positive, true_positive + false_negative);
                let f1 = quotient(2.0 * precision * recall, precision + recall);
                let support = (true_positive + false_negative) as u64;
                if support == 0 {
                    prop_assert_eq!(*found, ClassMetrics::default());
                    continue;
                }
                assert_metrics("class", found, &metrics([precision, recall, f1], support));
                present += 1;
                macro_f1 += f1;
                weighted_recall += quotient(recall * support as f64, n);
            }
            assert_close("accuracy", m.accuracy(), quotient(how_many(&|t, p| t == p), n));
            let (macro_average, weighted) = (m.macro_average(), m.weighted_average());
            prop_assert_eq!(macro_average.f1.is_some(), present > 0);
            assert_close("macro f1", macro_average.f1.unwrap_or(0.0), quotient(macro_f1, f64::from(present)));
            assert_close("weighted recall", weighted.recall.unwrap_or(0.0), weighted_recall);
            assert_close("weighted recall is accuracy", weighted.recall.unwrap_or(0.0), m.accuracy());
            let mistakes: u64 = m.top_confusions(usize::MAX).iter().map(|c| c.count).sum();
            prop_assert_eq!(mistakes, m.total() - m.correct());
        }
    }
}

//! What is right where a picture may have several labels: F1 over all labels and by class, average precision, and the
//! thresholds that make labels of probabilities.
//!
//! Definitions are scikit-learn's (`f1_score`, `average_precision_score`, `accuracy_score` of multi-label indicators). A
//! class without samples has no figures, and no part in an average.

use data::Labels;
use model::{sigmoid, temperature_of};
use serde::{Deserialize, Serialize};

use crate::metrics::MetricsError;

/// The threshold of a class of which too little is known.
pub const DEFAULT_THRESHOLD: f32 = 0.5;

/// Validation images that must be of a class, and that must not be, before a threshold is fitted to them.
const FEWEST: usize = 10;

/// What the network said about one image.
#[derive(Clone, Debug, PartialEq)]
pub struct SetPrediction {
    /// Position of the image in its data set.
    pub index: u32,
    /// The classes that are on it, ascending.
    pub targets: Vec<u32>,
    /// The probability of each class `[K]`.
    pub probabilities: Vec<f32>,
    /// Mean binary cross-entropy over the classes, without label smoothing, class weights and temperature.
    pub loss: f32,
}

/// One pass of a multi-label model over a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct SetEvaluation {
    /// Names of the classes, in class order.
    pub class_names: Vec<String>,
    /// The least probability of each class that is a label `[K]`.
    pub thresholds: Vec<f32>,
    /// Mean binary cross-entropy over the samples and classes.
    pub mean_loss: f64,
    /// One per sample, in the order of evaluation.
    pub predictions: Vec<SetPrediction>,
}

/// The figures of all classes together; `None` (`null`) for an average over no classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SetFigures {
    /// F1 over all labels of all images.
    pub micro_f1: f64,
    /// Unweighted mean of the F1 of the classes with samples.
    pub macro_f1: Option<f64>,
    /// Unweighted mean of the average precision of the classes with samples.
    pub mean_average_precision: Option<f64>,
    /// Share of images whose labels are all right, 0 to 1.
    pub subset_accuracy: f64,
}

/// The figures of one class; `None` (`null`) without samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetClassMetrics {
    /// Its name.
    pub class: String,
    /// Share of right ones among the samples with this label.
    pub precision: Option<f64>,
    /// Share of found ones among the samples of this class.
    pub recall: Option<f64>,
    /// Harmonic mean of precision and recall.
    pub f1: Option<f64>,
    /// Precision averaged over the steps of the recall, whatever the threshold.
    pub average_precision: Option<f64>,
    /// The least probability that is a label.
    pub threshold: f32,
    /// Samples of this class.
    pub support: u64,
}

/// How the labels of a class came out.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    hits: u64,
    predicted: u64,
    support: u64,
}

impl Counts {
    fn f1(self) -> f64 {
        ratio(2 * self.hits, self.support + self.predicted)
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

impl SetPrediction {
    /// From the logits `[K]` of an image that has the classes `targets`.
    pub fn new(index: u32, targets: &[u32], logits: &[f32], temperature: f32) -> Self {
        let sum: f64 = logits
            .iter()
            .enumerate()
            .map(|(class, &logit)| surprise(f64::from(logit), targets.contains(&(class as u32))))
            .sum();
        Self {
            index,
            targets: targets.to_vec(),
            probabilities: logits.iter().map(|&logit| sigmoid(logit, temperature)).collect(),
            loss: (sum / logits.len().max(1) as f64) as f32,
        }
    }

    /// The labels: classes with at least the probabilities `thresholds` `[K]`, ascending.
    pub fn labels(&self, thresholds: &[f32]) -> Vec<u32> {
        let said = |class: &usize| self.probabilities[*class] >= thresholds[*class];
        (0..self.probabilities.len()).filter(said).map(|class| class as u32).collect()
    }
}

/// `-ln` of the probability that a logit gives to what is so: stable for any logit.
fn surprise(logit: f64, is_there: bool) -> f64 {
    let against = if is_there { -logit } else { logit };
    against.max(0.0) + (-against.abs()).exp().ln_1p()
}

impl SetEvaluation {
    /// Judges `predictions` with the thresholds `[K]`.
    ///
    /// # Errors
    /// [`MetricsError::Empty`], or [`MetricsError::ClassOutOfRange`] for a class without a name or a probability.
    pub fn new(
        class_names: Vec<String>,
        thresholds: Vec<f32>,
        predictions: Vec<SetPrediction>,
    ) -> Result<Self, MetricsError> {
        if predictions.is_empty() {
            return Err(MetricsError::Empty);
        }
        let classes = class_names.len();
        let mut loss = 0.0;
        for prediction in &predictions {
            let last = prediction.targets.iter().map(|&class| class as usize).max();
            if let Some(class) = last.filter(|class| *class >= classes) {
                return Err(MetricsError::ClassOutOfRange { role: "target", class, classes });
            }
            for found in [prediction.probabilities.len(), thresholds.len()] {
                if found != classes {
                    return Err(MetricsError::ClassOutOfRange { role: "predicted", class: found, classes });
                }
            }
            loss += f64::from(prediction.loss);
        }
        Ok(Self { class_names, thresholds, mean_loss: loss / predictions.len() as f64, predictions })
    }

    fn counts(&self) -> Vec<Counts> {
        let mut counts = vec![Counts::default(); self.class_names.len()];
        for prediction in &self.predictions {
            for &class in &prediction.targets {
                counts[class as usize].support += 1;
            }
            for class in prediction.labels(&self.thresholds) {
                counts[class as usize].predicted += 1;
                counts[class as usize].hits += u64::from(prediction.targets.contains(&class));
            }
        }
        counts
    }

    /// The figures of all classes together.
    pub fn figures(&self) -> SetFigures {
        let per_class = self.per_class();
        let all = self.counts().into_iter().fold(Counts::default(), |sum, one| Counts {
            hits: sum.hits + one.hits,
            predicted: sum.predicted + one.predicted,
            support: sum.support + one.support,
        });
        SetFigures {
            micro_f1: all.f1(),
            macro_f1: mean(per_class.iter().filter_map(|class| class.f1)),
            mean_average_precision: mean(per_class.iter().filter_map(|class| class.average_precision)),
            subset_accuracy: ratio(self.right(), self.predictions.len() as u64),
        }
    }

    /// Images whose labels are all right.
    pub fn right(&self) -> u64 {
        let is_right =
            |prediction: &&SetPrediction| prediction.labels(&self.thresholds) == prediction.targets;
        self.predictions.iter().filter(is_right).count() as u64
    }

    /// The figures of every class, in class order.
    pub fn per_class(&self) -> Vec<SetClassMetrics> {
        let counts = self.counts();
        let class = |(class, name): (usize, &String)| {
            let own = counts[class];
            let figure = |value: f64| (own.support > 0).then_some(value);
            let (scores, targets) = self.column(class);
            SetClassMetrics {
                class: name.clone(),
                precision: figure(ratio(own.hits, own.predicted)),
                recall: figure(ratio(own.hits, own.support)),
                f1: figure(own.f1()),
                average_precision: average_precision(&scores, &targets),
                threshold: self.thresholds[class],
                support: own.support,
            }
        };
        self.class_names.iter().enumerate().map(class).collect()
    }

    /// Of each sample the probability of a class, and whether it is on it.
    fn column(&self, class: usize) -> (Vec<f32>, Vec<bool>) {
        let cell = |prediction: &SetPrediction| {
            (prediction.probabilities[class], prediction.targets.contains(&(class as u32)))
        };
        self.predictions.iter().map(cell).unzip()
    }

    /// Names of the classes without a sample: they have no figures, and no part in the averages.
    pub fn without_samples(&self) -> Vec<String> {
        let counts = self.counts();
        let empty = self.class_names.iter().zip(counts).filter(|(_, counts)| counts.support == 0);
        empty.map(|(name, _)| name.clone()).collect()
    }

    /// Positions among the predictions of the `n` images with a wrong label and the highest loss, worst first.
    pub fn worst_mistakes(&self, n: usize) -> Vec<usize> {
        let is_wrong = |at: &usize| {
            let prediction = &self.predictions[*at];
            prediction.labels(&self.thresholds) != prediction.targets
        };
        let mut mistakes: Vec<usize> = (0..self.predictions.len()).filter(is_wrong).collect();
        mistakes.sort_by(|&a, &b| self.predictions[b].loss.total_cmp(&self.predictions[a].loss));
        mistakes.truncate(n);
        mistakes
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// Samples in groups of equal scores, the highest first: score, samples so far, and how many of them are of the class.
fn steps(scores: &[f32], targets: &[bool]) -> Vec<(f32, u64, u64)> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let mut steps: Vec<(f32, u64, u64)> = Vec::new();
    let (mut all, mut hits) = (0, 0);
    for at in order {
        all += 1;
        hits += u64::from(targets[at]);
        match steps.last_mut() {
            Some(last) if last.0.total_cmp(&scores[at]).is_eq() => *last = (scores[at], all, hits),
            _ => steps.push((scores[at], all, hits)),
        }
    }
    steps
}

/// Average precision: over the distinct scores from the highest down, the sum of what the recall gains times the
/// precision there, without interpolation, as `average_precision_score` of scikit-learn has it. `scores` `[N]` and
/// whether each sample is of the class, `[N]`; `None` where none is.
pub fn average_precision(scores: &[f32], targets: &[bool]) -> Option<f64> {
    let support = targets.iter().filter(|&&target| target).count() as u64;
    if support == 0 {
        return None;
    }
    let (mut sum, mut before) = (0.0, 0);
    for (_, all, hits) in steps(scores, targets) {
        sum += (hits - before) as f64 / support as f64 * ratio(hits, all);
        before = hits;
    }
    Some(sum)
}

/// The threshold with the best F1 of a class (Lipton, Elkan & Naryanaswamy 2014, "Optimal thresholding of classifiers to
/// maximize F1 measure"): half-way between the least probability that is a label and the next one below; of equally good
/// ones that nearest to [`DEFAULT_THRESHOLD`], which stands where fewer than ten samples are of the class or not of it.
pub fn best_threshold(probabilities: &[f32], targets: &[bool]) -> f32 {
    let support = targets.iter().filter(|&&target| target).count();
    if support < FEWEST || targets.len() - support < FEWEST {
        return DEFAULT_THRESHOLD;
    }
    let steps = steps(probabilities, targets);
    let mut best = (0.0, DEFAULT_THRESHOLD);
    for (at, &(score, predicted, hits)) in steps.iter().enumerate() {
        let f1 = Counts { hits, predicted, support: support as u64 }.f1();
        let below = steps.get(at + 1).map_or(0.0, |next| next.0);
        // Two neighbouring numbers have none between them.
        let middle = f32::midpoint(score, below);
        let threshold = if middle > below { middle } else { score };
        let distance = |threshold: f32| (threshold - DEFAULT_THRESHOLD).abs();
        if f1 > best.0 || (f1 >= best.0 && distance(threshold) < distance(best.1)) {
            best = (f1, threshold);
        }
    }
    best.1
}

/// What is fitted to validation images: one temperature for all classes, and a threshold for each, for probabilities at
/// that temperature. `logits` `[N][K]`.
pub fn fit(logits: &[&[f32]], labels: &Labels) -> (f32, Vec<f32>) {
    let classes = logits.first().map_or(0, |row| row.len());
    let cells = || {
        logits.iter().zip(labels.iter()).flat_map(|(row, own)| {
            let cell = |(class, &logit): (usize, &f32)| (f64::from(logit), own.contains(&(class as u32)));
            row.iter().enumerate().map(cell)
        })
    };
    let count = (logits.len() * classes).max(1) as f64;
    let loss = |temperature: f64| {
        cells().map(|(logit, is_there)| surprise(logit / temperature, is_there)).sum::<f64>() / count
    };
    let mistakes = || cells().filter(|&(logit, is_there)| (logit > 0.0) != is_there).count();
    let temperature = temperature_of(loss, logits.len(), mistakes);
    let threshold = |class: usize| {
        let probabilities: Vec<f32> = logits.iter().map(|row| sigmoid(row[class], temperature)).collect();
        let targets: Vec<bool> = labels.iter().map(|own| own.contains(&(class as u32))).collect();
        best_threshold(&probabilities, &targets)
    };
    (temperature, (0..classes).map(threshold).collect())
}

/// The mean average precision of logits `[N, K]`, row by row; `None` where no sample has a class.
pub fn mean_average_precision(logits: &[f32], classes: usize, labels: &Labels) -> Option<f64> {
    let of_class = |class: usize| {
        let scores: Vec<f32> = logits.chunks_exact(classes).map(|row| row[class]).collect();
        let targets: Vec<bool> = labels.iter().map(|own| own.contains(&(class as u32))).collect();
        average_precision(&scores, &targets)
    };
    mean((0..classes).filter_map(of_class))
}

#[cfg(test)]
mod tests {
    use super::*;

    // from sklearn.metrics import average_precision_score
    // average_precision_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == 0.8333...
    #[test]
    fn average_precision_by_hand() {
        let ap = |scores: &[f32], targets: &[u8]| {
            average_precision(scores, &targets.iter().map(|&one| one == 1).collect::<Vec<_>>())
        };
        // Recall 1/2 at precision 1, then 1 at precision 2/3.
        let found = ap(&[0.1, 0.4, 0.35, 0.8], &[0, 0, 1, 1]).unwrap();
        assert!((found - 5.0 / 6.0).abs() < 1e-12, "{found}");
        // All tied: the precision is the share of the class.
        assert_eq!(ap(&[0.5; 4], &[1, 0, 0, 0]), Some(0.25));
        // A tie of one of each after a hit: 1/2 * 1 + 1/2 * 2/3.
        let found = ap(&[0.9, 0.5, 0.5], &[1, 0, 1]).unwrap();
        assert!((found - (0.5 + 0.5 * 2.0 / 3.0)).abs() < 1e-12, "{found}");
        assert_eq!(ap(&[0.9, 0.1], &[1, 0]), Some(1.0));
        assert_eq!(ap(&[0.1, 0.9], &[1, 0]), Some(0.5));
        assert_eq!((ap(&[0.3], &[0]), ap(&[], &[])), (None, None));
    }

    /// Three images of three classes; the third class is on none.
    fn evaluation() -> SetEvaluation {
        let prediction = |index, targets: &[u32], probabilities: &[f32]| SetPrediction {
            index,
            targets: targets.to_vec(),
            probabilities: probabilities.to_vec(),
            loss: index as f32,
        };
        let predictions = vec![
            prediction(0, &[0, 1], &[0.9, 0.6, 0.1]),
            prediction(1, &[1], &[0.5, 0.2, 0.2]),
            prediction(2, &[], &[0.1, 0.1, 0.8]),
        ];
        SetEvaluation::new(["a", "b", "c"].map(String::from).to_vec(), vec![0.5; 3], predictions).unwrap()
    }

    #[test]
    fn figures_by_hand() {
        let evaluation = evaluation();
        // Labels: {a, b}, {a}, {c}. Hits 2 (a, b of the first); said 4, there are 3.
        let figures = evaluation.figures();
        assert!((figures.micro_f1 - 4.0 / 7.0).abs() < 1e-12);
        // a: 1 of 2 said, 1 of 1 found: 2/3. b: 1 of 1 said, 1 of 2 found: 2/3. c has no sample.
        assert!((figures.macro_f1.unwrap() - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(figures.mean_average_precision, Some(1.0));
        assert!((figures.subset_accuracy - 1.0 / 3.0).abs() < 1e-12);
        let [a, b, c] = &evaluation.per_class()[..] else { panic!("three classes") };
        assert_eq!((a.precision, a.recall, a.support), (Some(0.5), Some(1.0), 1));
        assert_eq!((b.precision, b.recall, b.support), (Some(1.0), Some(0.5), 2));
        assert_eq!((c.precision, c.f1, c.average_precision, c.support), (None, None, None, 0));
        assert_eq!(evaluation.without_samples(), ["c"]);
        assert_eq!((evaluation.worst_mistakes(9), evaluation.mean_loss), (vec![2, 1], 1.0));
    }

    #[test]
    fn what_does_not_fit_the_classes_is_refused() {
        let names = vec!["a".to_owned()];
        assert_eq!(SetEvaluation::new(names.clone(), vec![0.5], vec![]), Err(MetricsError::Empty));
        for (targets, logits) in [(&[1][..], &[0.0][..]), (&[], &[0.0, 1.0]), (&[], &[])] {
            let predictions = vec![SetPrediction::new(0, targets, logits, 1.0)];
            let error = SetEvaluation::new(names.clone(), vec![0.5], predictions).unwrap_err();
            assert!(matches!(error, MetricsError::ClassOutOfRange { .. }), "{error}");
        }
    }

    #[test]
    fn the_loss_of_logits_is_the_cross_entropy_and_stays_finite() {
        // -ln(3/4) and -ln(1/2), halved.
        let prediction = SetPrediction::new(7, &[0], &[3f32.ln(), 0.0], 1.0);
        let expected = f64::midpoint((4.0f64 / 3.0).ln(), 2f64.ln());
        assert!((f64::from(prediction.loss) - expected).abs() < 1e-6, "{}", prediction.loss);
        assert!((prediction.probabilities[0] - 0.75).abs() < 1e-6);
        let sure = SetPrediction::new(0, &[0], &[1e4, -1e4], 1.0);
        assert_eq!((sure.loss, sure.labels(&[0.5, 0.5])), (0.0, vec![0]));
        assert!((SetPrediction::new(0, &[1], &[1e4, -1e4], 1.0).loss - 1e4).abs() < 1.0);
    }

    #[test]
    fn a_threshold_lies_where_f1_is_best() {
        // Ten of the class from `own` on, ten others.
        let found = |own: [f32; 10], others: [f32; 10]| {
            let targets: Vec<bool> = (0..20).map(|at| at < 10).collect();
            best_threshold(&[own, others].concat(), &targets)
        };
        let apart = found([0.3; 10], [0.1; 10]);
        assert!((apart - 0.2).abs() < 1e-6, "{apart}");
        // One of the class lies below all others: finding it costs ten false labels.
        let one_lost = found([0.9, 0.8, 0.8, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.01], [0.3; 10]);
        assert!((one_lost - 0.5).abs() < 1e-6, "{one_lost}");
        // All are alike: the most labels that are found is all of them.
        let alike = found([0.4; 10], [0.4; 10]);
        assert!((alike - 0.2).abs() < 1e-6, "{alike}");
        // Too few of the class, or of others.
        for few in [9, 11] {
            let targets: Vec<bool> = (0..20).map(|at| at < few).collect();
            let found = best_threshold(&[[0.3; 10], [0.1; 10]].concat(), &targets);
            assert!((found - DEFAULT_THRESHOLD).abs() < 1e-9, "{few}");
        }
    }

    #[test]
    fn temperature_and_thresholds_are_fitted_together() {
        // Certain answers of which a quarter is wrong: the logits say too much.
        let rows: Vec<[f32; 2]> =
            (0..80).map(|at| if at % 2 == 0 { [8.0, -8.0] } else { [-8.0, 8.0] }).collect();
        let logits: Vec<&[f32]> = rows.iter().map(|row| &row[..]).collect();
        let labels =
            Labels::Sets((0..80u32).map(|at| vec![if at % 8 < 2 { 1 - at % 2 } else { at % 2 }]).collect());
        let (temperature, thresholds) = fit(&logits, &labels);
        // At 8 / ln 3 the probability is the share of right answers.
        assert!((temperature - 8.0 / 3f32.ln()).abs() < 0.5, "{temperature}");
        assert!(thresholds.iter().all(|threshold| (threshold - 0.5).abs() < 1e-3), "{thresholds:?}");
        assert_eq!(fit(&[], &Labels::Sets(vec![])), (1.0, vec![]));
        let flat: Vec<f32> = rows.concat();
        assert!(mean_average_precision(&flat, 2, &labels).unwrap() > 0.6);
    }
}

//! What is fitted after training so that answers can be trusted or refused: the temperature and the
//! novelty, and what they are worth on the test split.

use burn::tensor::Device;
use data::Dataset;
use model::{
    ClassifyError, Confidence, Labelled, Network, Novelty, Preprocessing, Scores, argmax, calibration_error,
    fit_temperature,
};
use serde::{Deserialize, Serialize};

/// Training images that the novelty is fitted to: far more than its parameters ask for.
const MOST_IMAGES: usize = 10_000;

/// Images that go through the network at once.
const CHUNK: usize = 2_048;

/// What calibration did, for `run.json` and the report.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Logits are divided by it.
    pub temperature: f64,
    /// Expected calibration error on the validation split, which the temperature was fitted to.
    pub valid_error_before: f64,
    /// The same with the temperature.
    pub valid_error: f64,
    /// Expected calibration error on the test split without the temperature.
    pub test_error_before: f64,
    /// The same with the temperature.
    pub test_error: f64,
    /// Share of the test images that the default novelty threshold keeps, where there is a novelty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_kept: Option<f64>,
}

/// Images of a data set with what the network says about them.
pub struct Scored {
    /// One for each image.
    pub scores: Vec<Scores>,
    /// Their classes.
    pub labels: Vec<u32>,
}

impl Scored {
    /// Lets the network see the images `indices` of one class each; it must be on `device`, without autodiff.
    ///
    /// # Errors
    /// When the device could not be read.
    pub fn of(
        network: &Network,
        preprocessing: &Preprocessing,
        dataset: &Dataset,
        indices: &[u32],
        device: &Device,
    ) -> Result<Self, ClassifyError> {
        let scores = Self::scores_of(network, preprocessing, dataset, indices, device)?;
        let labels = indices.iter().map(|index| dataset.labels[*index as usize]).collect();
        Ok(Self { scores, labels })
    }

    /// What the network says about the images `indices`, whatever their labels.
    ///
    /// # Errors
    /// When the device could not be read.
    pub fn scores_of(
        network: &Network,
        preprocessing: &Preprocessing,
        dataset: &Dataset,
        indices: &[u32],
        device: &Device,
    ) -> Result<Vec<Scores>, ClassifyError> {
        let mut scores = Vec::with_capacity(indices.len());
        for chunk in indices.chunks(CHUNK) {
            let mut pixels = Vec::with_capacity(chunk.len() * dataset.image_len());
            for index in chunk {
                pixels.extend_from_slice(dataset.image(*index as usize));
            }
            scores.extend(model::scores(network, preprocessing, &pixels, device)?);
        }
        Ok(scores)
    }

    /// Borrowed.
    pub fn labelled(&self) -> Labelled<'_> {
        Labelled { scores: &self.scores, labels: &self.labels }
    }

    /// The probability of each answer at a temperature, and whether it is right.
    pub fn answers(&self, temperature: f32) -> Vec<(f32, bool)> {
        self.scores
            .iter()
            .zip(&self.labels)
            .map(|(scores, &label)| {
                let probabilities = model::softmax(&scores.logits, temperature);
                let class = argmax(&scores.logits);
                (probabilities[class], class == label as usize)
            })
            .collect()
    }
}

/// Fits the confidence of a trained network: classes on training images, everything else on the
/// validation split.
///
/// # Errors
/// When the device could not be read.
pub fn fit_confidence(
    network: &Network,
    preprocessing: &Preprocessing,
    training: &Dataset,
    train: &[u32],
    valid: &Scored,
    device: &Device,
) -> Result<Confidence, ClassifyError> {
    // Evenly spread over the split, which is in the order of the data set.
    let step = train.len().div_ceil(MOST_IMAGES).max(1);
    let some: Vec<u32> = train.iter().copied().step_by(step).collect();
    let train = Scored::of(network, preprocessing, training, &some, device)?;
    let novelty = Novelty::fit(train.labelled(), &valid.scores);
    if novelty.is_none() {
        tracing::warn!(
            "too few images to set the threshold for out-of-distribution images: the model will reject none for being one"
        );
    }
    let temperature = fit_temperature(valid.labelled());
    if temperature == 1.0 {
        let mistakes = model::mistakes(valid.labelled());
        tracing::info!(
            "{mistakes} mistakes in {} validation images cannot say how sure answers may be: probabilities are the \
             network's own",
            valid.labels.len()
        );
    }
    Ok(Confidence { temperature, novelty })
}

impl Calibration {
    /// Measures a fitted confidence.
    pub fn measure(confidence: &Confidence, valid: &Scored, test: &Scored) -> Self {
        let temperature = confidence.temperature;
        let error = |scored: &Scored, temperature| calibration_error(scored.answers(temperature).into_iter());
        let kept = |novelty: &Novelty| {
            let kept = test.scores.iter().filter(|scores| novelty.of(scores) <= 1.0).count();
            kept as f64 / test.scores.len().max(1) as f64
        };
        Self {
            temperature: temperature.into(),
            valid_error_before: error(valid, 1.0),
            valid_error: error(valid, temperature),
            test_error_before: error(test, 1.0),
            test_error: error(test, temperature),
            test_kept: confidence.novelty.as_ref().map(kept),
        }
    }
}

/// What is gained by answering only above a probability.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CoveragePoint {
    /// Answers below it are refused.
    pub threshold: f32,
    /// Share of the images that are answered.
    pub coverage: f64,
    /// Share of wrong answers among them.
    pub error: f64,
}

/// Coverage against error (El-Yaniv & Wiener 2010, "On the foundations of noise-free selective
/// classification", section 2) from all answers down to the surest, one point for each distinct
/// probability; none for no answers.
pub fn coverage(answers: &[(f32, bool)]) -> Vec<CoveragePoint> {
    let mut sorted = answers.to_vec();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut points, mut wrong) = (Vec::new(), 0usize);
    for (index, &(threshold, right)) in sorted.iter().enumerate() {
        wrong += usize::from(!right);
        if sorted.get(index + 1).is_none_or(|next| next.0 < threshold) {
            let answered = index + 1;
            points.push(CoveragePoint {
                threshold,
                coverage: answered as f64 / sorted.len() as f64,
                error: wrong as f64 / answered as f64,
            });
        }
    }
    points.reverse();
    points
}

/// The points of a curve nearest to round coverages, for a table; each once.
pub fn round_points(curve: &[CoveragePoint]) -> Vec<CoveragePoint> {
    let mut points: Vec<CoveragePoint> = Vec::new();
    for coverage in [1.0, 0.995, 0.99, 0.98, 0.95, 0.9, 0.8, 0.5] {
        let nearest = curve
            .iter()
            .min_by(|a, b| (a.coverage - coverage).abs().total_cmp(&(b.coverage - coverage).abs()));
        points.extend(nearest.filter(|point| points.last() != Some(point)));
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coverage_by_hand() {
        let answers = [(0.9, true), (0.6, false), (0.8, true), (0.8, false)];
        let points = coverage(&answers);
        let figures: Vec<_> = points.iter().map(|p| (p.threshold, p.coverage, p.error)).collect();
        assert_eq!(figures, [(0.6, 1.0, 0.5), (0.8, 0.75, 1.0 / 3.0), (0.9, 0.25, 0.0)]);
        assert!(coverage(&[]).is_empty());
        // One half lies in the middle between 0.25 and 0.75: the wider coverage stands for it.
        let round: Vec<_> = round_points(&points).iter().map(|point| point.coverage).collect();
        assert_eq!(round, [1.0, 0.75]);
        assert!(round_points(&[]).is_empty());
    }
}

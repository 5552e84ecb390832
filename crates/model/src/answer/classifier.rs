//! From pictures to answers: the one way that the command line, the server and the browser share.
//!
//! Longer than other files for its tests.

use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use serde::Serialize;

use crate::{
    Confidence, Fit, InputShape, Metadata, Model, Network, Picture, PictureError, Preprocessing, Scores,
    Task, input::digit,
};

/// Images that go through the network at once. More would cost memory and gain no speed.
const BATCH: usize = 256;

/// A loaded model with all that stands between a picture and an answer: preprocessing, network,
/// probabilities, and whether the answer is to be believed.
///
/// # Examples
/// A model comes out of a file (`model.kiln` of a run), whatever its network:
///
/// ```
/// use burn::tensor::Device;
/// use model::{Classifier, Picture, Policy, decode};
///
/// let model = decode(&std::fs::read("../../artifacts/reference/model.kiln")?, &Device::flex())?;
/// let classifier = Classifier::new(model, Device::flex());
/// let blank = Picture::new(28, 28, 1, vec![0; 28 * 28])?;
/// let answers = classifier.classify(&[blank], &Policy::default())?;
/// assert!(answers[0].rejected && answers[0].top.len() == 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Classifier {
    model: Model,
    device: Device,
}

/// What the caller may choose about an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// How many classes to name, the answer included. At least one is named.
    pub top: usize,
    /// An answer with a smaller probability is rejected.
    pub reject_below: f32,
    /// Images less like the training images than this share of the validation images are rejected as out-of-distribution; 1
    /// rejects none for that.
    /// Without effect on a model that was not given a [`crate::Novelty`].
    pub keep: f32,
}

impl Default for Policy {
    /// The answer and the next two classes; what is less like the training images than 99 of 100
    /// validation images is rejected.
    fn default() -> Self {
        Self { top: 3, reject_below: 0.0, keep: crate::confidence::DEFAULT_KEEP }
    }
}

/// The answer for one picture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// The most probable class; of a multi-label model all classes that are on the picture, in the model's order, with
    /// `;` between them.
    pub label: String,
    /// Its probability; of a multi-label model that of this very set, as if the classes were independent.
    pub probability: f32,
    /// The classes that are on the picture, the most probable one first; only of a multi-label model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<ClassProbability>>,
    /// The most probable classes, the answer first.
    pub top: Vec<ClassProbability>,
    /// Whether the answer is not to be believed, see [`Policy`].
    pub rejected: bool,
    /// Why it is not; none where it is.
    pub reason: Option<Reason>,
}

/// Why an answer is not to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The picture holds more than one digit: [`Classifier::read`] reads them.
    SeveralDigits,
    /// Nothing is on the picture.
    Blank,
    /// The picture is unlike the training images, see [`Policy::keep`].
    OutOfDistribution,
    /// The probability is below [`Policy::reject_below`].
    Unsure,
    /// Of several digits that were read, one was rejected, or none was found.
    Unread,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::SeveralDigits => "several digits: use --digits",
            Self::Blank => "nothing on it",
            Self::OutOfDistribution => "unlike the training images",
            Self::Unsure => "unsure",
            Self::Unread => "not all read",
        })
    }
}

impl Prediction {
    /// The answer for a picture of which is known whether it holds several digits, see [`Prepared::several`].
    #[must_use]
    pub fn of_several(self, several: bool) -> Self {
        if several { Self { rejected: true, reason: Some(Reason::SeveralDigits), ..self } } else { self }
    }
}

/// A picture ready for the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// `[C, H, W]`
    pub image: Vec<u8>,
    /// Whether the picture holds more than one digit, as far as a classifier of digits can tell: it has one answer for
    /// them, which [`Prediction::of_several`] rejects.
    pub several: bool,
}

/// A class and its probability.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassProbability {
    /// Name of the class.
    pub label: String,
    /// Between 0 and 1.
    pub probability: f32,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ClassifyError {
    /// A picture that cannot be made to fit.
    #[error("picture {index}: {source}")]
    Picture {
        /// Position among the pictures, from 0.
        index: usize,
        /// What is wrong with it.
        source: PictureError,
    },
    /// A picture that is no text of digits.
    #[error(
        "the picture holds {found} marks; expected at most {limit} in a text of digits for a network whose images are \
         {input}; cut it to its text"
    )]
    TooManyMarks {
        /// Marks found.
        found: usize,
        /// The limit: the images of all may take 16 MiB.
        limit: usize,
        /// Size of the network's images.
        input: InputShape,
    },
    /// A model that cannot be asked this.
    #[error("a multi-label model says which classes are on a picture: it does not {0}")]
    MultiLabel(&'static str),
    /// The device could not be read.
    #[error("the device did not give its result: {0}")]
    Device(String),
}

impl Classifier {
    /// A model on the device that it was decoded to. An autodiff device is stripped to what lies
    /// below: an answer needs no gradients. The network is folded, see [`Network::folded`].
    pub fn new(model: Model, device: Device) -> Self {
        let device = device.inner();
        let Model { network, metadata } = model;
        let network =
            if network.devices().iter().any(Device::is_autodiff) { network.valid() } else { network };
        Self { model: Model { network: network.folded(), metadata }, device }
    }

    /// What the model file says about itself.
    pub fn metadata(&self) -> &Metadata {
        &self.model.metadata
    }

    /// The network as it answers: folded, without autodiff.
    pub fn network(&self) -> &Network {
        &self.model.network
    }

    /// Where the network is.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Size of the network's images.
    pub fn input(&self) -> InputShape {
        self.metadata().preprocessing.input
    }

    /// A picture of any size as one image `[C, H, W]` for [`Self::scores`].
    ///
    /// # Errors
    /// A picture that cannot be fitted.
    pub fn prepare(&self, picture: &Picture) -> Result<Vec<u8>, PictureError> {
        self.metadata().preprocessing.prepare(picture)
    }

    /// Whether the model tells digits apart, on images in which it looks for ink: only then has [`Self::read`] a meaning.
    pub fn reads_digits(&self) -> bool {
        let metadata = self.metadata();
        let is_digit = |class: &String| matches!(class.as_bytes(), [b'0'..=b'9']);
        metadata.preprocessing.fit == Fit::Digit
            && metadata.task.is_classify()
            && matches!(metadata.preprocessing.input.channels, 1 | 3)
            && metadata.classes.iter().all(is_digit)
    }

    /// [`Self::prepare`], and whether the picture holds several digits. A picture that has the geometry of MNIST
    /// already, and one for a model that tells other things than digits apart, is not asked.
    ///
    /// # Errors
    /// A picture that cannot be fitted, or a device that could not be read.
    pub fn examine(&self, picture: &Picture) -> Result<Prepared, ClassifyError> {
        let preprocessing = &self.metadata().preprocessing;
        if !self.reads_digits() {
            let image =
                self.prepare(picture).map_err(|source| ClassifyError::Picture { index: 0, source })?;
            return Ok(Prepared { image, several: false });
        }
        let (image, ink) = digit::searched(picture, preprocessing.input);
        let several = match ink {
            Some(ink) => self.is_several(ink)?,
            None => false,
        };
        Ok(Prepared { image: image.planes(), several })
    }

    /// The scores of prepared images `[N, C, H, W]`, one after the other. On Flex and `NdArray` the
    /// scores of an image are the same bits whatever images it shares a batch with.
    ///
    /// # Errors
    /// When the device could not be read.
    ///
    /// # Panics
    /// A length that is no multiple of an image.
    pub fn scores(&self, images: &[u8]) -> Result<Vec<Scores>, ClassifyError> {
        scores(self.network(), &self.metadata().preprocessing, images, &self.device)
    }

    /// The probability of every class `[K]`: the softmax of the logits divided by the model's temperature, or the sigmoid
    /// of each for a multi-label model, computed in `f64`.
    pub fn probabilities(&self, scores: &Scores) -> Vec<f32> {
        self.metadata().task.probabilities(&scores.logits, self.metadata().temperature())
    }

    /// How far the image is out of distribution: 0 is ordinary, and above 1 lies one of 100 validation images. `None` for a
    /// model that was not given a [`crate::Novelty`].
    pub fn novelty(&self, scores: &Scores) -> Option<f32> {
        Some(self.metadata().confidence.as_ref()?.novelty.as_ref()?.of(scores))
    }

    /// Why an answer of this probability is refused, if it is.
    fn reason(&self, scores: &Scores, probability: f32, policy: &Policy) -> Option<Reason> {
        let Metadata { confidence, preprocessing, .. } = self.metadata();
        if preprocessing.fit == Fit::Digit && scores.blank {
            Some(Reason::Blank)
        } else if is_out_of_distribution(confidence.as_ref(), preprocessing.fit, scores, policy.keep) {
            Some(Reason::OutOfDistribution)
        } else {
            (probability < policy.reject_below).then_some(Reason::Unsure)
        }
    }

    /// What the scores of an image mean.
    pub fn prediction(&self, scores: &Scores, policy: &Policy) -> Prediction {
        let probabilities = self.probabilities(scores);
        let mut order: Vec<usize> = (0..probabilities.len()).collect();
        // Stable: of equal classes the first comes first.
        order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
        let top: Vec<ClassProbability> = order
            .into_iter()
            .take(policy.top.max(1))
            .map(|class| ClassProbability {
                label: self.metadata().classes[class].clone(),
                probability: probabilities[class],
            })
            .collect();
        let (label, probability, labels) = match &self.metadata().task {
            Task::Classify => (top[0].label.clone(), top[0].probability, None),
            Task::MultiLabel { thresholds } => self.labels(&probabilities, thresholds),
        };
        let reason = self.reason(scores, probability, policy);
        Prediction { label, probability, labels, top, rejected: reason.is_some(), reason }
    }

    /// The classes with probabilities of at least their thresholds: their names in one text, the probability that it is
    /// these and no others, as if they were independent, and each of them, the most probable one first.
    fn labels(
        &self,
        probabilities: &[f32],
        thresholds: &[f32],
    ) -> (String, f32, Option<Vec<ClassProbability>>) {
        let classes = self.metadata().classes.iter();
        let (mut names, mut labels, mut whole) = (Vec::new(), Vec::new(), 1.0);
        for ((name, &probability), &threshold) in classes.zip(probabilities).zip(thresholds) {
            if probability >= threshold {
                whole *= f64::from(probability);
                names.push(name.as_str());
                labels.push(ClassProbability { label: name.clone(), probability });
            } else {
                whole *= 1.0 - f64::from(probability);
            }
        }
        labels.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        (names.join(";"), whole as f32, Some(labels))
    }

    /// The answers for pictures of any size, in their order.
    ///
    /// # Errors
    /// The first picture that cannot be fitted, or a device that could not be read.
    pub fn classify(&self, pictures: &[Picture], policy: &Policy) -> Result<Vec<Prediction>, ClassifyError> {
        let mut images = Vec::with_capacity(pictures.len() * self.input().len());
        let mut several = Vec::with_capacity(pictures.len());
        for (index, picture) in pictures.iter().enumerate() {
            let prepared = self.examine(picture).map_err(|error| match error {
                ClassifyError::Picture { source, .. } => ClassifyError::Picture { index, source },
                other => other,
            })?;
            images.extend_from_slice(&prepared.image);
            several.push(prepared.several);
        }
        let answers = self.scores(&images)?.into_iter().zip(several);
        Ok(answers.map(|(scores, several)| self.prediction(&scores, policy).of_several(several)).collect())
    }
}

/// What `network` says about prepared images `[N, C, H, W]`, see [`Classifier::scores`]; it must be on
/// `device`, without autodiff.
///
/// # Errors
/// When the device could not be read.
///
/// # Panics
/// A length that is no multiple of an image.
pub fn scores(
    network: &Network,
    preprocessing: &Preprocessing,
    images: &[u8],
    device: &Device,
) -> Result<Vec<Scores>, ClassifyError> {
    let len = preprocessing.input.len();
    assert_eq!(images.len() % len, 0, "whole images of {}", preprocessing.input);
    let mut scores = Vec::with_capacity(images.len() / len);
    for images in images.chunks(BATCH * len) {
        let batch = preprocessing.batch(images, images.len() / len, device);
        let (features, signatures) = network.features(batch); // [n, F], [n, S]
        let logits = rows(network.classify_features(features))?; // [n, K]
        let signatures = rows(signatures)?;
        let images = images.chunks_exact(len);
        scores.extend(
            logits.into_iter().zip(signatures).zip(images).map(|((logits, signature), image)| Scores {
                logits,
                signature,
                blank: is_blank(image),
            }),
        );
    }
    Ok(scores)
}

/// Whether the image is refused whatever the network says: nothing is on it, or it is out of distribution, see
/// [`Policy::keep`]. `fit` is how pictures become images.
pub fn is_out_of_distribution(confidence: Option<&Confidence>, fit: Fit, scores: &Scores, keep: f32) -> bool {
    let novelty = confidence.and_then(|known| known.novelty.as_ref());
    fit == Fit::Digit && scores.blank
        || keep < 1.0 && novelty.is_some_and(|novelty| novelty.of(scores) > novelty.threshold(keep))
}

/// Whether there is nothing to see: one value in every pixel.
pub(crate) fn is_blank(image: &[u8]) -> bool {
    image.iter().all(|&value| value == image[0])
}

/// The row of `[1, D]`.
pub(crate) fn row(tensor: Tensor<2>) -> Result<Vec<f32>, ClassifyError> {
    Ok(rows(tensor)?.swap_remove(0))
}

/// The rows of `[N, D]`.
fn rows(tensor: Tensor<2>) -> Result<Vec<Vec<f32>>, ClassifyError> {
    let [_, columns] = tensor.dims();
    let data = tensor.try_into_data().map_err(|error| ClassifyError::Device(error.to_string()))?;
    let values: Vec<f32> = data.iter::<f32>().collect();
    Ok(values.chunks_exact(columns).map(<[f32]>::to_vec).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{CnnConfig, Description, NetworkConfig, Preprocessing, decode, encode};

    fn classifier(device: &Device) -> Classifier {
        classifier_for(crate::Task::default(), device)
    }

    fn classifier_for(task: Task, device: &Device) -> Classifier {
        let network = NetworkConfig::Cnn(CnnConfig { dense: vec![16], ..CnnConfig::default() });
        let description = Description {
            network: network.clone(),
            preprocessing: Preprocessing::mnist(),
            classes: (0..10).map(|digit| digit.to_string()).collect(),
            task,
            provenance: BTreeMap::new(),
            confidence: None,
            seen: None,
        };
        let built = network.init(description.preprocessing.input, 10, 3, &Device::flex()).unwrap();
        let model = decode(&encode(&built, description).unwrap(), device).unwrap();
        Classifier::new(model, device.clone())
    }

    /// All classes over their thresholds, however many; none as well.
    #[test]
    fn a_multi_label_model_says_every_class_over_its_threshold() {
        let device = Device::flex();
        let answer = |thresholds: Vec<f32>| {
            let classifier = classifier_for(Task::MultiLabel { thresholds }, &device);
            let picture = &pictures(1)[0];
            let scores = classifier.scores(&classifier.prepare(picture).unwrap()).unwrap();
            let probabilities = classifier.probabilities(&scores[0]);
            for (probability, &logit) in probabilities.iter().zip(&scores[0].logits) {
                assert!((probability - crate::sigmoid(logit, 1.0)).abs() < 1e-6);
            }
            let read = classifier.read(picture, &Policy::default()).unwrap_err();
            assert!(matches!(read, ClassifyError::MultiLabel(_)), "{read}");
            (probabilities, classifier.prediction(&scores[0], &Policy { top: 2, ..Policy::default() }))
        };
        let (probabilities, none) = answer(vec![1.0; 10]);
        let against: f64 = probabilities.iter().map(|&probability| 1.0 - f64::from(probability)).product();
        assert_eq!((none.label.as_str(), none.labels), ("", Some(vec![])));
        assert!((f64::from(none.probability) - against).abs() < 1e-6);
        // Just as large as its probability is large enough.
        let mut thresholds = vec![1.0; 10];
        (thresholds[7], thresholds[2]) = (probabilities[7], probabilities[2] - 1e-3);
        let (_, two) = answer(thresholds);
        assert_eq!((two.label.as_str(), two.top.len()), ("2;7", 2));
        let labels = two.labels.unwrap();
        assert_eq!(labels.len(), 2);
        assert!(labels[0].probability >= labels[1].probability);
    }

    fn pictures(n: usize) -> Vec<Picture> {
        let picture = |i: usize| {
            // Every second one of another size, in colour.
            let (width, height, channels) = if i.is_multiple_of(2) { (28, 28, 1) } else { (40 + i, 31, 3) };
            let pixels = (0..width * height * channels).map(|at| ((at * (i + 7) * 31) >> 3) as u8);
            Picture::new(width, height, channels, pixels.collect()).unwrap()
        };
        (0..n).map(picture).collect()
    }

    #[test]
    fn an_answer_does_not_depend_on_its_batch() {
        let classifier = classifier(&Device::flex());
        // More than one batch of the network, so that the last one is smaller.
        let pictures = pictures(BATCH + 37);
        let images: Vec<u8> = pictures.iter().flat_map(|p| classifier.prepare(p).unwrap()).collect();
        let together = classifier.scores(&images).unwrap();
        assert_eq!(together.len(), pictures.len());
        let bits = |scores: &Scores| scores.logits.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        for (index, image) in images.chunks(classifier.input().len()).enumerate() {
            let alone = classifier.scores(image).unwrap();
            assert_eq!(bits(&alone[0]), bits(&together[index]), "image {index}");
        }
        for size in [2, 3, 7, 16, 64] {
            let some = classifier.scores(&images[..size * classifier.input().len()]).unwrap();
            for (index, scores) in some.iter().enumerate() {
                assert_eq!(bits(scores), bits(&together[index]), "image {index} of {size}");
            }
        }
    }

    #[test]
    fn the_most_probable_classes_come_first() {
        let classifier = classifier(&Device::flex());
        let mut logits = vec![0.0; 10];
        (logits[4], logits[7], logits[2]) = (3.0, 2.0, 3.0);
        let scores = Scores { logits, signature: vec![], blank: false };
        let prediction = classifier.prediction(&scores, &Policy::default());
        let labels: Vec<&str> = prediction.top.iter().map(|class| class.label.as_str()).collect();
        assert_eq!(labels, ["2", "4", "7"]);
        // e^3 / (2 e^3 + e^2 + 7)
        let expected = 3f32.exp() / (2.0 * 3f32.exp() + 2f32.exp() + 7.0);
        assert!((prediction.probability - expected).abs() < 1e-6, "{}", prediction.probability);
        assert_eq!(prediction.top[0].probability.to_bits(), prediction.probability.to_bits());
        assert!(!prediction.rejected);

        let strict = Policy { top: 0, reject_below: 0.5, ..Policy::default() };
        let prediction = classifier.prediction(&scores, &strict);
        assert_eq!((prediction.top.len(), prediction.rejected), (1, true));
        let all = classifier.prediction(&scores, &Policy { top: 99, ..strict }).top;
        assert_eq!(all.len(), 10);
        assert!((all.iter().map(|class| class.probability).sum::<f32>() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn pictures_of_any_size_are_answered_in_order() {
        let classifier = classifier(&Device::flex());
        let pictures = pictures(6);
        let together = classifier.classify(&pictures, &Policy::default()).unwrap();
        for (picture, prediction) in pictures.iter().zip(&together) {
            let alone = classifier.classify(std::slice::from_ref(picture), &Policy::default()).unwrap();
            assert_eq!(alone[0], *prediction);
        }
        assert_eq!(classifier.classify(&[], &Policy::default()).unwrap(), []);
    }

    #[test]
    fn a_model_on_an_autodiff_device_answers_the_same() {
        let pictures = pictures(3);
        let plain = classifier(&Device::flex()).classify(&pictures, &Policy::default()).unwrap();
        let stripped = classifier(&Device::flex().autodiff());
        assert!(!stripped.device().is_autodiff());
        assert_eq!(stripped.classify(&pictures, &Policy::default()).unwrap(), plain);
    }
}

//! One model, the picture before it, and what it has been taught.

use std::collections::BTreeMap;

use burn::tensor::Device;
use model::{
    Classifier, ClassifyError, Description, Head, InputShape, Lesson, Metadata, Model, ModelFileError,
    Picture, PictureError, Policy, Prediction, Prepared, Reason, TeachError, Teaching, jpeg,
};
use serde_json::{Value, json};

/// Most pixels of a picture: those of a large photo, 64 MB as RGBA.
pub const MAX_PIXELS: usize = 1 << 24;

/// Most lessons. Learning takes time by the square of their number.
pub const MAX_LESSONS: usize = 500;

/// Why the page does not get what it asked for.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The model file is refused.
    #[error(transparent)]
    ModelFile(#[from] ModelFileError),
    /// The picture cannot be used.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// The file of the picture is not whole.
    #[error("a damaged JPEG file: {0}")]
    Jpeg(#[from] jpeg::JpegError),
    /// There is no answer.
    #[error(transparent)]
    Classify(#[from] ClassifyError),
    /// The lesson does not fit.
    #[error(transparent)]
    Teach(#[from] TeachError),
    /// More pixels than a page can hold.
    #[error("the picture is {width}x{height}; expected at most {MAX_PIXELS} pixels; make it smaller")]
    TooLarge {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
    },
    /// Teaching without an example.
    #[error("there is no picture to teach; draw one or open one first")]
    NothingShown,
    /// Too much to learn.
    #[error("{MAX_LESSONS} lessons are the most; take some back, or train on the examples instead")]
    TooManyLessons,
    /// A last layer of another form.
    #[error("the last layer of this network cannot be taught: it is no dense layer with a bias")]
    NoHead,
}

/// What the page shows about one picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The image that the network got, `[C, H, W]`.
    pub image: Vec<u8>,
    /// Probability of every class, `[K]`.
    pub probabilities: Vec<f32>,
    /// Of a multi-label model: for each class whether it is on the picture, `[K]`; empty of others.
    pub labels: Vec<u8>,
    /// Whether the answer is not to be believed.
    pub rejected: bool,
    /// Why it is not; none where it is.
    pub reason: Option<Reason>,
    /// Where the network looked for the most probable class, `[H, W]`, from 0 up; zeros for a network
    /// without convolutions.
    pub attention: Vec<f32>,
}

/// One model, the picture before it, and what it has been taught.
#[derive(Debug)]
pub struct Session {
    /// As it would be saved: with the lessons.
    model: Model,
    /// That model, as it answers.
    classifier: Classifier,
    /// The last layer as the file has it.
    head: Option<Head>,
    lessons: Vec<Lesson>,
    /// The last picture as the network got it, `[C, H, W]`.
    shown: Option<Vec<u8>>,
}

impl Session {
    /// Opens a model file; its probe is computed here as everywhere.
    ///
    /// # Errors
    /// Anything that is not a model file, or does not compute what it computed when it was saved.
    pub fn open(bytes: &[u8]) -> Result<Self, SessionError> {
        let device = Device::flex();
        let model = model::decode(bytes, &device)?;
        let head = Head::of(&model.network);
        let classifier = Classifier::new(model.clone(), device);
        Ok(Self { model, classifier, head, lessons: vec![], shown: None })
    }

    /// What the model file says about itself.
    pub fn metadata(&self) -> &Metadata {
        self.classifier.metadata()
    }

    /// Size of the network's images.
    pub fn input(&self) -> InputShape {
        self.classifier.input()
    }

    /// Number of lessons.
    pub fn lessons(&self) -> usize {
        self.lessons.len()
    }

    /// The answer for a picture of interleaved RGBA samples, as a canvas holds them. What is transparent
    /// becomes white paper, or black where the ink is light ([`Picture::from_transparent`]).
    ///
    /// # Errors
    /// A picture that is too large, whose length does not match, or that cannot be fitted.
    pub fn answer(&mut self, rgba: &[u8], width: usize, height: usize) -> Result<Answer, SessionError> {
        self.shown = None;
        if width.saturating_mul(height) > MAX_PIXELS {
            return Err(SessionError::TooLarge { width, height });
        }
        let picture = from_rgba(rgba, width, height)?;
        let Prepared { image, several } = self.classifier.examine(&picture).map_err(|error| match error {
            ClassifyError::Picture { source, .. } => source.into(),
            other => SessionError::from(other),
        })?;
        let (scores, map) = self.classifier.attend(&image)?;
        let probabilities = self.classifier.probabilities(&scores);
        let thresholds = self.metadata().task.thresholds().unwrap_or_default();
        let labels =
            probabilities.iter().zip(thresholds).map(|(own, least)| u8::from(own >= least)).collect();
        let Prediction { rejected, reason, .. } =
            self.classifier.prediction(&scores, &Policy::default()).of_several(several);
        let InputShape { height, width, .. } = self.input();
        let attention =
            map.map_or_else(|| vec![0.0; height * width], |map| map.resized(width, height).values);
        self.shown = Some(image.clone());
        Ok(Answer { image, probabilities, labels, rejected, reason, attention })
    }

    /// The last picture belongs to `class`: the last layer learns it together with all lessons before.
    ///
    /// # Errors
    /// No picture, no such class, or too many lessons.
    pub fn teach(&mut self, class: usize) -> Result<(), SessionError> {
        if self.lessons.len() == MAX_LESSONS {
            return Err(SessionError::TooManyLessons);
        }
        let image = self.shown.as_ref().ok_or(SessionError::NothingShown)?;
        let batch = self.metadata().preprocessing.batch(image, 1, self.classifier.device());
        let (features, _) = self.classifier.network().features(batch); // [1, F]
        let data = features.try_into_data().map_err(|error| ClassifyError::Device(error.to_string()))?;
        let features = data.iter::<f32>().collect();
        self.lessons.push(Lesson { features, class });
        let learned = self.learn();
        if learned.is_err() {
            self.lessons.pop();
        }
        learned
    }

    /// Takes the last lesson back.
    ///
    /// # Errors
    /// As [`Self::teach`].
    pub fn untaught(&mut self) -> Result<(), SessionError> {
        self.lessons.pop();
        self.learn()
    }

    /// The model with its lessons as the bytes of a model file.
    ///
    /// # Errors
    /// Weights that are not finite.
    pub fn save(&self) -> Result<Vec<u8>, SessionError> {
        let Metadata {
            network,
            preprocessing,
            classes,
            task,
            provenance,
            weights_sha256,
            confidence,
            seen,
            ..
        } = self.metadata().clone();
        let provenance = if self.lessons.is_empty() {
            provenance
        } else {
            self.taught_provenance(provenance, &weights_sha256)
        };
        let description = Description { network, preprocessing, classes, task, provenance, confidence, seen };
        Ok(model::encode(&self.model.network, description)?)
    }

    /// The last layer from its beginning with all lessons.
    fn learn(&mut self) -> Result<(), SessionError> {
        if !self.metadata().task.is_classify() {
            return Err(ClassifyError::MultiLabel("learn from single classes").into());
        }
        let head = self.head.as_ref().ok_or(SessionError::NoHead)?;
        let taught = head.taught(&self.lessons, &Teaching::default())?;
        self.model.network = taught.put_on(self.model.network.clone()).map_err(ModelFileError::Record)?;
        self.classifier = Classifier::new(self.model.clone(), self.classifier.device().clone());
        Ok(())
    }

    /// Where a taught model comes from. The figures of the file it was made from are not its own.
    fn taught_provenance(
        &self,
        mut origin: BTreeMap<String, Value>,
        sha256: &str,
    ) -> BTreeMap<String, Value> {
        for figure in ["test_accuracy", "test_loss", "test_macro_f1", "valid_accuracy", "valid_loss"] {
            origin.remove(figure);
        }
        let classes = &self.metadata().classes;
        let mut counts = BTreeMap::<&str, u64>::new();
        for lesson in &self.lessons {
            *counts.entry(&classes[lesson.class]).or_default() += 1;
        }
        origin.insert("taught".into(), json!({ "from_weights_sha256": sha256, "lessons": counts }));
        origin
    }
}

/// Refuses the file of a picture that a browser would show although it ends early: browsers check other formats than
/// JPEG themselves.
///
/// # Errors
/// What is missing, or too many pixels.
pub fn check_picture(bytes: &[u8]) -> Result<(), SessionError> {
    if !jpeg::is_jpeg(bytes) {
        return Ok(());
    }
    let jpeg::JpegHeader { width, height, .. } = jpeg::header(bytes)?;
    if width * height > MAX_PIXELS {
        return Err(SessionError::TooLarge { width, height });
    }
    jpeg::check(bytes)?;
    Ok(())
}

/// Grey where all pixels are, RGB elsewhere.
fn from_rgba(rgba: &[u8], width: usize, height: usize) -> Result<Picture, PictureError> {
    let channels = if rgba.chunks_exact(4).all(|p| p[0] == p[1] && p[1] == p[2]) { 1 } else { 3 };
    let expected = width.saturating_mul(height).saturating_mul(4);
    if rgba.len() != expected {
        return Err(PictureError::Length { width, height, channels: 4, expected, found: rgba.len() });
    }
    let samples = rgba.chunks_exact(4).flat_map(|pixel| pixel[..channels].iter().chain(&pixel[3..])).copied();
    Picture::from_transparent(width, height, channels + 1, samples.collect())
}

#[cfg(test)]
mod tests {
    use model::{CnnConfig, ConvBlockConfig, NetworkConfig, PoolConfig, Preprocessing};
    use proptest::prelude::*;

    use super::*;

    const REFERENCE: &[u8] = include_bytes!("../../../artifacts/reference/model.kiln");

    fn small(classes: usize, blocks: Vec<ConvBlockConfig>) -> Vec<u8> {
        let config = NetworkConfig::Cnn(CnnConfig { blocks, dense: vec![8], ..CnnConfig::default() });
        let preprocessing = Preprocessing::fashion_mnist();
        let network = config.init(preprocessing.input, classes, 7, &Device::flex()).unwrap();
        let description = Description {
            network: config,
            preprocessing,
            classes: (0..classes).map(|class| format!("class {class}")).collect(),
            task: model::Task::default(),
            provenance: BTreeMap::from([("test_accuracy".into(), json!(0.5)), ("seed".into(), json!(1))]),
            confidence: None,
            seen: None,
        };
        model::encode(&network, description).unwrap()
    }

    fn convolution() -> Vec<ConvBlockConfig> {
        vec![ConvBlockConfig { pool: Some(PoolConfig::default()), ..ConvBlockConfig::new(3) }]
    }

    /// A white bar on black, as a canvas holds it.
    fn bar(width: usize, height: usize) -> Vec<u8> {
        (0..width * height)
            .flat_map(|at| {
                let inside = (at % width).abs_diff(width / 2) <= width / 20;
                let ink =
                    if inside && (height / 5..height * 4 / 5).contains(&(at / width)) { 255 } else { 0 };
                [ink, ink, ink, 255]
            })
            .collect()
    }

    fn best(answer: &Answer) -> usize {
        let probabilities = &answer.probabilities;
        (0..probabilities.len()).max_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b])).unwrap()
    }

    #[test]
    fn a_bar_is_a_one_and_looked_at_where_it_is() {
        let mut session = Session::open(REFERENCE).unwrap();
        let answer = session.answer(&bar(280, 280), 280, 280).unwrap();
        assert_eq!(session.metadata().classes[best(&answer)], "1");
        assert!(answer.probabilities[1] > 0.9, "{:?}", answer.probabilities);
        assert_eq!((answer.image.len(), answer.attention.len()), (784, 784));
        let sum: f32 = answer.attention.iter().sum();
        let centre: f32 =
            (0..784).filter(|at| (8..20).contains(&(at % 28))).map(|at| answer.attention[at]).sum();
        assert!(sum > 0.0 && centre > 0.6 * sum, "{centre} of {sum}: evenly spread it were 0.43");
    }

    #[test]
    fn several_digits_are_said_to_be_that() {
        let mut session = Session::open(REFERENCE).unwrap();
        let (width, height) = (400, 280);
        let strokes = |places: &[usize]| -> Vec<u8> {
            let ink = |at: usize| {
                let (x, y) = (at % width, at / width);
                (60..220).contains(&y) && places.iter().any(|&place| x.abs_diff(place) <= 10)
            };
            (0..width * height).flat_map(|at| if ink(at) { [255; 4] } else { [0, 0, 0, 255] }).collect()
        };
        let answer = session.answer(&strokes(&[120, 280]), width, height).unwrap();
        assert!(answer.rejected && answer.reason == Some(Reason::SeveralDigits), "{:?}", answer.reason);
        let answer = session.answer(&strokes(&[200]), width, height).unwrap();
        assert_ne!(answer.reason, Some(Reason::SeveralDigits));
    }

    #[test]
    fn lessons_are_learned_and_taken_back() {
        let mut session = Session::open(&small(5, convolution())).unwrap();
        assert!(matches!(session.teach(0), Err(SessionError::NothingShown)));
        let before = session.answer(&bar(60, 60), 60, 60).unwrap();
        let class = (best(&before) + 1) % 5;
        assert!(matches!(session.teach(5), Err(SessionError::Teach(TeachError::Class { .. }))));
        assert_eq!(session.lessons(), 0);
        session.teach(class).unwrap();
        let taught = session.answer(&bar(60, 60), 60, 60).unwrap();
        assert_eq!(best(&taught), class);
        session.untaught().unwrap();
        assert_eq!(session.answer(&bar(60, 60), 60, 60).unwrap(), before);
        session.untaught().unwrap();
        assert_eq!(session.lessons(), 0);
    }

    #[test]
    fn a_taught_model_is_saved_without_figures_that_are_not_its_own() {
        let mut session = Session::open(&small(5, convolution())).unwrap();
        assert_eq!(Session::open(&session.save().unwrap()).unwrap().metadata(), session.metadata());
        let before = session.answer(&bar(60, 60), 60, 60).unwrap();
        let class = (best(&before) + 1) % 5;
        session.teach(class).unwrap();
        session.teach(class).unwrap();
        let taught = session.answer(&bar(60, 60), 60, 60).unwrap();

        let mut saved = Session::open(&session.save().unwrap()).unwrap();
        let provenance = &saved.metadata().provenance;
        assert_eq!(provenance.get("test_accuracy"), None);
        assert_eq!(provenance["seed"], json!(1));
        assert_eq!(provenance["taught"]["lessons"], json!({ (format!("class {class}")): 2 }));
        assert_eq!(provenance["taught"]["from_weights_sha256"], json!(session.metadata().weights_sha256));
        assert_ne!(saved.metadata().weights_sha256, session.metadata().weights_sha256);
        assert_eq!(saved.answer(&bar(60, 60), 60, 60).unwrap(), taught);
    }

    #[test]
    fn a_network_without_convolutions_looks_nowhere() {
        let mut session = Session::open(&small(3, vec![])).unwrap();
        let answer = session.answer(&bar(28, 28), 28, 28).unwrap();
        assert_eq!(answer.attention, [0.0; 784]);
    }

    #[test]
    fn unusable_pictures_are_refused() {
        let mut session = Session::open(&small(3, vec![])).unwrap();
        session.answer(&bar(28, 28), 28, 28).unwrap();
        for (len, width, height) in [(0, 0, 0), (0, 0, 5), (4, 2, 1), (16, 2, usize::MAX), (5, 1, 1)] {
            let error = session.answer(&vec![0; len], width, height).unwrap_err();
            assert!(!error.to_string().is_empty(), "{width}x{height}");
            // And nothing is taught from what was there before.
            assert!(matches!(session.teach(0), Err(SessionError::NothingShown)));
        }
        let error = session.answer(&[], 1 << 13, 1 << 12).unwrap_err();
        assert!(matches!(error, SessionError::TooLarge { .. }), "{error}");
    }

    #[test]
    fn a_cut_jpeg_is_no_picture() {
        let whole = include_bytes!("../../../tests/golden/decode/progressive-420.jpg");
        assert!(check_picture(whole).is_ok());
        assert!(check_picture(b"\x89PNG, which the browser checks").is_ok());
        for end in 3..whole.len() {
            assert!(check_picture(&whole[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn transparent_is_paper_that_shows_the_ink() {
        let rgba = [0, 0, 0, 0, 0, 0, 0, 255, 200, 100, 0, 255];
        assert_eq!(from_rgba(&rgba, 3, 1).unwrap().pixels(), [255, 255, 255, 0, 0, 0, 200, 100, 0]);
        assert_eq!(from_rgba(&rgba[..8], 2, 1).unwrap().channels(), 1);
        let white_ink = [0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 128];
        assert_eq!(from_rgba(&white_ink, 3, 1).unwrap().pixels(), [0, 255, 128]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn any_picture_gets_an_answer((width, height) in (1usize..80, 1usize..80), seed: u64, kind in 0u8..4) {
            let mut session = Session::open(REFERENCE).unwrap();
            let byte = |at: usize| match kind {
                0 => (seed.wrapping_mul(at as u64 + 1) >> 33) as u8,
                1 => seed as u8,
                2 => (at % 251) as u8,
                _ => if at.is_multiple_of(7) { 255 } else { 0 },
            };
            let rgba: Vec<u8> = (0..4 * width * height).map(byte).collect();
            let answer = session.answer(&rgba, width, height).unwrap();
            prop_assert!((answer.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-4);
            prop_assert!(answer.attention.iter().all(|value| value.is_finite() && *value >= 0.0));
        }
    }
}

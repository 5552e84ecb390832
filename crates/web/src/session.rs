//! One model, the picture before it, and what it has been taught.

use std::collections::BTreeMap;

use burn::tensor::Device;
use model::{
    Classifier, ClassifyError, Description, Head, InputShape, Lesson, Metadata, Model, ModelFileError, Picture,
    PictureError, TeachError, Teaching,
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
    pub seen: Vec<u8>,
    /// Probability of every class, `[K]`.
    pub probabilities: Vec<f32>,
}

/// One model, the picture before it, and what it has been taught.
#[derive(Debug)]
pub struct Session {
    /// As the page uses it: with the lessons.
    classifier: Classifier,
    /// The last layer as the file has it.
    head: Option<Head>,
    lessons: Vec<Lesson>,
    /// Features of the last picture, `[F]`.
    shown: Option<Vec<f32>>,
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
        Ok(Self { classifier: Classifier::new(model, device), head, lessons: vec![], shown: None })
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
    /// is laid on white, as paper is.
    ///
    /// # Errors
    /// A picture that is too large, whose length does not match, or that cannot be fitted.
    pub fn answer(&mut self, rgba: &[u8], width: usize, height: usize) -> Result<Answer, SessionError> {
        self.shown = None;
        if width.saturating_mul(height) > MAX_PIXELS {
            return Err(SessionError::TooLarge { width, height });
        }
        let picture = from_rgba(rgba, width, height)?;
        let seen = self.classifier.prepare(&picture)?;
        let images = self.metadata().preprocessing.batch(&seen, 1, self.classifier.device());
        let network = self.classifier.network();
        let features = network.features(images); // [1, F]
        let device_error = |error: &dyn std::fmt::Display| ClassifyError::Device(error.to_string());
        let shown = features.clone().try_into_data().map_err(|e| device_error(&e))?;
        let logits =
            network.classify_features(features).try_into_data().map_err(|e| device_error(&e))?; // [1, K]
        self.shown = Some(shown.iter::<f32>().collect());
        let scores = model::Scores { logits: logits.iter::<f32>().collect() };
        Ok(Answer { seen, probabilities: self.classifier.probabilities(&scores) })
    }

    /// The last picture belongs to `class`: the last layer learns it together with all lessons before.
    ///
    /// # Errors
    /// No picture, no such class, or too many lessons.
    pub fn teach(&mut self, class: usize) -> Result<(), SessionError> {
        if self.lessons.len() == MAX_LESSONS {
            return Err(SessionError::TooManyLessons);
        }
        let features = self.shown.clone().ok_or(SessionError::NothingShown)?;
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
        let Metadata { network, preprocessing, classes, provenance, weights_sha256, .. } = self.metadata().clone();
        let provenance =
            if self.lessons.is_empty() { provenance } else { self.taught_provenance(provenance, &weights_sha256) };
        let description = Description { network, preprocessing, classes, provenance };
        Ok(model::encode(self.classifier.network(), description)?)
    }

    /// The last layer from its beginning with all lessons.
    fn learn(&mut self) -> Result<(), SessionError> {
        let head = self.head.as_ref().ok_or(SessionError::NoHead)?;
        let taught = head.taught(&self.lessons, &Teaching::default())?;
        let network =
            taught.put_on(self.classifier.network().clone()).map_err(ModelFileError::Record)?;
        let model = Model { network, metadata: self.metadata().clone() };
        self.classifier = Classifier::new(model, self.classifier.device().clone());
        Ok(())
    }

    /// Where a taught model comes from. The figures of the file it was made from are not its own.
    fn taught_provenance(&self, mut origin: BTreeMap<String, Value>, sha256: &str) -> BTreeMap<String, Value> {
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

/// Grey where all pixels are, RGB elsewhere.
fn from_rgba(rgba: &[u8], width: usize, height: usize) -> Result<Picture, PictureError> {
    let channels = if rgba.chunks_exact(4).all(|p| p[0] == p[1] && p[1] == p[2]) { 1 } else { 3 };
    let on_white = |value: u8, alpha: u8| {
        let (value, alpha) = (u32::from(value), u32::from(alpha));
        ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    let expected = width.saturating_mul(height).saturating_mul(4);
    if rgba.len() != expected {
        return Err(PictureError::Length { width, height, channels: 4, expected, found: rgba.len() });
    }
    let pixels = rgba.chunks_exact(4).flat_map(|p| (0..channels).map(move |c| on_white(p[c], p[3])));
    Picture::new(width, height, channels, pixels.collect())
}

//! What `kiln evaluate --rejection` adds: how well a model refuses images of another kind.

use std::path::Path;

use burn::tensor::Device;
use data::{ClassMap, Dataset, ImageOptions, OnBadImage, Purpose, Search, listed};
use evaluation::confidence::{CoveragePoint, Scored, coverage, round_points};
use evaluation::report::{RefusalPoint, refusal_png};
use model::{Model, Novelty, Picture, Scores};
use serde::Serialize;
use train::command::Failure;
use train::task::evaluation_set::Part;

use crate::table::table;

/// Shares of the validation images that thresholds are set to keep.
const SHARES: [f32; 6] = [0.8, 0.9, 0.95, 0.975, 0.99, 0.999];

/// What is refused of whom. Thresholds come from the model file, that is from its validation images.
#[derive(Serialize)]
pub(crate) struct Rejection {
    /// The data set whose images are not what the model was trained on.
    dataset: String,
    images: usize,
    /// Probability that a foreign image is further out of distribution than an own one.
    auroc: f64,
    thresholds: Vec<RefusalPoint>,
    /// Own images: what is gained by refusing unsure answers.
    coverage: Vec<CoveragePoint>,
}

/// Images that a model was not trained on.
pub(crate) struct Foreign {
    pub(crate) images: Dataset,
    /// What a user has to know about them.
    pub(crate) warning: Option<String>,
}

/// The images of `name`: the part asked for, else its test part, and all of it where it names none. Classes that the
/// model knows by name are not foreign, unless all are: then the names are taken to mean something else.
pub(crate) fn foreign(
    name: &str,
    part: Option<Part>,
    on_bad_image: Option<OnBadImage>,
    known: &[String],
    search: &Search,
) -> Result<Foreign, Failure> {
    let own = ImageOptions::default();
    let on_bad_image = on_bad_image.unwrap_or(own.on_bad_image);
    let options = ImageOptions { purpose: Purpose::Evaluation, on_bad_image, ..own };
    let pair = data::load_with(name, search, &options).map_err(Failure::failed)?;
    let images = match part {
        Some(Part::Train) => pair.train,
        Some(Part::All) => pair.train.joined(pair.test),
        None | Some(Part::Valid) if pair.test_set_aside => pair.train.joined(pair.test),
        None | Some(Part::Valid | Part::Test) => pair.test,
    };
    if images.is_empty() {
        return Err(Failure::failed(format!("{name} has no images in that part; choose another --split")));
    }
    let map = ClassMap::new(&images.class_names, known);
    // With several labels, when the model knows none of them.
    let is_foreign = |labels: &[u32]| labels.iter().all(|&label| map.numbers()[label as usize].is_none());
    let strange: Vec<u32> =
        (0..images.len() as u32).filter(|&index| is_foreign(images.labels.of(index as usize))).collect();
    let shared = listed(&map.agreement().mapped);
    match images.len() - strange.len() {
        0 => Ok(Foreign { images, warning: None }),
        same if same == images.len() => {
            let warning = format!(
                "all classes of {name} bear names of the model's ({shared}); its images are taken for foreign all the same"
            );
            Ok(Foreign { images, warning: Some(warning) })
        }
        same => {
            let warning =
                format!("{same} images of {name} are left out: the model knows their classes ({shared})");
            Ok(Foreign { images: images.subset(&strange), warning: Some(warning) })
        }
    }
}

/// Measures the rejection of `foreign` by a model whose own images are `own`.
pub(crate) fn measure(
    model: &Model,
    own: &Dataset,
    foreign: &Dataset,
    device: &Device,
) -> Result<Rejection, Failure> {
    let confidence = model.metadata.confidence.as_ref();
    let Some(confidence) = confidence else {
        return Err(Failure::failed(
            "the model cannot tell out-of-distribution images: train it again with this version",
        ));
    };
    let Some(novelty) = confidence.novelty.as_ref() else {
        return Err(Failure::failed(
            "the model rejects nothing as out-of-distribution: there were too few validation images to set a threshold; train it \
             again with more, for example with a larger --valid-fraction",
        ));
    };
    let strangers = score_foreign(model, foreign, device)?;
    let indices: Vec<u32> = (0..own.len() as u32).collect();
    let known = Scored::of(&model.network, &model.metadata.preprocessing, own, &indices, device)
        .map_err(Failure::failed)?;
    let answers = known.answers(confidence.temperature);
    let own_novelty: Vec<f32> = known.scores.iter().map(|scores| novelty.of(scores)).collect();
    let foreign_novelty: Vec<f32> = strangers.iter().map(|scores| novelty.of(scores)).collect();
    Ok(Rejection {
        dataset: foreign.name.clone(),
        images: strangers.len(),
        auroc: auroc(&own_novelty, &foreign_novelty),
        thresholds: SHARES
            .iter()
            .map(|&keep| refusal(novelty, keep, &own_novelty, &foreign_novelty, &answers))
            .collect(),
        coverage: round_points(&coverage(&answers)),
    })
}

fn refusal(
    novelty: &Novelty,
    keep: f32,
    own: &[f32],
    foreign: &[f32],
    answers: &[(f32, bool)],
) -> RefusalPoint {
    let threshold = novelty.threshold(keep);
    let share = |count: usize, all: usize| count as f64 / all.max(1) as f64;
    let kept = || own.iter().zip(answers).filter(|&(&value, _)| value <= threshold);
    let wrong = kept().filter(|(_, (_, right))| !right).count();
    RefusalPoint {
        keep,
        kept: share(kept().count(), own.len()),
        refused: share(foreign.iter().filter(|&&value| value > threshold).count(), foreign.len()),
        error: share(wrong, kept().count()),
    }
}

/// Images of the network's size are taken as they are, others are fitted as pictures.
fn score_foreign(model: &Model, dataset: &Dataset, device: &Device) -> Result<Vec<Scores>, Failure> {
    let preprocessing = &model.metadata.preprocessing;
    let mut pixels = Vec::new();
    if dataset.shape == preprocessing.input {
        pixels.extend_from_slice(&dataset.pixels);
    } else {
        for index in 0..dataset.len() {
            let picture =
                Picture::from_planes(dataset.shape, dataset.image(index)).map_err(Failure::failed)?;
            pixels.extend(preprocessing.prepare(&picture).map_err(Failure::failed)?);
        }
    }
    model::scores(&model.network, preprocessing, &pixels, device).map_err(Failure::failed)
}

/// The area under the curve of refused foreign against refused own images: the share of pairs in which the
/// foreign image is further out, a tie for half.
fn auroc(own: &[f32], foreign: &[f32]) -> f64 {
    let mut all: Vec<(f32, bool)> = own.iter().map(|&value| (value, false)).collect();
    all.extend(foreign.iter().map(|&value| (value, true)));
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut pairs) = (0f64, 0f64);
    for group in all.chunk_by(|a, b| a.0 == b.0) {
        let strange = group.iter().filter(|(_, foreign)| *foreign).count() as f64;
        let ordinary = group.len() as f64 - strange;
        pairs += strange * (below + ordinary / 2.0);
        below += ordinary;
    }
    pairs / (own.len().max(1) * foreign.len().max(1)) as f64
}

impl Rejection {
    /// Two tables.
    pub(crate) fn in_words(&self) -> String {
        let percent = |share: f64| format!("{:.2}%", share * 100.0);
        let mut rows =
            vec![["set to keep", "kept", "wrong of these", "foreign refused"].map(str::to_owned).to_vec()];
        rows.extend(self.thresholds.iter().map(|point| {
            vec![
                format!("{}%", (point.keep * 1000.0).round() / 10.0),
                percent(point.kept),
                percent(point.error),
                percent(point.refused),
            ]
        }));
        let mut answered = vec![["refused below", "answered", "wrong of these"].map(str::to_owned).to_vec()];
        answered.extend(self.coverage.iter().map(|point| {
            vec![format!("{:.4}", point.threshold), percent(point.coverage), percent(point.error)]
        }));
        format!(
            "{} images of {} refused by their novelty (AUROC {:.4}), thresholds from the validation images:\n{}\n\n\
             own images refused by their probability:\n{}",
            self.images,
            self.dataset,
            self.auroc,
            table(&rows),
            table(&answered)
        )
    }

    /// Draws the first table.
    pub(crate) fn draw(&self, own: &str, path: &Path) -> Result<(), Failure> {
        let bytes = refusal_png(&self.thresholds, own, &self.dataset).map_err(Failure::failed)?;
        crate::pictures::write(path, &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::auroc;

    #[test]
    fn area_by_hand() {
        // Pairs: (1,2) (1,3) (2.5,3) right, (2.5,2) wrong: 3 of 4.
        assert!((auroc(&[1.0, 2.5], &[2.0, 3.0]) - 0.75).abs() < 1e-12);
        assert!((auroc(&[1.0], &[1.0]) - 0.5).abs() < 1e-12);
    }
}

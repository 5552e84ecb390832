//! The report of a run: pictures, tables and one page, as bytes. The run folder writes them.

mod axis;
mod canvas;
mod confusion;
mod coverage;
mod curves;
mod error;
mod explanation;
mod input;
mod mistakes;
mod overfitting;
mod page;
mod range_test;
mod samples;
mod sets;
mod text;
mod trials;

use data::text::csv_cell;
use image::RgbImage;
use serde::Serialize;

pub use axis::Scale;
pub use coverage::{RefusalPoint, coverage_png, refusal_png};
pub use error::ReportError;
pub use explanation::explanation_png;
pub use input::{Answer, ReportFile, ReportInput, SetReportInput, Subject};
pub use mistakes::ReportImage;
pub use overfitting::overfitting_since;
pub use range_test::RangeTestPicture;
pub use samples::{SampleRow, sample_sheet};
pub use sets::{render_sets, sets_without_samples_notice};
pub use text::{Escaped, escape};
pub use trials::{TrialKind, TrialPicture, TrialPoint};

use confusion::ConfusionPicture;
use coverage::CoveragePicture;
use curves::Curves;
use mistakes::{Mistake, Sheet};

use crate::metrics::{ClassMetrics, ConfusionMatrix, Evaluation};
use crate::metrics_log::EpochRecord;

/// Mistakes on the sheet.
const SHEET: usize = 32;

/// `evaluation.json`.
#[derive(Serialize)]
struct Figures<'a> {
    subset: &'a str,
    samples: u64,
    accuracy: f64,
    mean_loss: f64,
    macro_average: ClassMetrics,
    weighted_average: ClassMetrics,
    per_class: Vec<NamedMetrics<'a>>,
    /// Classes without a figure.
    classes_without_images: Vec<String>,
    top_confusions: Vec<NamedConfusion<'a>>,
    confusion: &'a ConfusionMatrix,
}

#[derive(Serialize)]
struct NamedMetrics<'a> {
    class: &'a str,
    #[serde(flatten)]
    metrics: ClassMetrics,
}

#[derive(Serialize)]
struct NamedConfusion<'a> {
    target: &'a str,
    predicted: &'a str,
    count: u64,
}

/// Makes all files of the report: `index.html`, `curves.svg`, `curves.png` (when there are epochs), `confusion.svg`,
/// `confusion.png`, `mistakes.png` (when there are any), `coverage.svg`, `coverage.png` (when it is known), `evaluation.json` and `predictions.csv`. The same input gives the same bytes.
///
/// # Errors
/// [`ReportError`], foremost for an image whose bytes do not fit its shape.
pub fn render(input: &ReportInput) -> Result<Vec<ReportFile>, ReportError> {
    let mut files = Vec::new();
    let mut file = |name, bytes| files.push(ReportFile { name, bytes });

    let matrix = ConfusionPicture::new(input.evaluation, input.subject.subset)?;
    let matrix_svg = canvas::svg(&matrix)?;
    let mistakes = mistakes(input)?;
    file("index.html", page::html(input, &matrix_svg, &mistakes)?.into_bytes());
    if !input.subject.epochs.is_empty() {
        let curves = Curves { epochs: input.subject.epochs, best_epoch: input.subject.best_epoch };
        file("curves.svg", canvas::svg(&curves)?.into_bytes());
        file("curves.png", canvas::png(&curves)?);
    }
    file("confusion.svg", matrix_svg.into_bytes());
    file("confusion.png", canvas::png(&matrix)?);
    if !mistakes.is_empty() {
        file("mistakes.png", canvas::png(&Sheet { mistakes: &mistakes })?);
    }
    if !input.coverage.is_empty() {
        let coverage = CoveragePicture { curve: input.coverage };
        file("coverage.svg", canvas::svg(&coverage)?.into_bytes());
        file("coverage.png", canvas::png(&coverage)?);
    }
    file("evaluation.json", figures(input)?);
    file("predictions.csv", predictions(input)?);
    Ok(files)
}

/// The picture of a sweep: `sweep.svg` and `sweep.png`.
///
/// # Errors
/// When plotters refuses.
pub fn render_trials(picture: &TrialPicture) -> Result<Vec<ReportFile>, ReportError> {
    both("sweep.svg", "sweep.png", picture)
}

/// The picture of a learning-rate range test: `lr-find.svg` and `lr-find.png`.
///
/// # Errors
/// When plotters refuses.
pub fn render_range_test(picture: &RangeTestPicture) -> Result<Vec<ReportFile>, ReportError> {
    both("lr-find.svg", "lr-find.png", picture)
}

fn both<P: canvas::Picture>(
    svg: &'static str,
    png: &'static str,
    picture: &P,
) -> Result<Vec<ReportFile>, ReportError> {
    Ok(vec![
        ReportFile { name: svg, bytes: canvas::svg(picture)?.into_bytes() },
        ReportFile { name: png, bytes: canvas::png(picture)? },
    ])
}

/// What to tell the user when [`overfitting_since`] finds something; the page shows the same text.
pub fn overfitting_notice(epochs: &[EpochRecord]) -> Option<String> {
    overfitting_since(epochs).map(page::notice)
}

/// What to tell the user when no image of some class was evaluated; the page shows the same text. `subset` is the kind of
/// the images, as `test`.
pub fn without_samples_notice(evaluation: &Evaluation, subset: &str) -> Option<String> {
    page::without_samples_notice(evaluation, subset)
}

fn mistakes(input: &ReportInput) -> Result<Vec<Mistake>, ReportError> {
    let name = |class: u32| class_name(input.evaluation, class as usize).to_owned();
    let mut mistakes = Vec::new();
    for position in input.evaluation.worst_mistakes(SHEET) {
        let prediction = input.evaluation.predictions[position];
        let Some(image) = (input.subject.image)(prediction.index) else {
            continue;
        };
        let image: RgbImage = image.to_rgb(prediction.index)?;
        let answer = input.answers.get(position);
        mistakes.push(Mistake {
            probability: answer.map_or(prediction.probability, |answer| answer.probability),
            rejected: answer.is_some_and(|answer| answer.rejected),
            file: (input.subject.name)(prediction.index),
            image,
            target: name(prediction.target),
            predicted: name(prediction.predicted),
        });
    }
    Ok(mistakes)
}

fn class_name(evaluation: &Evaluation, class: usize) -> &str {
    evaluation.class_names.get(class).map_or("?", String::as_str)
}

fn figures(input: &ReportInput) -> Result<Vec<u8>, ReportError> {
    let evaluation = input.evaluation;
    let confusion = &evaluation.confusion;
    let mut json = serde_json::to_vec_pretty(&Figures {
        subset: input.subject.subset,
        samples: confusion.total(),
        accuracy: confusion.accuracy(),
        mean_loss: evaluation.mean_loss,
        macro_average: confusion.macro_average(),
        weighted_average: confusion.weighted_average(),
        per_class: confusion
            .per_class()
            .into_iter()
            .enumerate()
            .map(|(class, metrics)| NamedMetrics { class: class_name(evaluation, class), metrics })
            .collect(),
        classes_without_images: evaluation.without_samples(),
        top_confusions: confusion
            .top_confusions(page::TOP_CONFUSIONS)
            .into_iter()
            .map(|top| NamedConfusion {
                target: class_name(evaluation, top.target),
                predicted: class_name(evaluation, top.predicted),
                count: top.count,
            })
            .collect(),
        confusion,
    })?;
    json.push(b'\n');
    Ok(json)
}

/// One row per prediction: what the image is called, the classes by their numbers, the calibrated probability of the
/// answer, the loss without calibration, and whether the answer would be rejected (empty where that is not known).
fn predictions(input: &ReportInput) -> Result<Vec<u8>, ReportError> {
    let header = ["index", "target", "predicted", "probability", "loss", "file", "rejected"];
    let mut rows = csv::Writer::from_writer(Vec::new());
    rows.write_record(header)?;
    for (position, p) in input.evaluation.predictions.iter().enumerate() {
        let answer = input.answers.get(position);
        rows.write_record([
            p.index.to_string(),
            p.target.to_string(),
            p.predicted.to_string(),
            answer.map_or(p.probability, |answer| answer.probability).to_string(),
            p.loss.to_string(),
            csv_cell(&(input.subject.name)(p.index)),
            answer.map_or_else(String::new, |answer| answer.rejected.to_string()),
        ])?;
    }
    rows.into_inner().map_err(|error| csv::Error::from(error.into_error()).into())
}

#[cfg(test)]
mod tests {
    use image::GenericImageView;

    use super::*;
    use crate::metrics::Prediction;

    fn epochs(n: usize) -> Vec<EpochRecord> {
        (1..=n)
            .map(|epoch| EpochRecord {
                epoch,
                train_loss: 0.3 / epoch as f64,
                train_accuracy: 1.0 - 0.1 / epoch as f64,
                valid_loss: 0.2 / epoch as f64,
                valid_accuracy: 1.0 - 0.05 / epoch as f64,
                valid_mean_average_precision: None,
                learning_rate: 1e-3,
                samples_per_second: 9000.0,
                seconds: 6.0,
            })
            .collect()
    }

    /// Three samples of each class; the first of each is taken for the next class.
    fn evaluation(names: &[&str]) -> Evaluation {
        let classes = names.len();
        let predictions = (0..3 * classes)
            .map(|i| Prediction {
                index: i as u32,
                target: (i / 3) as u32,
                predicted: if i % 3 == 0 { (i / 3 + 1) % classes } else { i / 3 } as u32,
                probability: 0.75,
                loss: 2.0 + i as f32,
            })
            .collect();
        Evaluation::new(names.iter().map(|&name| name.to_owned()).collect(), predictions).expect("valid")
    }

    #[expect(clippy::unnecessary_wraps, reason = "the type of an image provider")]
    fn grey<'a>(_: u32) -> Option<ReportImage<'a>> {
        Some(ReportImage { width: 4, height: 3, channels: 1, pixels: vec![99; 12].into() })
    }

    fn numbered(index: u32) -> String {
        format!("#{index}")
    }

    fn input<'a>(evaluation: &'a Evaluation, epochs: &'a [EpochRecord]) -> ReportInput<'a> {
        ReportInput {
            subject: Subject {
                title: "a run",
                facts: &[],
                notices: &[],
                epochs,
                best_epoch: epochs.len().checked_sub(1),
                subset: "test",
                name: &numbered,
                image: &grey,
            },
            evaluation,
            coverage: &[],
            answers: &[],
        }
    }

    fn text<'a>(files: &'a [ReportFile], name: &str) -> &'a str {
        let file = files.iter().find(|file| file.name == name).expect(name);
        std::str::from_utf8(&file.bytes).expect("UTF-8")
    }

    #[test]
    fn all_files_are_there_and_the_same_input_gives_the_same_bytes() {
        let (evaluation, epochs) = (evaluation(&["0", "1", "2"]), epochs(4));
        let files = render(&input(&evaluation, &epochs)).expect("renders");
        let names: Vec<_> = files.iter().map(|file| file.name).collect();
        assert_eq!(
            names,
            [
                "index.html",
                "curves.svg",
                "curves.png",
                "confusion.svg",
                "confusion.png",
                "mistakes.png",
                "evaluation.json",
                "predictions.csv"
            ]
        );
        let again = render(&input(&evaluation, &epochs)).expect("renders");
        for (file, again) in files.iter().zip(&again) {
            assert!(file.bytes == again.bytes, "{} differs", file.name);
        }
        assert!(
            text(&files, "predictions.csv")
                .starts_with("index,target,predicted,probability,loss,file,rejected\n0,0,1,0.75,2,#0,\n")
        );
        let figures: serde_json::Value = serde_json::from_str(text(&files, "evaluation.json")).expect("JSON");
        assert_eq!(figures["accuracy"], serde_json::json!(2.0 / 3.0));
        assert_eq!(figures["per_class"][1]["class"], "1");
        assert_eq!(figures["confusion"], serde_json::json!([[2, 1, 0], [0, 2, 1], [1, 0, 2]]));
    }

    /// A mistake is found again by its file, with the probability that the program gives and whether it gives it.
    #[test]
    fn mistakes_carry_their_files_and_calibrated_answers() {
        let evaluation = evaluation(&["a", "b"]);
        let answers: Vec<Answer> =
            (0..6).map(|at| Answer { probability: 0.5 + at as f32 / 100.0, rejected: at == 3 }).collect();
        let name = |index: u32| format!("cats, and/{index}.png");
        let bare = input(&evaluation, &[]);
        let subject = Subject { name: &name, ..bare.subject };
        let files = render(&ReportInput { subject, answers: &answers, ..bare }).expect("renders");
        let rows: Vec<&str> = text(&files, "predictions.csv").lines().collect();
        assert_eq!(rows[1], "0,0,1,0.5,2,\"cats, and/0.png\",false");
        assert_eq!(rows[4], "3,1,0,0.53,5,\"cats, and/3.png\",true");
        let formula = |index: u32| format!("=1+{index}");
        let bare = input(&evaluation, &[]);
        let subject = Subject { name: &formula, ..bare.subject };
        let named = render(&ReportInput { subject, ..bare }).expect("renders");
        assert!(text(&named, "predictions.csv").contains("0,0,1,0.75,2,'=1+0,"), "no formula");
        let page = text(&files, "index.html");
        // The two mistakes, worst first.
        let places = ["53.00 %, rejected<br><span>cats, and/3.png", "50.00 %<br><span>cats, and/0.png"]
            .map(|words| page.find(words).unwrap_or_else(|| panic!("`{words}` is not in the page")));
        assert!(places[0] < places[1] && !page.contains("cats, and/1.png"));
    }

    #[test]
    fn a_class_without_images_is_named_and_has_no_figures() {
        let right =
            |index, class| Prediction { index, target: class, predicted: class, probability: 1.0, loss: 0.0 };
        let names = ["a", "b", "never shown"].map(String::from).to_vec();
        let evaluation = Evaluation::new(names, vec![right(0, 0), right(1, 1)]).expect("valid");
        let files = render(&input(&evaluation, &[])).expect("renders");
        let figures: serde_json::Value = serde_json::from_str(text(&files, "evaluation.json")).expect("JSON");
        assert_eq!(figures["macro_average"]["f1"], 1.0);
        assert!(figures["per_class"][2]["f1"].is_null());
        assert_eq!(figures["classes_without_images"], serde_json::json!(["never shown"]));
        let page = text(&files, "index.html");
        assert!(page.contains("1 of 3 classes without test images: never shown."));
        let all = without_samples_notice(&evaluation, "all").expect("a class without images");
        assert!(all.starts_with("1 of 3 classes without images: never shown."), "{all}");
        assert!(page.contains("never shown</th><td>–</td><td>–</td><td>–</td><td>0</td>"));
    }

    #[test]
    fn a_model_without_history_and_mistakes_has_no_curves_and_no_sheet() {
        let right = Prediction { index: 0, target: 0, predicted: 0, probability: 1.0, loss: 0.0 };
        let evaluation =
            Evaluation::new(vec!["only".to_owned(), "other".to_owned()], vec![right]).expect("valid");
        let files = render(&input(&evaluation, &[])).expect("renders");
        assert!(files.iter().all(|file| !file.name.starts_with("curves") && file.name != "mistakes.png"));
        assert!(text(&files, "index.html").contains("None: every image was classified correctly."));
    }

    /// Names come from folders and files of users.
    #[test]
    fn names_cannot_break_out_of_the_markup() {
        let evil = "<script>alert('1')</script>\" onload=\"x&y\u{1}";
        let evaluation = evaluation(&[evil, "b"]);
        let facts = [(evil.to_owned(), evil.to_owned())];
        let epochs = epochs(2);
        let name = |_: u32| evil.to_owned();
        let bare = input(&evaluation, &epochs);
        let subject = Subject { title: evil, facts: &facts, name: &name, ..bare.subject };
        let files = render(&ReportInput { subject, ..bare }).expect("renders");
        for name in ["index.html", "confusion.svg", "curves.svg"] {
            let text = text(&files, name);
            assert!(
                !text.contains("<script") && !text.contains("\" onload") && !text.contains('\u{1}'),
                "{name}"
            );
        }
        assert!(
            text(&files, "index.html")
                .contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot; onload")
        );
    }

    #[test]
    fn the_page_needs_nothing_beside_it_and_pictures_have_a_text() {
        let (evaluation, epochs) = (evaluation(&["0", "1"]), epochs(3));
        let files = render(&input(&evaluation, &epochs)).expect("renders");
        let page = text(&files, "index.html");
        let foreign = |text: &str| text.replace("http://www.w3.org/2000/svg", "").contains("http");
        assert!(
            !foreign(page)
                && !page.contains("<link")
                && !page.contains("@import")
                && !page.contains("<script")
        );
        assert!(page.split("src=\"").skip(1).all(|source| source.starts_with("data:image/png;base64,")));
        assert_eq!(page.matches("<svg ").count(), page.matches("<svg role=\"img\" aria-label=\"").count());
        assert_eq!(page.matches("<img ").count(), page.matches(" alt=\"image ").count());
        assert!(page.contains("Confusion matrix of 6 test images in 2 classes, 66.67 % right"));
    }

    /// Whatever the number and the length of the names: paint on the outermost pixels would be a cut label.
    #[test]
    fn pictures_keep_clear_of_their_edges() {
        let long = "ein außerordentlich langer Klassenname, 数字, который никуда не помещается";
        let many: Vec<String> = (0..30).map(|class| format!("class {class}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let cases: [(&[&str], usize); 4] =
            [(&["0", "1"], 1), (&[long, long], 2), (&[""; 12], 150), (&many, 41)];
        for (names, n) in cases {
            let (evaluation, epochs) = (evaluation(names), epochs(n));
            for file in render(&input(&evaluation, &epochs)).expect("renders") {
                if !file.bytes.starts_with(b"\x89PNG") {
                    continue;
                }
                let picture = image::load_from_memory(&file.bytes).expect("PNG").to_rgb8();
                let (width, height) = picture.dimensions();
                let blank =
                    |x, y, w, h| picture.view(x, y, w, h).pixels().all(|(_, _, pixel)| pixel.0 == [255; 3]);
                let edges = [
                    blank(0, 0, width, 2),
                    blank(0, height - 2, width, 2),
                    blank(0, 0, 2, height),
                    blank(width - 2, 0, 2, height),
                ];
                assert_eq!(edges, [true; 4], "{} with {} classes, {n} epochs", file.name, names.len());
                assert!(!blank(0, 0, width, height), "{} is empty", file.name);
            }
        }
    }

    #[test]
    fn an_image_of_the_wrong_size_is_an_error_that_names_it() {
        let evaluation = evaluation(&["0", "1"]);
        let short = |_| Some(ReportImage { width: 4, height: 4, channels: 3, pixels: vec![0; 47].into() });
        let bare = input(&evaluation, &[]);
        let subject = Subject { image: &short, ..bare.subject };
        let Err(error) = render(&ReportInput { subject, ..bare }) else {
            panic!("47 bytes taken for 48");
        };
        assert!(
            error.to_string().starts_with("image 3 has 47 bytes for 3 channels of 4 x 4 pixels"),
            "{error}"
        );
    }

    #[test]
    fn colour_channels_are_interleaved() {
        let planes = ReportImage { width: 2, height: 1, channels: 3, pixels: vec![1, 2, 3, 4, 5, 6].into() };
        assert_eq!(planes.to_rgb(0).expect("valid").into_raw(), [1, 3, 5, 2, 4, 6]);
    }
}

//! The report of a multi-label model: the page, its tables, and the files beside it.

use std::fmt::Write;

use data::text::csv_cell;
use model::thousands;
use serde::Serialize;

use super::canvas;
use super::curves::Curves;
use super::error::ReportError;
use super::input::{ReportFile, SetReportInput};
use super::mistakes::{Mistake, Sheet};
use super::page::{self, write_mistakes, write_top};
use super::text::{escape, percent, percent_or_dash};
use crate::multi_label::{SetClassMetrics, SetEvaluation, SetFigures};

/// Mistakes on the sheet.
const SHEET: usize = 32;

/// `evaluation.json`.
#[derive(Serialize)]
struct Figures<'a> {
    task: &'static str,
    subset: &'a str,
    samples: usize,
    mean_loss: f64,
    #[serde(flatten)]
    all: SetFigures,
    per_class: Vec<SetClassMetrics>,
    /// Classes without a figure.
    classes_without_images: Vec<String>,
}

/// Makes all files of the report of a multi-label model: `index.html`, `curves.svg`, `curves.png` (when there are
/// epochs), `mistakes.png` (when there are any), `evaluation.json` and `predictions.csv`. There is no confusion matrix: a
/// picture is not taken for another class. The same input gives the same bytes.
///
/// # Errors
/// [`ReportError`], foremost for an image whose bytes do not fit its shape.
pub fn render_sets(input: &SetReportInput) -> Result<Vec<ReportFile>, ReportError> {
    let mut files = Vec::new();
    let mut file = |name, bytes| files.push(ReportFile { name, bytes });
    let mistakes = mistakes(input)?;
    file("index.html", html(input, &mistakes)?.into_bytes());
    if !input.subject.epochs.is_empty() {
        let curves = Curves { epochs: input.subject.epochs, best_epoch: input.subject.best_epoch };
        file("curves.svg", canvas::svg(&curves)?.into_bytes());
        file("curves.png", canvas::png(&curves)?);
    }
    if !mistakes.is_empty() {
        file("mistakes.png", canvas::png(&Sheet { mistakes: &mistakes })?);
    }
    let evaluation = input.evaluation;
    let mut json = serde_json::to_vec_pretty(&Figures {
        task: model::TaskName::MultiLabel.name(),
        subset: input.subject.subset,
        samples: evaluation.predictions.len(),
        mean_loss: evaluation.mean_loss,
        all: evaluation.figures(),
        per_class: evaluation.per_class(),
        classes_without_images: evaluation.without_samples(),
    })?;
    json.push(b'\n');
    file("evaluation.json", json);
    file("predictions.csv", predictions(input)?);
    Ok(files)
}

/// What to tell the user when no image of some class was evaluated; `subset` is the kind of the images, as `test`.
pub fn sets_without_samples_notice(evaluation: &SetEvaluation, subset: &str) -> Option<String> {
    page::notice_of_empty(&evaluation.without_samples(), evaluation.class_names.len(), subset)
}

/// The names of some classes, with `;` between them; `none` of no class.
fn names(evaluation: &SetEvaluation, classes: &[u32]) -> String {
    let name = |class: &u32| evaluation.class_names.get(*class as usize).map_or("?", String::as_str);
    match classes {
        [] => "none".to_owned(),
        classes => classes.iter().map(name).collect::<Vec<_>>().join(";"),
    }
}

fn mistakes(input: &SetReportInput) -> Result<Vec<Mistake>, ReportError> {
    let evaluation = input.evaluation;
    let mut mistakes = Vec::new();
    for position in evaluation.worst_mistakes(SHEET) {
        let prediction = &evaluation.predictions[position];
        let Some(image) = (input.subject.image)(prediction.index) else {
            continue;
        };
        let labels = prediction.labels(&evaluation.thresholds);
        let each = prediction.probabilities.iter().enumerate();
        let whole = each.map(|(class, &probability)| {
            let said = labels.contains(&(class as u32));
            f64::from(if said { probability } else { 1.0 - probability })
        });
        mistakes.push(Mistake {
            probability: whole.product::<f64>() as f32,
            rejected: false,
            file: (input.subject.name)(prediction.index),
            image: image.to_rgb(prediction.index)?,
            target: names(evaluation, &prediction.targets),
            predicted: names(evaluation, &labels),
        });
    }
    Ok(mistakes)
}

fn html(input: &SetReportInput, mistakes: &[Mistake]) -> Result<String, ReportError> {
    let evaluation = input.evaluation;
    let figures = evaluation.figures();
    let images = evaluation.predictions.len() as u64;
    let headline = [
        (percent_or_dash(figures.mean_average_precision), format!("{} mAP", input.subject.subset)),
        (percent(figures.micro_f1), "micro F1".to_owned()),
        (percent_or_dash(figures.macro_f1), "macro F1".to_owned()),
        (percent(figures.subset_accuracy), format!("all labels right, of {} images", thousands(images))),
        (format!("{:.4}", evaluation.mean_loss), format!("{} loss", input.subject.subset)),
    ];
    let mut page = String::new();
    write_top(&mut page, &input.subject, &headline)?;
    if !input.subject.epochs.is_empty() {
        page.push_str("<p>An image counts for the accuracy when all of its labels are right.</p>\n");
    }
    page.push_str(
        "<section>\n<h2>Classes</h2>\n<div class=\"scroll\" tabindex=\"0\">\n<table>\n<thead><tr>\
         <th scope=\"col\">class</th><th scope=\"col\">average precision</th><th scope=\"col\">precision</th>\
         <th scope=\"col\">recall</th><th scope=\"col\">F1</th><th scope=\"col\">threshold</th>\
         <th scope=\"col\">support</th></tr></thead>\n<tbody>\n",
    );
    for class in evaluation.per_class() {
        writeln!(
            page,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.3}</td><td>{}</td></tr>",
            escape(&class.class),
            percent_or_dash(class.average_precision),
            percent_or_dash(class.precision),
            percent_or_dash(class.recall),
            percent_or_dash(class.f1),
            class.threshold,
            thousands(class.support),
        )?;
    }
    page.push_str("</tbody>\n</table>\n</div>\n");
    if let Some(notice) = sets_without_samples_notice(evaluation, input.subject.subset) {
        writeln!(page, "<p class=\"notice\" role=\"note\">{}</p>", escape(&notice))?;
    }
    page.push_str("</section>\n");
    write_mistakes(
        &mut page,
        mistakes,
        "Highest loss first: images with a wrong or a missing label. The percentage is the probability of just the \
         predicted labels, as if they were independent.",
    )?;
    page.push_str("</main>\n</body>\n</html>\n");
    Ok(page)
}

/// One row per image: its position, what it is called, its labels and those predicted by their names, the loss, and the
/// probability of each class in a column of its name.
fn predictions(input: &SetReportInput) -> Result<Vec<u8>, ReportError> {
    let evaluation = input.evaluation;
    let joined = |classes: &[u32]| match classes {
        [] => String::new(),
        classes => csv_cell(&names(evaluation, classes)),
    };
    let mut rows = csv::Writer::from_writer(Vec::new());
    let classes = evaluation.class_names.iter().map(|name| csv_cell(name));
    let header = ["index", "file", "labels", "predicted", "loss"].map(str::to_owned);
    rows.write_record(header.into_iter().chain(classes))?;
    for prediction in &evaluation.predictions {
        let row = [
            prediction.index.to_string(),
            csv_cell(&(input.subject.name)(prediction.index)),
            joined(&prediction.targets),
            joined(&prediction.labels(&evaluation.thresholds)),
            prediction.loss.to_string(),
        ];
        rows.write_record(row.into_iter().chain(prediction.probabilities.iter().map(f32::to_string)))?;
    }
    rows.into_inner().map_err(|error| csv::Error::from(error.into_error()).into())
}

#[cfg(test)]
mod tests {
    use super::super::Subject;
    use super::*;
    use crate::multi_label::SetPrediction;
    use crate::report::ReportImage;

    #[test]
    fn the_report_has_the_figures_the_labels_by_name_and_no_confusion_matrix() {
        let predictions = vec![
            SetPrediction::new(0, &[0, 1], &[2.0, 3.0], 1.0),
            SetPrediction::new(1, &[], &[-2.0, 1.0], 1.0),
        ];
        let names = ["a<b", "=c"].map(String::from).to_vec();
        let evaluation = SetEvaluation::new(names, vec![0.5, 0.5], predictions).unwrap();
        let image = |_| Some(ReportImage { width: 4, height: 3, channels: 1, pixels: vec![9; 12].into() });
        let input = SetReportInput {
            subject: Subject {
                title: "a run",
                facts: &[],
                notices: &[],
                epochs: &[],
                best_epoch: None,
                subset: "test",
                name: &|index| format!("#{index}"),
                image: &image,
            },
            evaluation: &evaluation,
        };
        let files = render_sets(&input).unwrap();
        let found: Vec<_> = files.iter().map(|file| file.name).collect();
        assert_eq!(found, ["index.html", "mistakes.png", "evaluation.json", "predictions.csv"]);
        let text = |at: usize| std::str::from_utf8(&files[at].bytes).unwrap();
        assert!(text(0).contains("a&lt;b") && text(0).contains("micro F1") && !text(0).contains("Confusion"));
        let figures: serde_json::Value = serde_json::from_str(text(2)).unwrap();
        assert_eq!(
            (figures["task"].as_str(), figures["subset_accuracy"].as_f64()),
            (Some("multi-label"), Some(0.5))
        );
        assert_eq!(figures["per_class"][1]["support"], 1);
        let rows: Vec<&str> = text(3).lines().collect();
        // What a spreadsheet would take for a formula is no formula.
        assert!(rows[0].starts_with("index,file,labels,predicted,loss,a<b,") && !rows[0].ends_with(",=c"));
        assert!(rows[1].starts_with("0,#0,a<b;=c,a<b;=c,") && rows[2].starts_with("1,#1,,"), "{rows:?}");
    }
}

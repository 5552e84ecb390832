//! `index.html`: the whole report on one page that needs nothing beside it.

use std::fmt::{self, Write};

use model::thousands;

use super::canvas;
use super::coverage::CoveragePicture;
use super::curves::{Curve, Quantity};
use super::error::ReportError;
use super::input::{ReportInput, Subject};
use super::mistakes::Mistake;
use super::overfitting::overfitting_since;
use super::text::{escape, percent, percent_or_dash};
use crate::confidence::round_points;
use crate::metrics::{ClassMetrics, Evaluation};

/// Frequent mistakes listed on the page and in `evaluation.json`.
pub(super) const TOP_CONFUSIONS: usize = 10;

const STYLE: &str = include_str!("../../assets/report.css");

/// Bytes of a PNG file as the value of `src`.
fn data_uri(png: &[u8]) -> String {
    format!("data:image/png;base64,{}", base64(png))
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, i| bits << 8 | usize::from(group.get(i).copied().unwrap_or(0)));
        for i in 0..4 {
            let sextet = ALPHABET[bits >> (18 - 6 * i) & 63];
            text.push(if i <= group.len() { sextet.into() } else { '=' });
        }
    }
    text
}

/// The page. `confusion_svg` is the picture that also stands in a file of its own.
pub(super) fn html(
    input: &ReportInput,
    confusion_svg: &str,
    mistakes: &[Mistake],
) -> Result<String, ReportError> {
    let mut page = String::new();
    write_page(&mut page, input, confusion_svg, mistakes)?;
    Ok(page)
}

fn write_page(
    page: &mut String,
    input: &ReportInput,
    confusion_svg: &str,
    mistakes: &[Mistake],
) -> Result<(), ReportError> {
    let evaluation = input.evaluation;
    let confusion = &evaluation.confusion;
    let wrong = confusion.total() - confusion.correct();
    let headline = [
        (percent(confusion.accuracy()), format!("{} accuracy", input.subject.subset)),
        (percent_or_dash(confusion.macro_average().f1), "macro F1".to_owned()),
        (format!("{:.4}", evaluation.mean_loss), format!("{} loss", input.subject.subset)),
        (thousands(wrong), format!("wrong of {} images", thousands(confusion.total()))),
    ];
    write_top(page, &input.subject, &headline)?;
    write!(
        page,
        "<section>\n<h2>Confusion matrix</h2>\n<figure class=\"picture matrix\">{confusion_svg}</figure>\n</section>\n"
    )?;
    write_classes(page, input)?;
    write_confusions(page, input)?;
    write_coverage(page, input)?;
    write_mistakes(
        page,
        mistakes,
        "Highest loss first: the images whose true class was held for least likely. \
         The percentage is the calibrated probability of the predicted class; a rejected answer is one that is not \
         given when nothing else is asked for.",
    )?;
    page.push_str("</main>\n</body>\n</html>\n");
    Ok(())
}

/// All above what the task has to say: heading, figures, notices, facts and curves.
pub(super) fn write_top(
    page: &mut String,
    subject: &Subject,
    headline: &[(String, String)],
) -> Result<(), ReportError> {
    let title = escape(subject.title);
    write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title} – Kiln report</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
    )?;
    page.push_str("<ul class=\"headline\">\n");
    for (figure, what) in headline {
        writeln!(page, "<li><strong>{figure}</strong> <span>{}</span></li>", escape(what))?;
    }
    page.push_str("</ul>\n");

    for notice in subject.notices {
        writeln!(page, "<p class=\"notice\" role=\"note\">{}</p>", escape(notice))?;
    }
    if let Some(epoch) = overfitting_since(subject.epochs) {
        writeln!(page, "<p class=\"notice\" role=\"note\">{}</p>", escape(&notice(epoch)))?;
    }

    if !subject.facts.is_empty() {
        page.push_str("<section>\n<h2>The run</h2>\n<dl class=\"facts\">\n");
        for (key, value) in subject.facts {
            writeln!(page, "<div><dt>{}</dt><dd>{}</dd></div>", escape(key), escape(value))?;
        }
        page.push_str("</dl>\n</section>\n");
    }

    if !subject.epochs.is_empty() {
        page.push_str("<section>\n<h2>Training</h2>\n<div class=\"curves\">\n");
        for quantity in [Quantity::Loss, Quantity::Accuracy] {
            let (epochs, best_epoch) = (subject.epochs, subject.best_epoch);
            let curve = Curve { quantity, epochs, best_epoch };
            writeln!(page, "<figure class=\"picture\">{}</figure>", canvas::svg(&curve)?)?;
        }
        page.push_str("</div>\n</section>\n");
    }
    Ok(())
}

fn write_coverage(page: &mut String, input: &ReportInput) -> Result<(), ReportError> {
    if input.coverage.is_empty() {
        return Ok(());
    }
    let picture = canvas::svg(&CoveragePicture { curve: input.coverage })?;
    write!(
        page,
        "<section>\n<h2>Coverage against error</h2>\n<p>What is gained by refusing answers whose calibrated \
         probability is below a threshold.</p>\n<figure class=\"picture\">{picture}</figure>\n\
         <div class=\"scroll\" tabindex=\"0\">\n<table>\n<thead><tr><th scope=\"col\">refused below</th>\
         <th scope=\"col\">answered</th><th scope=\"col\">wrong of these</th></tr></thead>\n<tbody>\n"
    )?;
    for point in round_points(input.coverage) {
        writeln!(
            page,
            "<tr><th scope=\"row\">{:.4}</th><td>{}</td><td>{}</td></tr>",
            point.threshold,
            percent(point.coverage),
            percent(point.error)
        )?;
    }
    page.push_str("</tbody>\n</table>\n</div>\n</section>\n");
    Ok(())
}

/// What the page and the commands say about over-fitting.
pub(super) fn notice(epoch: usize) -> String {
    format!(
        "Over-fitting since epoch {epoch}: the validation loss rises while the training loss still falls. \
         The best epoch was kept. More data, augmentation, dropout, weight decay or early stopping help."
    )
}

/// What page and commands say about classes of which no image was evaluated; `subset` is the kind of the images.
pub(super) fn without_samples_notice(evaluation: &Evaluation, subset: &str) -> Option<String> {
    notice_of_empty(&evaluation.without_samples(), evaluation.class_names.len(), subset)
}

/// The same of the classes `names` among `classes`.
pub(super) fn notice_of_empty(names: &[String], classes: usize, subset: &str) -> Option<String> {
    // The part that is called `all` is no kind of images.
    let subset = if subset == "all" { String::new() } else { format!("{subset} ") };
    (!names.is_empty()).then(|| {
        format!(
            "{} of {} classes without {subset}images: {}. They have no figures, and averages over the classes are over \
             the others.",
            names.len(),
            classes,
            data::listed(names)
        )
    })
}

fn write_classes(page: &mut String, input: &ReportInput) -> fmt::Result {
    let confusion = &input.evaluation.confusion;
    page.push_str(
        "<section>\n<h2>Classes</h2>\n<div class=\"scroll\" tabindex=\"0\">\n<table>\n<thead><tr>\
         <th scope=\"col\">class</th><th scope=\"col\">precision</th><th scope=\"col\">recall</th>\
         <th scope=\"col\">F1</th><th scope=\"col\">support</th></tr></thead>\n<tbody>\n",
    );
    for (name, metrics) in input.evaluation.class_names.iter().zip(confusion.per_class()) {
        write_class(page, name, &metrics)?;
    }
    writeln!(page, "</tbody>\n<tfoot>")?;
    write_class(page, "macro average", &confusion.macro_average())?;
    write_class(page, "weighted average", &confusion.weighted_average())?;
    page.push_str("</tfoot>\n</table>\n</div>\n");
    if let Some(notice) = without_samples_notice(input.evaluation, input.subject.subset) {
        writeln!(page, "<p class=\"notice\" role=\"note\">{}</p>", escape(&notice))?;
    }
    page.push_str("</section>\n");
    Ok(())
}

fn write_class(page: &mut String, name: &str, metrics: &ClassMetrics) -> fmt::Result {
    writeln!(
        page,
        "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
        escape(name),
        percent_or_dash(metrics.precision),
        percent_or_dash(metrics.recall),
        percent_or_dash(metrics.f1),
        thousands(metrics.support),
    )
}

fn write_confusions(page: &mut String, input: &ReportInput) -> fmt::Result {
    let evaluation = input.evaluation;
    let top = evaluation.confusion.top_confusions(TOP_CONFUSIONS);
    if top.is_empty() {
        return Ok(());
    }
    page.push_str(
        "<section>\n<h2>Most frequent mistakes</h2>\n<div class=\"scroll\" tabindex=\"0\">\n<table>\n<thead><tr>\
         <th scope=\"col\">true class</th><th scope=\"col\" class=\"name\">taken for</th>\
         <th scope=\"col\">times</th><th scope=\"col\">share of the class</th></tr></thead>\n<tbody>\n",
    );
    for confusion in top {
        let support = evaluation.confusion.support(confusion.target);
        writeln!(
            page,
            "<tr><th scope=\"row\">{}</th><td class=\"name\">{}</td><td>{}</td><td>{}</td></tr>",
            escape(&evaluation.class_names[confusion.target]),
            escape(&evaluation.class_names[confusion.predicted]),
            thousands(confusion.count),
            percent(confusion.count as f64 / support as f64),
        )?;
    }
    page.push_str("</tbody>\n</table>\n</div>\n</section>\n");
    Ok(())
}

/// `about` says which they are.
pub(super) fn write_mistakes(
    page: &mut String,
    mistakes: &[Mistake],
    about: &str,
) -> Result<(), ReportError> {
    page.push_str("<section>\n<h2>Worst mistakes</h2>\n");
    if mistakes.is_empty() {
        page.push_str("<p>None: every image was classified correctly.</p>\n</section>\n");
        return Ok(());
    }
    write!(page, "<p>{about}</p>\n<ul class=\"mistakes\">\n")?;
    for mistake in mistakes {
        let (target, predicted) = (escape(&mistake.target), escape(&mistake.predicted));
        let file = escape(&mistake.file);
        let source = data_uri(&canvas::encode_png(&mistake.image)?);
        writeln!(
            page,
            "<li><figure><img src=\"{source}\" width=\"{}\" height=\"{}\" loading=\"lazy\" \
             alt=\"image {file}: {target}, predicted {predicted}\"><figcaption>\
             <b>{target}</b> → <b>{predicted}</b><br>{}{}<br><span>{file}</span></figcaption></figure></li>",
            mistake.image.width(),
            mistake.image.height(),
            percent(mistake.probability.into()),
            mistake.note(),
        )?;
    }
    page.push_str("</ul>\n</section>\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_equals_the_vectors_of_rfc_4648() {
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, encoded) in vectors {
            assert_eq!(base64(plain.as_bytes()), encoded, "{plain}");
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xbf]), "+/+/");
    }
}

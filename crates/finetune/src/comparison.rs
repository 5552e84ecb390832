//! Fine-tuned against from-scratch, on the same images with the same budget.

use std::process::ExitCode;

use evaluation::metrics_log::{EpochRecord, parse};
use evaluation::report::escape;
use serde::Serialize;
use train::command::{Failure, print, print_json};
use train::config::TrainConfig;
use train::config::arguments::CommonArguments;
use train::fit::Finished;
use train::run::folder::RunFolder;
use train::run::record::RunResult;
use train::start::Start;

/// With `--json`, what `finetune --compare-scratch` prints: the fine-tuned run's figures, and those of
/// the run from scratch under `scratch`.
#[derive(Serialize)]
struct Comparison<'a> {
    #[serde(flatten)]
    finetuned: &'a RunResult,
    scratch: &'a RunResult,
}

/// Fine-tunes, trains the same network from scratch, prints both and writes `report/comparison.html`.
///
/// # Errors
/// As the two runs.
pub fn run(config: TrainConfig, start: Start, common: &CommonArguments) -> Result<ExitCode, Failure> {
    let quiet = CommonArguments { json: false, ..common.clone() };
    let name = quiet.name.as_ref().map(|name| format!("{name}-scratch"));
    RunFolder::check_free(&quiet.out, name.as_deref())?;
    let (status, finetuned) = train::command::run_silently("finetune", &config, start, &quiet)?;
    let Some(finetuned) = finetuned else { return Ok(status) };
    tracing::info!("now the same network from scratch, on the same images with the same budget");
    let scratch_config = TrainConfig { finetune: None, ..config };
    let arguments = CommonArguments { name, ..quiet };
    let (status, scratch) =
        train::command::run_silently("train", &scratch_config, Start::Scratch, &arguments)?;
    let Some(scratch) = scratch else { return Ok(status) };

    let page = page(&finetuned, &scratch);
    let folder = RunFolder::open(finetuned.result.run.as_ref())?;
    folder.write("report/comparison.html", page.as_bytes())?;
    if common.json {
        print_json(&Comparison { finetuned: &finetuned.result, scratch: &scratch.result })?;
    } else {
        print(&table(&finetuned, &scratch))?;
        print(&format!("report  {}/report/comparison.html", finetuned.result.run))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn rows(finetuned: &Finished, scratch: &Finished) -> Vec<[String; 3]> {
    let row = |name: &str, figure: &dyn Fn(&RunResult) -> String| {
        [name.to_owned(), figure(&finetuned.result), figure(&scratch.result)]
    };
    if finetuned.result.multi_label.is_some() {
        let figures = |run: &RunResult| run.multi_label.as_ref().map(|found| found.figures);
        let rounded = |figure: Option<f64>| figure.map_or_else(untested, |figure| format!("{figure:.4}"));
        let is_tested = |run: &RunResult| run.test_accuracy.is_some();
        let tested = |run: &RunResult| figures(run).filter(|_| is_tested(run));
        return vec![
            row("test mAP", &|run| rounded(tested(run).and_then(|found| found.mean_average_precision))),
            row("test micro F1", &|run| rounded(tested(run).map(|found| found.micro_f1))),
            row("test macro F1", &|run| rounded(run.test_macro_f1)),
            row("test, all labels right", &|run| percent(run.test_accuracy)),
            row("validation mAP", &|run| format!("{:.4}", run.valid_score())),
            row("best epoch", &|run| format!("{} of {}", run.best_epoch, run.epochs)),
            row("seconds", &|run| format!("{:.1}", run.seconds)),
            row("run", &|run| run.run.clone()),
        ];
    }
    vec![
        row("test accuracy", &|run| percent(run.test_accuracy)),
        row("test macro F1", &|run| run.test_macro_f1.map_or_else(untested, |f1| format!("{f1:.4}"))),
        row("validation accuracy", &|run| format!("{:.2} %", run.valid_accuracy * 100.0)),
        row("best epoch", &|run| format!("{} of {}", run.best_epoch, run.epochs)),
        row("seconds", &|run| format!("{:.1}", run.seconds)),
        row("run", &|run| run.run.clone()),
    ]
}

fn percent(accuracy: Option<f64>) -> String {
    accuracy.map_or_else(untested, |accuracy| format!("{:.2} %", accuracy * 100.0))
}

fn untested() -> String {
    "-".to_owned()
}

fn table(finetuned: &Finished, scratch: &Finished) -> String {
    let mut text = format!("{:<22} {:>12} {:>12}\n", "", "fine-tuned", "from scratch");
    for [name, left, right] in rows(finetuned, scratch).iter().filter(|row| row[0] != "run") {
        text.push_str(&format!("{name:<22} {left:>12} {right:>12}\n"));
    }
    text.trim_end().to_owned()
}

/// A page with the figures and the validation accuracy after every epoch.
fn page(finetuned: &Finished, scratch: &Finished) -> String {
    let mut body = String::from("<table><tr><th></th><th>fine-tuned</th><th>from scratch</th></tr>");
    for [name, left, right] in rows(finetuned, scratch) {
        body.push_str(&format!(
            "<tr><th>{name}</th><td>{}</td><td>{}</td></tr>",
            escape(&left),
            escape(&right)
        ));
    }
    let what = if finetuned.result.multi_label.is_some() { "mean average precision" } else { "accuracy" };
    body.push_str(&format!(
        "</table><h2>Validation {what} after each epoch</h2><table><tr><th>epoch</th><th>fine-tuned</th>\
         <th>from scratch</th></tr>"
    ));
    let (left, right) = (epochs(&finetuned.result), epochs(&scratch.result));
    for index in 0..left.len().max(right.len()) {
        let cell = |records: &[EpochRecord]| {
            records
                .get(index)
                .map(|record| record.valid_mean_average_precision.unwrap_or(record.valid_accuracy))
                .map_or_else(String::new, |figure| format!("{:.2} %", figure * 100.0))
        };
        body.push_str(&format!(
            "<tr><th>{}</th><td>{}</td><td>{}</td></tr>",
            index + 1,
            cell(&left),
            cell(&right)
        ));
    }
    body.push_str("</table>");
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Fine-tuned against from scratch</title><style>:root{{color-scheme:light dark}}body{{font-family:system-ui,\
         sans-serif;margin:2rem auto;max-width:48rem;padding:0 1rem}}th,td{{text-align:right;padding:.25rem .75rem}}\
         th:first-child{{text-align:left}}</style><h1>Fine-tuned against from scratch</h1><p>The same network on the same \
         labelled images with the same configuration; only the starting weights, what is frozen and the rate of the features \
         differ.</p>{body}</html>\n"
    )
}

fn epochs(result: &RunResult) -> Vec<EpochRecord> {
    let path = std::path::Path::new(&result.run).join("metrics.jsonl");
    std::fs::read(path).ok().and_then(|bytes| parse(&bytes).ok()).map_or_else(Vec::new, |log| log.records)
}

//! `kiln lr-find`: which learning rate a configuration can bear.

use std::process::ExitCode;

use clap::Args;
use train::command::{Failure, configured, print, print_json, run_context, say, set_up};
use train::config::arguments::TrainArguments;
use train::engine::interrupt::INTERRUPTED;
use tune::lr_find::{RangeTest, RangeTestConfig, range_test};

/// Flags of `kiln lr-find`.
#[derive(Args, Debug)]
pub(crate) struct LrFindArguments {
    #[command(flatten)]
    train: TrainArguments,
    /// First learning rate
    #[arg(long, value_name = "RATE", default_value = "1e-6")]
    low: f64,
    /// Last learning rate, unless the loss diverges before
    #[arg(long, value_name = "RATE", default_value = "10")]
    high: f64,
    /// Updates between them
    #[arg(long, value_name = "N", default_value = "200")]
    steps: usize,
}

pub(crate) fn run(arguments: &LrFindArguments) -> Result<ExitCode, Failure> {
    let common = &arguments.train.common;
    set_up(common)?;
    for (flag, given) in [
        ("--resume", common.resume.is_some()),
        ("--folds", common.folds.is_some()),
        ("--checkpoint-every", common.checkpoint_every.is_some()),
    ] {
        if given {
            return Err(Failure::usage(format!(
                "{flag} has no meaning for lr-find: it trains nothing to keep"
            )));
        }
    }
    let RangeTestConfig { low, high, steps } =
        RangeTestConfig { low: arguments.low, high: arguments.high, steps: arguments.steps };
    if !(low > 0.0 && high > low && high.is_finite()) {
        return Err(Failure::usage(format!("--low {low} --high {high}: expected 0 < low < high")));
    }
    if !(20..=100_000).contains(&steps) {
        return Err(Failure::usage(format!("--steps {steps}: expected 20 to 100000")));
    }
    let (config, start) = configured(&arguments.train)?;
    let context = run_context("lr-find", common)?;
    let Some(test) = range_test(&config, RangeTestConfig { low, high, steps }, &context, start)? else {
        say("stopped; nothing was written");
        return Ok(ExitCode::from(INTERRUPTED as u8));
    };
    if common.json {
        print_json(&test)?;
    } else {
        print(&in_words(&test))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn in_words(test: &RangeTest) -> String {
    let rate = |rate: Option<f64>, otherwise: &str| {
        rate.map_or_else(|| otherwise.to_owned(), |rate| format!("{rate:.1e}"))
    };
    let suggestion = match test.suggestion {
        Some(suggestion) if test.plateau => format!(
            "suggested  --learning-rate {suggestion:.1e} (of the steepest fall: the data was learned before the rate was \
             high, so the test does not show how high it may be)"
        ),
        Some(suggestion) => format!("suggested  --learning-rate {suggestion:.1e}"),
        None => "no suggestion: the loss never fell; give a wider range with --low and --high".to_owned(),
    };
    format!(
        "{suggestion}\nleast loss {}\nsteepest   {}\ndiverged   {}\npicture    {}/report/lr-find.svg",
        rate(test.least, "nowhere"),
        rate(test.steepest, "nowhere"),
        rate(test.diverged, &format!("not up to {:.1e}", test.range.high)),
        test.run
    )
}

//! What a sweep varies: ranges of configuration keys, and the trials drawn from them.

use toml::{Table, Value};
use train::seed::mix;

use super::error::SweepError;

/// Trials of a sweep at most.
pub(super) const MOST_TRIALS: usize = 1000;
/// Draws before a space counts as exhausted.
const ATTEMPTS: u64 = 1000;

/// The values that one key may take.
#[derive(Clone, Debug, PartialEq)]
pub enum Range {
    /// One of these.
    Choice(Vec<Value>),
    /// A real number between two others.
    Real {
        /// Smallest value.
        low: f64,
        /// Largest value.
        high: f64,
        /// Whether equal ratios count the same, instead of equal differences.
        log: bool,
        /// Values on a grid.
        steps: Option<usize>,
    },
    /// A whole number between two others, both included.
    Integer {
        /// Smallest value.
        low: i64,
        /// Largest value.
        high: i64,
        /// Values on a grid; all of them when absent.
        steps: Option<usize>,
    },
}

/// A key of the configuration with its range.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Dotted key.
    pub key: String,
    /// Its values.
    pub range: Range,
}

/// The values of all parameters, in their order.
pub type Values = Vec<(String, Value)>;

const FORMS: &str = "a list of values, or one of { choice = [...] }, { uniform = [low, high] }, \
                     { log_uniform = [low, high] } and { integer = [low, high] }, the last three with `steps` for a grid";
const KINDS: [&str; 4] = ["choice", "uniform", "log_uniform", "integer"];

/// Keys that a sweep must not vary: accuracies on other validation images, on the same ones prepared in another way, or
/// after other numbers of epochs, cannot be compared.
const FIXED: &[(&str, &str)] = &[
    ("seed", "it also decides which images are held back"),
    ("data.dataset", OTHER_IMAGES),
    ("data.valid_fraction", OTHER_IMAGES),
    ("data.test_fraction", OTHER_IMAGES),
    ("data.limit", OTHER_IMAGES),
    ("data.limit_per_class", OTHER_IMAGES),
    ("data.on_bad_image", OTHER_IMAGES),
    ("data.memory_mib", OTHER_IMAGES),
    ("data.input", PREPARED_OTHERWISE),
    ("data.channels", PREPARED_OTHERWISE),
    ("data.fit", PREPARED_OTHERWISE),
    ("data.resize", PREPARED_OTHERWISE),
    ("data.fold", "use sweep.folds"),
    ("data.folds", "use sweep.folds"),
    ("test", "no trial reads the test split"),
    ("backend", "it decides how fast a trial is, not how good"),
    ("kernels", "it decides how fast a trial is, not how good"),
    ("finetune.from", "start one sweep for each model"),
    ("finetune.from_weights_sha256", "it follows from finetune.from"),
];
const OTHER_IMAGES: &str = "accuracies on other images cannot be compared";
const PREPARED_OTHERWISE: &str =
    "the images are read once for all trials, and accuracies on images of another size cannot be compared";

/// Why a key cannot be varied; nor can a table as a whole that holds such a key.
fn fixed(key: &str) -> Option<&'static str> {
    let inside = |fixed: &str| fixed.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'));
    FIXED.iter().find_map(|(fixed, reason)| match *fixed {
        fixed if fixed == key => Some(*reason),
        fixed if inside(fixed) => Some("it holds keys that cannot be varied; name the others one by one"),
        _ => None,
    })
}

/// Reads `[sweep.parameters]`. Keys may be quoted (`"optimizer.name"`) or nested.
///
/// # Errors
/// On a range that is none, an empty one, and keys that a sweep must not vary.
pub fn parameters(table: &Table) -> Result<Vec<Parameter>, SweepError> {
    let mut found = Vec::new();
    collect("", table, &mut found)?;
    if found.is_empty() {
        return Err(SweepError::setting("sweep.parameters", "{}", "at least one key with a range"));
    }
    found.sort_by(|a: &Parameter, b| a.key.cmp(&b.key));
    if let Some(pair) = found.windows(2).find(|pair| pair[0].key == pair[1].key) {
        return Err(SweepError::setting("sweep.parameters", &pair[0].key, "each key once"));
    }
    Ok(found)
}

fn collect(prefix: &str, table: &Table, found: &mut Vec<Parameter>) -> Result<(), SweepError> {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            Value::Table(inner)
                if !inner.is_empty() && !KINDS.iter().any(|kind| inner.contains_key(*kind)) =>
            {
                collect(&key, inner, found)?;
            }
            _ => {
                if let Some(reason) = fixed(&key) {
                    return Err(SweepError::Fixed { key, reason });
                }
                let range = Range::parse(value)
                    .ok_or_else(|| SweepError::setting(&format!("sweep.parameters.{key}"), value, FORMS))?;
                found.push(Parameter { key, range });
            }
        }
    }
    Ok(())
}

impl Range {
    fn parse(value: &Value) -> Option<Self> {
        let table = match value {
            Value::Array(values) => return Self::choice(values),
            Value::Table(table) => table,
            _ => return None,
        };
        let kind = KINDS.into_iter().find(|kind| table.contains_key(*kind))?;
        if table.keys().any(|key| key != kind && (key != "steps" || kind == "choice")) {
            return None;
        }
        let steps = match table.get("steps") {
            Some(steps) => Some(usize::try_from(steps.as_integer()?).ok().filter(|steps| *steps >= 2)?),
            None => None,
        };
        let bounds = table[kind].as_array()?;
        if kind == "choice" {
            return Self::choice(bounds);
        }
        let [low, high] = bounds.as_slice() else { return None };
        if kind == "integer" {
            let (low, high) = (low.as_integer()?, high.as_integer()?);
            return (low < high && high.checked_sub(low).is_some()).then_some(Self::Integer {
                low,
                high,
                steps,
            });
        }
        let real = |value: &Value| value.as_float().or_else(|| value.as_integer().map(|value| value as f64));
        let (low, high, log) = (real(low)?, real(high)?, kind == "log_uniform");
        let good = low < high && (high - low).is_finite() && (!log || low > 0.0);
        good.then_some(Self::Real { low, high, log, steps })
    }

    fn choice(values: &[Value]) -> Option<Self> {
        (!values.is_empty()).then(|| Self::Choice(values.to_vec()))
    }

    /// The value at a share of the way, 0 up to 1.
    fn at(&self, share: f64) -> Value {
        match self {
            Self::Choice(values) => {
                values[((share * values.len() as f64) as usize).min(values.len() - 1)].clone()
            }
            Self::Integer { low, high, .. } => {
                let width = (high - low) as f64 + 1.0;
                Value::Integer(low.saturating_add((share * width) as i64).min(*high))
            }
            Self::Real { .. } => Value::Float(self.real(share)),
        }
    }

    /// As [`Range::at`], with a share of 1 for the upper end; four significant digits.
    fn real(&self, share: f64) -> f64 {
        let Self::Real { low, high, log, .. } = *self else { return share };
        let value = if log { low * (high / low).powf(share) } else { low + (high - low) * share };
        format!("{value:.3e}").parse().unwrap_or(value).clamp(low, high)
    }

    /// All values on a grid; `None` when their number is not given.
    fn grid(&self) -> Option<Vec<Value>> {
        let mut values: Vec<Value> = match self {
            Self::Choice(values) => values.clone(),
            Self::Integer { low, high, steps: None } => {
                // One more than allowed is enough to be refused.
                (*low..=*high).take(MOST_TRIALS + 1).map(Value::Integer).collect()
            }
            Self::Integer { low, high, steps: Some(steps) } => shares(*steps)
                .map(|share| Value::Integer(low + ((high - low) as f64 * share).round() as i64))
                .collect(),
            Self::Real { steps, .. } => {
                shares((*steps)?).map(|share| Value::Float(self.real(share))).collect()
            }
        };
        values.dedup();
        Some(values)
    }
}

fn shares(steps: usize) -> impl Iterator<Item = f64> {
    (0..steps.min(MOST_TRIALS + 1)).map(move |step| step as f64 / (steps - 1) as f64)
}

/// Every combination, the last parameter changing fastest.
///
/// # Errors
/// When a range has no number of steps, or there are more than `MOST_TRIALS`.
pub fn grid(parameters: &[Parameter]) -> Result<Vec<Values>, SweepError> {
    let mut trials: Vec<Values> = vec![Vec::new()];
    for Parameter { key, range } in parameters {
        let values = range.grid().ok_or_else(|| {
            SweepError::setting(
                &format!("sweep.parameters.{key}"),
                "a range without `steps`",
                "`steps`, the number of values on the grid",
            )
        })?;
        let number = trials.len() * values.len();
        if number > MOST_TRIALS {
            return Err(SweepError::setting(
                "sweep.parameters",
                format!("a grid of {number} trials or more"),
                "at most 1000; use strategy = \"random\"",
            ));
        }
        trials = trials
            .iter()
            .flat_map(|trial| {
                values.iter().map(|value| {
                    let mut trial = trial.clone();
                    trial.push((key.clone(), value.clone()));
                    trial
                })
            })
            .collect();
    }
    Ok(trials)
}

/// `number` different trials, each a function of (seed, its number, key); fewer when the space has no more.
pub fn random(parameters: &[Parameter], number: usize, seed: u64) -> Vec<Values> {
    let mut trials: Vec<Values> = Vec::new();
    while trials.len() < number {
        let index = trials.len() as u64;
        let draw = |attempt: u64| -> Values {
            parameters
                .iter()
                .map(|Parameter { key, range }| {
                    let name = key.bytes().fold(0, |state, byte| mix(&[state, u64::from(byte)]));
                    // 53 random bits: every share is exact and below 1.
                    let bits = mix(&[seed, index, attempt, name]) >> 11;
                    (key.clone(), range.at(bits as f64 / (1u64 << 53) as f64))
                })
                .collect()
        };
        let Some(values) = (0..ATTEMPTS).map(draw).find(|values| !trials.contains(values)) else {
            tracing::warn!("the ranges hold {index} different trials only; {number} were asked for");
            break;
        };
        trials.push(values);
    }
    trials
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn space(text: &str) -> Result<Vec<Parameter>, SweepError> {
        parameters(&text.parse::<Table>().unwrap())
    }

    #[test]
    fn every_form_is_read() {
        let quoted = space(
            "\"optimizer.learning_rate\" = { log_uniform = [1e-4, 1e-2], steps = 3 }\n\
             \"network.dense\" = { choice = [[], [128]] }\n\
             batch_size = [32, 64]\n\"schedule.patience\" = { integer = [1, 3] }",
        )
        .unwrap();
        let keys: Vec<&str> = quoted.iter().map(|parameter| parameter.key.as_str()).collect();
        assert_eq!(keys, ["batch_size", "network.dense", "optimizer.learning_rate", "schedule.patience"]);
        let nested = space(
            "batch_size = [32, 64]\n[network]\ndense = [[], [128]]\n\
             [optimizer]\nlearning_rate = { log_uniform = [1e-4, 1e-2], steps = 3 }\n\
             [schedule]\npatience = { integer = [1, 3] }",
        )
        .unwrap();
        assert_eq!(nested, quoted);
    }

    #[test]
    fn a_grid_is_every_combination() {
        let trials =
            grid(&space("a = [1, 2]\nb = { log_uniform = [0.01, 1.0], steps = 3 }").unwrap()).unwrap();
        let found: Vec<(i64, f64)> = trials
            .iter()
            .map(|trial| (trial[0].1.as_integer().unwrap(), trial[1].1.as_float().unwrap()))
            .collect();
        assert_eq!(found, [(1, 0.01), (1, 0.1), (1, 1.0), (2, 0.01), (2, 0.1), (2, 1.0)]);
        let integers = grid(&space("a = { integer = [0, 10], steps = 3 }").unwrap()).unwrap();
        assert_eq!(integers.iter().map(|t| t[0].1.as_integer().unwrap()).collect::<Vec<_>>(), [0, 5, 10]);
        let error = grid(&space("a = { uniform = [0, 1] }").unwrap()).unwrap_err().to_string();
        assert!(error.contains("sweep.parameters.a") && error.contains("steps"), "{error}");
        let huge = space("a = { integer = [0, 9000000000000000000] }\nb = { uniform = [0, 1], steps = 900 }")
            .unwrap();
        assert!(grid(&huge).unwrap_err().to_string().contains("at most 1000"));
    }

    #[test]
    fn random_trials_are_a_function_of_the_seed_and_never_repeat() {
        let space = space("a = [1, 2, 3]\nb = [true, false]").unwrap();
        let all = random(&space, 100, 7);
        assert_eq!(all.len(), 6, "the space is exhausted");
        assert_eq!(random(&space, 4, 7), all[..4], "more trials leave the first as they are");
        assert_ne!(random(&space, 4, 8), all[..4]);
    }

    #[test]
    fn what_is_no_range_is_an_error_that_names_the_key() {
        for text in [
            "a = 3",
            "a = []",
            "a = {}",
            "a = { choice = [] }",
            "a = { uniform = [1] }",
            "a = { uniform = [2, 1] }",
            "a = { uniform = [1, inf] }",
            "a = { uniform = [nan, 1] }",
            "a = { log_uniform = [0, 1] }",
            "a = { integer = [1.5, 2] }",
            "a = { integer = [-9223372036854775807, 9223372036854775807] }",
            "a = { uniform = [1, 2], steps = 1 }",
            "a = { choice = [1], steps = 3 }",
            "a = { uniform = [1, 2], integer = [1, 2] }",
            "a = { uniforn = [1, 2], steps = 2 }",
        ] {
            let error = space(text).unwrap_err().to_string();
            assert!(error.contains("sweep.parameters.a"), "{text}: {error}");
        }
        assert!(space("").unwrap_err().to_string().contains("at least one key"));
        assert!(space("seed = [1, 2]").unwrap_err().to_string().contains("held back"));
        for (key, reason) in FIXED {
            for text in [format!("\"{key}\" = [1, 2]"), format!("{key} = {{ choice = [1] }}")] {
                let error = space(&text).unwrap_err().to_string();
                assert!(error.contains(key) && error.contains(reason), "{text}: {error}");
            }
        }
        // A whole table would bring such a key along.
        for table in
            ["data = [{ limit = 10 }, { limit = 20 }]", "finetune = { choice = [{ freeze = \"none\" }] }"]
        {
            let error = space(table).unwrap_err().to_string();
            assert!(error.contains("one by one"), "{table}: {error}");
        }
        space("data.augment = [{ shift = 1.0 }, { shift = 2.0 }]").unwrap();
        let twice = space("\"a.b\" = [1]\n[a]\nb = [2]").unwrap_err().to_string();
        assert!(twice.contains("a.b") && twice.contains("once"), "{twice}");
    }

    proptest! {
        #[test]
        fn draws_stay_in_their_range(low in -1e3f64..1e3, width in 1e-3f64..1e3, seed: u64, from in -50i64..50) {
            let (low, high) = (low.round(), low.round() + width);
            let real = Range::Real { low, high, log: false, steps: None };
            let positive = Range::Real { low: width, high: width * 1e3, log: true, steps: None };
            let integer = Range::Integer { low: from, high: from + 3, steps: None };
            let parameters: Vec<Parameter> = [("a", real), ("b", positive), ("c", integer)]
                .into_iter()
                .map(|(key, range)| Parameter { key: key.to_owned(), range })
                .collect();
            for trial in random(&parameters, 20, seed) {
                let float = |index: usize| trial[index].1.as_float().unwrap();
                prop_assert!((low..=high).contains(&float(0)));
                prop_assert!((width..=width * 1e3).contains(&float(1)));
                prop_assert!((from..=from + 3).contains(&trial[2].1.as_integer().unwrap()));
            }
        }

        #[test]
        fn any_table_is_read_or_refused(text in "[a-d]{1,2} = (\\{ (choice|uniform|integer|steps) = (\\[-?[0-9]{0,3}(, [0-9.]{1,3})?\\]|[0-9]{1,3}) \\}|\\[\\]|[0-9])") {
            if let Ok(table) = text.parse::<Table>()
                && let Ok(parameters) = parameters(&table)
            {
                let _ = grid(&parameters);
                prop_assert!(!random(&parameters, 3, 1).is_empty());
            }
        }
    }
}

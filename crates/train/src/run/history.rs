//! Which code computed a run. The last bits of every figure depend on the kernels' path and on the version of Kiln, so
//! a run keeps the path that it began with, wherever it goes on; where it cannot, that is said and recorded.

use serde::{Deserialize, Serialize};

use crate::device::Kernels;

/// The code that computed a run from one step up to that of the next entry, or the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeVersion {
    /// Batches that were done before.
    pub from_step: usize,
    /// The path of the CPU kernels.
    pub kernels: String,
    /// The version of Kiln.
    pub kiln: String,
}

/// The version that computes now.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Chooses the code for a run that has done `step` batches so far, by the code in `history`, and gives the history
/// that it has from here on. A run without one takes the kernels of its configuration.
///
/// # Errors
/// When nothing is recorded and the configuration's kernels cannot run here.
pub(crate) fn go_on(
    mut history: Vec<CodeVersion>,
    step: usize,
    configured: Kernels,
) -> Result<Vec<CodeVersion>, model::ops::KernelsError> {
    // Of what came after the checkpoint nothing is left.
    history.retain(|computed| computed.from_step < step);
    let Some(last) = history.last() else {
        let kernels = configured.apply()?.name().to_owned();
        return Ok(vec![CodeVersion { from_step: step, kernels, kiln: VERSION.to_owned() }]);
    };
    let wanted = model::ops::Path::named(&last.kernels).filter(|path| path.is_supported());
    let path = match wanted {
        Some(path) => {
            let asked = model::ops::path_by_default()?;
            if std::env::var_os(model::ops::VARIABLE).is_some_and(|value| !value.is_empty()) && asked != path
            {
                tracing::warn!(
                    "{}={} is not taken: the run keeps the kernels that it began with, {}",
                    model::ops::VARIABLE,
                    asked.name(),
                    path.name()
                );
            }
            model::ops::set_path(Some(path))?;
            path
        }
        None => {
            let path = Kernels::Auto.apply()?;
            tracing::warn!(
                "the run was computed with the kernels {}, which this processor cannot run; it goes on with {}, and \
                 ends with other bits than it would have ended with there (run.json keeps both)",
                last.kernels,
                path.name()
            );
            path
        }
    };
    if last.kiln != VERSION {
        tracing::warn!(
            "the run was computed by Kiln {} and goes on with {VERSION}: it may end with other bits (run.json keeps both)",
            last.kiln
        );
    }
    if last.kernels != path.name() || last.kiln != VERSION {
        let kernels = path.name().to_owned();
        history.push(CodeVersion { from_step: step, kernels, kiln: VERSION.to_owned() });
    }
    Ok(history)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn computed(from_step: usize, kernels: &str, kiln: &str) -> CodeVersion {
        CodeVersion { from_step, kernels: kernels.to_owned(), kiln: kiln.to_owned() }
    }

    /// Only paths that change nothing for the tests beside this one.
    #[test]
    fn what_changes_is_recorded_and_what_came_later_forgotten() {
        let here = model::ops::path_by_default().unwrap().name();
        let same = || computed(0, here, VERSION);
        assert_eq!(go_on(Vec::new(), 0, Kernels::Auto).unwrap(), [same()]);
        assert_eq!(go_on(vec![same()], 7, Kernels::Auto).unwrap(), [same()]);
        let lacking = computed(0, "from-another-processor", VERSION);
        let after = go_on(vec![lacking.clone()], 7, Kernels::Auto).unwrap();
        assert_eq!(after, [lacking, computed(7, here, VERSION)]);
        let older = computed(0, here, "0.0.1");
        let after = go_on(vec![older.clone()], 7, Kernels::Auto).unwrap();
        assert_eq!(after, [older.clone(), computed(7, here, VERSION)]);
        // From a checkpoint before the change, and from the beginning.
        assert_eq!(go_on(after.clone(), 5, Kernels::Auto).unwrap(), [older, computed(5, here, VERSION)]);
        assert_eq!(go_on(after, 0, Kernels::Auto).unwrap(), [same()]);
        model::ops::set_path(None).unwrap();
    }
}

//! The tasks there are.

use model::TaskName;

use crate::task::classify::Classify;
use crate::task::kind::Task;
use crate::task::multi_label::MultiLabel;

/// The task of this name.
pub fn of(name: TaskName) -> &'static dyn Task {
    match name {
        TaskName::Classify => &Classify,
        TaskName::MultiLabel => &MultiLabel,
    }
}

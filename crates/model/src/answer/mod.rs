//! From a network to answers: one label for a picture, a line of digits, a head taught by examples, and why.

mod classifier;
mod explain;
mod head;
mod reading;

pub use classifier::{
    ClassProbability, Classifier, ClassifyError, Policy, Prediction, Prepared, Reason,
    is_out_of_distribution, scores,
};
pub use explain::{Explanation, Map};
pub use head::{Head, Lesson, TeachError, Teaching};
pub use reading::{ReadDigit, Reading};

//! Teaching the last layer a few examples, without the data that the network was trained on.

use burn::tensor::TensorData;

use crate::{
    Network, RecordError,
    numbers::softmax_in_place,
    weights::record::{Loading, load_partial, named_tensors, values},
};

/// The last layer: `logits = features * weight + bias`.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// `[F, K]`, row by row.
    pub weight: Vec<f32>,
    /// `[K]`
    pub bias: Vec<f32>,
}

/// An example to learn.
#[derive(Clone, Debug, PartialEq)]
pub struct Lesson {
    /// What the last layer sees of it, `[F]`.
    pub features: Vec<f32>,
    /// The class that it belongs to.
    pub class: usize,
}

/// How much a head may change for its lessons, and how long it learns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Teaching {
    /// Weight of the penalty on the distance from the old head, per mean squared length of the
    /// lessons' features. Smaller: lessons are learned more surely, and more of the rest is forgotten.
    pub stay: f64,
    /// Steps of gradient descent.
    pub steps: usize,
}

impl Default for Teaching {
    /// Measured on 10,000 of MNIST's training images with the reference model's features: each of 40 misread
    /// digits is read right after one lesson, at a mean cost of 0.03 points of accuracy (at most 0.7); three
    /// digits turned by a quarter are learned at 0.1 points, ten at 0.5, and ten mirrored ones, which look
    /// like other digits, at 2.4. With 0.1 a single lesson on a mirrored digit does not suffice in 3 of 5
    /// cases; with 0.01 the costs double.
    fn default() -> Self {
        Self { stay: 0.03, steps: 300 }
    }
}

/// Why a head cannot be taught.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TeachError {
    /// A lesson of another length than the head takes.
    #[error("lesson {lesson}: {found} features, the head takes {expected}; take them from the same network")]
    Features {
        /// Position of the lesson, from 0.
        lesson: usize,
        /// Features of the head.
        expected: usize,
        /// Features of the lesson.
        found: usize,
    },
    /// A class that the head does not have.
    #[error("lesson {lesson}: class {class}; expected one of 0 to {}", .classes - 1)]
    Class {
        /// Position of the lesson, from 0.
        lesson: usize,
        /// Class of the lesson.
        class: usize,
        /// Classes of the head.
        classes: usize,
    },
}

impl Head {
    /// Logits `[K]` of features `[F]`, summed in `f64`.
    pub fn logits(&self, features: &[f32]) -> Vec<f64> {
        let mut logits: Vec<f64> = self.bias.iter().map(|&bias| f64::from(bias)).collect();
        for (&feature, row) in features.iter().zip(self.weight.chunks_exact(self.bias.len())) {
            if feature != 0.0 {
                for (logit, &weight) in logits.iter_mut().zip(row) {
                    *logit += f64::from(feature) * f64::from(weight);
                }
            }
        }
        logits
    }

    /// The head that minimises, over its change `D` (bias included),
    ///
    /// `sum_i cross_entropy(lesson_i) + stay / 2 * mean_i |f_i|^2 * |D|^2`
    ///
    /// with `f_i` the features of lesson `i` and a 1 for the bias: softmax regression with a Gaussian
    /// prior around the old head (Bishop, Pattern Recognition and Machine Learning, 4.3.4 and 4.5). The
    /// sum is convex, so the result does not depend on the order of the lessons.
    ///
    /// The change is a combination of the lessons' features, `D = sum_i f_i a_i'`; gradient descent runs
    /// on the `a_i` with Nesterov's momentum, which costs `N^2 K` a step whatever `F` is.
    ///
    /// # Errors
    /// A lesson whose features or class do not fit.
    pub fn taught(&self, lessons: &[Lesson], teaching: &Teaching) -> Result<Self, TeachError> {
        let classes = self.bias.len();
        let inputs = self.weight.len() / classes.max(1);
        for (lesson, Lesson { features, class }) in lessons.iter().enumerate() {
            if features.len() != inputs {
                return Err(TeachError::Features { lesson, expected: inputs, found: features.len() });
            }
            if *class >= classes {
                return Err(TeachError::Class { lesson, class: *class, classes });
            }
        }
        if lessons.is_empty() {
            return Ok(self.clone());
        }

        let n = lessons.len();
        let before: Vec<Vec<f64>> = lessons.iter().map(|lesson| self.logits(&lesson.features)).collect();
        let gram = gram(lessons); // [N, N]
        let trace: f64 = (0..n).map(|i| gram[i * n + i]).sum();
        let penalty = teaching.stay * trace / n as f64;
        // The softmax's curvature is at most 1/2, and the largest eigenvalue of the Gram matrix at most its trace.
        let rate = 1.0 / (0.5 * trace + penalty);

        // The gradient for D is sum_i f_i (p_i - y_i)' + penalty * D; in terms of a_i, p_i - y_i + penalty * a_i.
        let mut change = vec![0.0; n * classes]; // a, [N, K]
        let mut ahead = change.clone();
        let mut momentum = 1.0f64;
        for _ in 0..teaching.steps {
            let mut next = ahead.clone();
            for (i, (lesson, before)) in lessons.iter().zip(&before).enumerate() {
                let mut logits = before.clone();
                for (j, row) in ahead.chunks_exact(classes).enumerate() {
                    for (logit, a) in logits.iter_mut().zip(row) {
                        *logit += gram[i * n + j] * a;
                    }
                }
                softmax_in_place(&mut logits, 1.0);
                logits[lesson.class] -= 1.0;
                for (k, error) in logits.iter().enumerate() {
                    let at = i * classes + k;
                    next[at] -= rate * (error + penalty * ahead[at]);
                }
            }
            let following = f64::midpoint(1.0, (1.0 + 4.0 * momentum * momentum).sqrt());
            let carry = (momentum - 1.0) / following;
            ahead = next.iter().zip(&change).map(|(next, last)| next + carry * (next - last)).collect();
            (change, momentum) = (next, following);
        }
        Ok(self.moved(lessons, &change))
    }

    /// With `sum_i f_i a_i'` added.
    fn moved(&self, lessons: &[Lesson], change: &[f64]) -> Self {
        let classes = self.bias.len();
        let mut weight: Vec<f64> = self.weight.iter().map(|&value| f64::from(value)).collect();
        let mut bias: Vec<f64> = self.bias.iter().map(|&value| f64::from(value)).collect();
        for (lesson, a) in lessons.iter().zip(change.chunks_exact(classes)) {
            for (&feature, row) in lesson.features.iter().zip(weight.chunks_exact_mut(classes)) {
                for (weight, a) in row.iter_mut().zip(a) {
                    *weight += f64::from(feature) * a;
                }
            }
            for (bias, a) in bias.iter_mut().zip(a) {
                *bias += a;
            }
        }
        let single = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
        Self { weight: single(weight), bias: single(bias) }
    }
}

/// Products of all pairs of lessons `[N, N]`, with the 1 for the bias.
fn gram(lessons: &[Lesson]) -> Vec<f64> {
    let product = |a: &Lesson, b: &Lesson| {
        1.0 + a.features.iter().zip(&b.features).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>()
    };
    lessons.iter().flat_map(|a| lessons.iter().map(move |b| product(a, b))).collect()
}

/// The names that the last layer has in every network's record.
const WEIGHT: &str = "head.weight";
const BIAS: &str = "head.bias";

impl Head {
    /// The last layer of a network; none where it has no bias or another form.
    pub fn of(network: &Network) -> Option<Self> {
        let tensors = named_tensors(network);
        let find = |name| tensors.iter().find(|(found, _)| found == name).map(|(_, data)| data);
        let (weight, bias) = (find(WEIGHT)?, find(BIAS)?);
        let fits = weight.shape().num_dims() == 2 && bias.shape()[..] == weight.shape()[1..];
        fits.then(|| Self { weight: values(weight).into_owned(), bias: values(bias).into_owned() })
    }

    /// This head with classes of another: class `k` becomes class `from[k]` of `other`, and stays its own where that is
    /// none. `None` when the heads take different features, or a class is not there.
    pub fn with_classes_of(&self, other: &Self, from: &[Option<usize>]) -> Option<Self> {
        let (classes, others) = (self.bias.len(), other.bias.len());
        let fits = from.len() == classes && from.iter().flatten().all(|&class| class < others);
        if !fits || self.weight.len() * others != other.weight.len() * classes {
            return None;
        }
        let mut head = self.clone();
        for (class, from) in from.iter().enumerate().filter_map(|(class, from)| Some((class, (*from)?))) {
            head.bias[class] = other.bias[from];
            let rows = head.weight.chunks_exact_mut(classes).zip(other.weight.chunks_exact(others));
            rows.for_each(|(own, other)| own[class] = other[from]);
        }
        Some(head)
    }

    /// The network with this last layer instead of its own.
    ///
    /// # Errors
    /// A head of another size than the network's.
    pub fn put_on(&self, network: Network) -> Result<Network, RecordError> {
        let classes = self.bias.len();
        let inputs = self.weight.len() / classes.max(1);
        let record = [
            (BIAS.to_owned(), TensorData::new(self.bias.clone(), [classes])),
            (WEIGHT.to_owned(), TensorData::new(self.weight.clone(), [inputs, classes])),
        ];
        let only_head =
            |name: &str| if name.starts_with("head.") { Loading::Required } else { Loading::Skip };
        Ok(load_partial(network, &record, only_head)?.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{CnnConfig, InputShape, NetworkConfig};

    fn lesson(features: &[f32], class: usize) -> Lesson {
        Lesson { features: features.to_vec(), class }
    }

    fn probabilities(head: &Head, features: &[f32]) -> Vec<f64> {
        let mut logits = head.logits(features);
        softmax_in_place(&mut logits, 1.0);
        logits
    }

    /// What [`Head::taught`] minimises, from its definition.
    fn objective(old: &Head, new: &Head, lessons: &[Lesson], stay: f64) -> f64 {
        let losses: f64 = lessons.iter().map(|l| -probabilities(new, &l.features)[l.class].ln()).sum();
        let length: f64 = lessons
            .iter()
            .map(|l| 1.0 + l.features.iter().map(|&f| f64::from(f).powi(2)).sum::<f64>())
            .sum::<f64>()
            / lessons.len() as f64;
        let square = |old: &[f32], new: &[f32]| {
            old.iter().zip(new).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>()
        };
        losses + stay / 2.0 * length * (square(&old.weight, &new.weight) + square(&old.bias, &new.bias))
    }

    #[test]
    fn two_classes_and_one_lesson_by_hand() {
        // With no features only the biases move, by (-d, d): the condition for the minimum is
        // p(wrong) = stay * d with p(wrong) = 1 / (1 + exp(2 d)).
        let head = Head { weight: vec![], bias: vec![0.0, 0.0] };
        let teaching = Teaching { stay: 0.1, steps: 500 };
        let taught = head.taught(&[lesson(&[], 1)], &teaching).unwrap();
        let d = f64::from(taught.bias[1]);
        assert!((d + f64::from(taught.bias[0])).abs() < 1e-6);
        assert!((1.0 / (1.0 + (2.0 * d).exp()) - 0.1 * d).abs() < 1e-6, "{d}");
    }

    #[test]
    fn a_wrong_answer_is_corrected_and_what_is_far_from_it_is_kept() {
        // Feature 0 speaks for class 0, feature 1 for class 1, feature 2 for class 2.
        let head = Head { weight: vec![9.0, 0.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0, 9.0], bias: vec![0.0; 3] };
        let taught = head.taught(&[lesson(&[1.0, 0.2, 0.0], 1)], &Teaching::default()).unwrap();
        let answer = |head: &Head, features: &[f32]| {
            let p = probabilities(head, features);
            (0..3).max_by(|&a, &b| p[a].total_cmp(&p[b])).unwrap()
        };
        assert_eq!(answer(&head, &[1.0, 0.2, 0.0]), 0);
        assert_eq!(answer(&taught, &[1.0, 0.2, 0.0]), 1);
        assert_eq!(answer(&taught, &[0.0, 1.0, 0.0]), 1);
        assert_eq!(answer(&taught, &[0.0, 0.0, 1.0]), 2);
    }

    #[test]
    fn no_lesson_changes_nothing() {
        let head = Head { weight: vec![1.0, 2.0], bias: vec![0.5, -0.5] };
        assert_eq!(head.taught(&[], &Teaching::default()).unwrap(), head);
    }

    #[test]
    fn a_lesson_that_does_not_fit_is_refused() {
        let head = Head { weight: vec![1.0, 2.0], bias: vec![0.5, -0.5] };
        let refused = |features: &[f32], class| {
            head.taught(&[lesson(&[1.0], 0), lesson(features, class)], &Teaching::default()).unwrap_err()
        };
        assert_eq!(refused(&[1.0, 2.0], 0), TeachError::Features { lesson: 1, expected: 1, found: 2 });
        assert_eq!(refused(&[1.0], 2), TeachError::Class { lesson: 1, class: 2, classes: 2 });
    }

    #[test]
    fn a_head_goes_off_and_on_a_network() {
        let config = NetworkConfig::Cnn(CnnConfig { dense: vec![5], ..CnnConfig::default() });
        let input = InputShape::new(1, 14, 14);
        let init = |seed| config.init(input, 3, seed, &burn::tensor::Device::flex()).unwrap();
        let (one, other) = (init(1), init(2));
        let head = Head::of(&other).unwrap();
        assert_eq!((head.weight.len(), head.bias.len()), (15, 3));
        let changed = head.put_on(one.clone()).unwrap();
        assert_eq!(Head::of(&changed).unwrap(), head);
        let (before, after) = (named_tensors(&one), named_tensors(&changed));
        for ((name, before), (_, after)) in before.iter().zip(&after) {
            assert_eq!(before == after, name != WEIGHT, "{name}");
        }
        assert!(Head { weight: vec![0.0; 8], bias: vec![0.0; 2] }.put_on(one).is_err());
    }

    #[test]
    fn classes_of_another_head_go_where_they_are_asked_for() {
        let own = Head { weight: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], bias: vec![7.0, 8.0, 9.0] };
        let other = Head { weight: vec![10.0, 20.0, 30.0, 40.0], bias: vec![50.0, 60.0] };
        let mixed = own.with_classes_of(&other, &[Some(1), None, Some(0)]).unwrap();
        assert_eq!(mixed.weight, [20.0, 2.0, 10.0, 40.0, 5.0, 30.0]);
        assert_eq!(mixed.bias, [60.0, 8.0, 50.0]);
        assert_eq!(own.with_classes_of(&other, &[None; 3]).unwrap(), own);
        let longer = Head { weight: vec![0.0; 6], bias: vec![0.0; 2] };
        assert_eq!(own.with_classes_of(&longer, &[Some(0), None, None]), None, "other features");
        assert_eq!(own.with_classes_of(&other, &[Some(2), None, None]), None, "no such class");
        assert_eq!(own.with_classes_of(&other, &[Some(0)]), None);
    }

    prop_compose! {
        fn task()(classes in 2usize..5, inputs in 1usize..6, n in 1usize..8)
            (weight in proptest::collection::vec(-2.0f32..2.0, inputs * classes),
             bias in proptest::collection::vec(-2.0f32..2.0, classes),
             lessons in proptest::collection::vec(
                 (proptest::collection::vec(0.0f32..3.0, inputs), 0..classes), n))
            -> (Head, Vec<Lesson>) {
            let lessons = lessons.into_iter().map(|(features, class)| Lesson { features, class }).collect();
            (Head { weight, bias }, lessons)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// The objective is convex, so a point where no direction leads down is the minimum.
        #[test]
        fn it_is_the_minimum((head, lessons) in task(), stay in 0.05f64..1.0) {
            let teaching = Teaching { stay, steps: 2000 };
            let taught = head.taught(&lessons, &teaching).unwrap();
            let least = objective(&head, &taught, &lessons, stay);
            let step = 1e-2f32;
            for at in 0..head.weight.len() + head.bias.len() {
                for step in [step, -step] {
                    let mut moved = taught.clone();
                    if at < head.weight.len() { moved.weight[at] += step } else { moved.bias[at - head.weight.len()] += step }
                    let there = objective(&head, &moved, &lessons, stay);
                    prop_assert!(there >= least, "{at} {step}: {there} < {least}");
                }
            }
        }

        #[test]
        fn the_order_of_the_lessons_does_not_matter((head, mut lessons) in task()) {
            let first = head.taught(&lessons, &Teaching::default()).unwrap();
            lessons.reverse();
            let second = head.taught(&lessons, &Teaching::default()).unwrap();
            for (a, b) in first.weight.iter().chain(&first.bias).zip(second.weight.iter().chain(&second.bias)) {
                prop_assert!((a - b).abs() <= 1e-5 * a.abs().max(1.0), "{a} {b}");
            }
        }
    }
}

use super::{AdamStep, adam_step};
use crate::testing::{Numbers, difference, paths};

const STEP: AdamStep = AdamStep {
    beta_1: 0.9,
    beta_2: 0.999,
    epsilon: 1e-8,
    weight_decay: 0.0,
    decoupled: false,
    learning_rate: 0.01,
    step: 1,
};

/// The first step of Adam moves each value by the learning rate, against the sign of its gradient.
#[test]
fn the_first_step_of_adam_is_the_learning_rate() {
    let config = AdamStep { epsilon: 0.0, decoupled: true, learning_rate: 0.25, ..STEP };
    for path in paths() {
        let found = adam_step(path, &config, &[0.0; 2], &[3.0, -0.5], &mut [0.0; 2], &mut [0.0; 2]);
        assert!(difference(&found, &[-0.25, 0.25]) < 1e-6, "{path:?}");
    }
}

/// Algorithm 1 of Kingma and Ba in double precision, with the decay of either kind, beyond one task's values.
#[test]
fn adam_follows_its_definition() {
    for (decoupled, weight_decay, len) in [(false, 0.0, 3), (false, 0.1, 40_000), (true, 0.1, 70)] {
        for path in paths() {
            let mut numbers = Numbers(9);
            let mut found = numbers.values(len);
            let (mut first, mut second) = (vec![0.0; len], vec![0.0; len]);
            let mut expected: Vec<[f64; 3]> = found.iter().map(|&x| [f64::from(x), 0.0, 0.0]).collect();
            for step in 1..=3 {
                let config = AdamStep { weight_decay, decoupled, step, ..STEP };
                let gradient = numbers.values(len);
                found = adam_step(path, &config, &found, &gradient, &mut first, &mut second);
                let [beta_1, beta_2, decay] = [config.beta_1, config.beta_2, weight_decay].map(f64::from);
                for ([x, first, second], gradient) in expected.iter_mut().zip(&gradient) {
                    let mut gradient = f64::from(*gradient);
                    if decoupled {
                        *x *= 1.0 - config.learning_rate * decay;
                    } else {
                        gradient += decay * *x;
                    }
                    *first = beta_1 * *first + (1.0 - beta_1) * gradient;
                    *second = beta_2 * *second + (1.0 - beta_2) * gradient * gradient;
                    let power = step as i32;
                    let (m, v) = (*first / (1.0 - beta_1.powi(power)), *second / (1.0 - beta_2.powi(power)));
                    *x -= config.learning_rate * m / (v.sqrt() + f64::from(config.epsilon));
                }
            }
            for (index, found) in [found, first, second].iter().enumerate() {
                let expected: Vec<f32> = expected.iter().map(|state| state[index] as f32).collect();
                assert!(difference(found, &expected) < 1e-5, "{path:?}: {index}");
            }
        }
    }
}

/// A weight that no gradient reaches any more: its moments end at zero, not below the normal numbers, where
/// every operation takes a hundred times as long.
#[test]
fn moments_of_a_still_weight_end_at_zero_with_adam() {
    let config = AdamStep { beta_1: 0.5, beta_2: 0.5, learning_rate: 0.1, step: 1000, ..STEP };
    for path in paths() {
        let mut parameter = vec![1.0, 2.0];
        let (mut first, mut second) = ([1e-30, 1.0], [1e-30, 1.0]);
        for _ in 0..30 {
            parameter = adam_step(path, &config, &parameter, &[0.0, f32::NAN], &mut first, &mut second);
        }
        assert_eq!((first[0].to_bits(), second[0].to_bits()), (0, 0), "{path:?}");
        assert!((parameter[0] - 1.0).abs() < 1e-6 && parameter[1].is_nan(), "{path:?}: {parameter:?}");
    }
}

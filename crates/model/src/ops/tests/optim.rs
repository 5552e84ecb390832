use super::{Numbers, devices, difference, paths, tensor, vector};
use crate::ops::{AdamStep, compose, optim};

#[test]
fn adam_agrees_with_stock_operators() {
    for device in devices() {
        let device = device.inner();
        for (decoupled, weight_decay, len) in [(false, 0.0, 3), (false, 0.1, 40_000), (true, 0.1, 70)] {
            for path in paths() {
                let mut numbers = Numbers(9);
                let start = tensor(&numbers.values(len), [len], &device);
                let zeros = || tensor(&vec![0.0; len], [len], &device);
                let mut found = (start.clone(), zeros(), zeros());
                let mut expected = (start, zeros(), zeros());
                for step in 1..=3 {
                    let config = AdamStep {
                        beta_1: 0.9,
                        beta_2: 0.999,
                        epsilon: 1e-8,
                        weight_decay,
                        decoupled,
                        learning_rate: 0.01,
                        step,
                    };
                    let gradient = tensor(&numbers.values(len), [len], &device);
                    let (a, b, c) = found;
                    found = optim::adam_step_on(path, a, gradient.clone(), b, c, &config);
                    let (a, b, c) = expected;
                    expected = compose::adam_step(a, gradient, b, c, &config);
                }
                assert!(difference(&vector(found.0), &vector(expected.0)) < 1e-6, "{path:?}");
                assert!(difference(&vector(found.1), &vector(expected.1)) < 1e-6, "{path:?}");
                assert!(difference(&vector(found.2), &vector(expected.2)) < 1e-6, "{path:?}");
            }
        }
    }
}

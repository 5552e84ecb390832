//! Backends beside Flex: float reordering is all that differs.
#![allow(dead_code, reason = "each test program uses its part")]

use serde_json::Value;

use crate::support::Bench;

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

/// The same answers for the same weights: `evaluate` with `arguments` on `backend` and on Flex.
pub(crate) fn agree(bench: &Bench, arguments: &[&str], backend: &str) {
    let on = |backend: &str| {
        let result = bench.json(&[&["evaluate", "--json", "--backend", backend], arguments].concat());
        (number(&result["test_accuracy"]), number(&result["test_loss"]))
    };
    let (accuracy, loss) = on("flex");
    let (other_accuracy, other_loss) = on(backend);
    assert!((other_accuracy - accuracy).abs() < f64::EPSILON, "{backend}: {other_accuracy} {accuracy}");
    assert!((other_loss - loss).abs() < 1e-5, "{backend}: {other_loss} {loss}");
}

/// The same first epoch on `backend` and on Flex; `command` is the subcommand, where the program has some.
pub(crate) fn train_alike(bench: &Bench, command: &[&str], backend: &str) {
    let on = |backend: &str| {
        let arguments = [
            "--dataset",
            "mnist-sample",
            "--limit",
            "400",
            "--epochs",
            "1",
            "--batch-size",
            "40",
            "--json",
            "--progress",
            "none",
            "--backend",
            backend,
        ];
        bench.json(&[command, &arguments].concat())
    };
    let (flex, other) = (on("flex"), on(backend));
    for (key, tolerance) in [("valid_loss", 1e-3), ("test_loss", 1e-3), ("test_accuracy", 0.005)] {
        let (found, expected) = (number(&other[key]), number(&flex[key]));
        assert!((found - expected).abs() <= tolerance * expected, "{backend} {key}: {found} for {expected}");
    }
}

use proptest::prelude::*;

use super::{Sizes, backward, forward};
use crate::testing::{Numbers, check, paths};

/// Of small integers, whose sums are exact in any order.
#[test]
fn dense_layers_follow_their_definition() {
    let sizes = (1_usize..=40, 1_usize..=150, 1_usize..=70, any::<bool>(), any::<u64>());
    check(16, &sizes, |(samples, inputs, outputs, relu, seed)| {
        let sizes = Sizes { samples, inputs, outputs, relu };
        let mut numbers = Numbers(seed);
        let (x, weight) = (numbers.integers(samples * inputs), numbers.integers(inputs * outputs));
        let (bias, gradient) = (numbers.integers(outputs), numbers.integers(samples * outputs));
        let mut expected = (vec![0.0; x.len()], vec![0.0; weight.len()], vec![0.0; outputs]);
        let mut output = Vec::new();
        for sample in 0..samples {
            for (out, &shift) in bias.iter().enumerate() {
                let terms =
                    (0..inputs).map(|input| x[sample * inputs + input] * weight[input * outputs + out]);
                let value = shift + terms.sum::<f32>();
                output.push(if relu { value.max(0.0) } else { value });
                if relu && value <= 0.0 {
                    continue;
                }
                let gradient = gradient[sample * outputs + out];
                expected.2[out] += gradient;
                for input in 0..inputs {
                    expected.0[sample * inputs + input] += gradient * weight[input * outputs + out];
                    expected.1[input * outputs + out] += gradient * x[sample * inputs + input];
                }
            }
        }
        for path in paths() {
            prop_assert!(forward(path, sizes, &x, &weight, &bias) == output, "{path:?} forward");
            let kept = relu.then_some(&output[..]);
            let found = backward(path, sizes, &x, &weight, kept, &gradient, true);
            prop_assert!(found.x.as_ref() == Some(&expected.0), "{path:?} x");
            prop_assert!(found.weight == expected.1 && found.bias == expected.2, "{path:?} weight and bias");
            let without = backward(path, sizes, &x, &weight, kept, &gradient, false);
            prop_assert!(without.x.is_none() && without.weight == found.weight, "{path:?} without x");
        }
        Ok(())
    });
}

#[test]
#[should_panic(expected = "length of weight")]
fn a_dense_layer_refuses_a_weight_of_another_size() {
    let sizes = Sizes { samples: 1, inputs: 2, outputs: 2, relu: false };
    forward(crate::Path::Portable, sizes, &[0.0; 2], &[0.0; 3], &[0.0; 2]);
}

use super::cross_entropy;

/// `torch.nn.CrossEntropyLoss(weight=torch.tensor([1., 2., .5]), label_smoothing=0.1)` on these logits,
/// worked by hand from the definition in its documentation.
#[test]
fn the_loss_of_two_samples() {
    let logits = [1.0_f32, 2.0, 0.0, 0.5, -1.0, 1.5];
    let weights = [1.0_f32, 2.0, 0.5];
    let targets = [1_usize, 2];
    let mut total = 0.0_f64;
    for (row, &target) in logits.chunks(3).zip(&targets) {
        let sum: f64 = row.iter().map(|&value| f64::from(value).exp()).sum();
        for (class, &value) in row.iter().enumerate() {
            let share = 0.1 / 3.0 + if class == target { 0.9 } else { 0.0 };
            total -= share * f64::from(weights[class]) * (f64::from(value) - sum.ln());
        }
    }
    let (found, _) = cross_entropy(&logits, &targets, &weights, 0.1);
    assert!((f64::from(found) - total / 2.5).abs() < 1e-6, "{found}");
}

#[test]
fn the_gradient_of_the_loss_is_its_slope() {
    let mut logits = [1.0_f32, 2.0, 0.0, 0.5, -1.0, 1.5];
    let loss = |logits: &[f32]| cross_entropy(logits, &[1, 2], &[1.0, 2.0, 0.5], 0.1);
    let (_, gradient) = loss(&logits);
    let step = 1e-2_f32;
    for (index, &found) in gradient.iter().enumerate() {
        let before = logits[index];
        logits[index] = before + step;
        let above = loss(&logits).0;
        logits[index] = before - step;
        let below = loss(&logits).0;
        logits[index] = before;
        let slope = (above - below) / (2.0 * step);
        assert!((found - slope).abs() < 1e-4, "{index}: {found}, slope {slope}");
    }
}

#[test]
fn the_loss_shows_a_logit_that_is_no_number() {
    let (loss, gradient) = cross_entropy(&[0.0, f32::NAN, 1.0], &[0], &[1.0; 3], 0.0);
    assert!(loss.is_nan() && gradient.iter().all(|value| value.is_nan()));
}

#[test]
fn targets_without_weight_have_no_loss() {
    let (loss, gradient) = cross_entropy(&[0.0, 2.0, 1.0], &[1], &[1.0, 0.0, 1.0], 0.1);
    assert_eq!((loss, &gradient[..]), (0.0, &[0.0; 3][..]));
    let (loss, _) = cross_entropy(&[0.0, f32::NAN, 1.0], &[1], &[1.0, 0.0, 1.0], 0.0);
    assert!(loss.is_nan());
}

#[test]
#[should_panic(expected = "target 3 outside 0..3")]
fn the_loss_refuses_a_class_that_does_not_exist() {
    cross_entropy(&[0.0; 3], &[3], &[1.0; 3], 0.0);
}

//! When the network began to learn the training set by heart.

use crate::metrics_log::EpochRecord;

/// How many epochs without a lower validation loss make a trend; their mean is compared.
const WINDOW: usize = 3;

/// How far the validation loss must have risen above its lowest value, as a factor.
const RISE: f64 = 1.05;

/// The first epoch of over-fitting, if the records show any.
///
/// The rule: let `b` be the epoch with the lowest validation loss. Over the last three epochs, all after
/// `b`, the mean validation loss lies more than 5 % above that of `b`, while the mean training loss lies
/// below that of `b`. Then over-fitting began with the epoch after `b`. A single bad epoch, a plateau, and a run in
/// which both losses rise (a learning rate too high) are not over-fitting. Epochs whose losses are not finite are left out.
pub fn overfitting_since(epochs: &[EpochRecord]) -> Option<usize> {
    let measured: Vec<&EpochRecord> = epochs
        .iter()
        .filter(|record| record.train_loss.is_finite() && record.valid_loss.is_finite())
        .collect();
    let best =
        (0..measured.len()).min_by(|&a, &b| measured[a].valid_loss.total_cmp(&measured[b].valid_loss))?;
    let after = &measured[best + 1..];
    let last = &after[after.len().checked_sub(WINDOW)?..];
    let mean = |figure: fn(&EpochRecord) -> f64| {
        last.iter().map(|record| figure(record)).sum::<f64>() / WINDOW as f64
    };
    let risen = mean(|record| record.valid_loss) > measured[best].valid_loss * RISE;
    let still_learning = mean(|record| record.train_loss) < measured[best].train_loss;
    (risen && still_learning).then(|| after[0].epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(losses: &[(f64, f64)]) -> Vec<EpochRecord> {
        losses
            .iter()
            .zip(1..)
            .map(|(&(train_loss, valid_loss), epoch)| EpochRecord {
                epoch,
                train_loss,
                valid_loss,
                train_accuracy: 0.9,
                valid_accuracy: 0.9,
                valid_mean_average_precision: None,
                learning_rate: 1e-3,
                samples_per_second: 1.0,
                seconds: 1.0,
            })
            .collect()
    }

    #[test]
    fn a_rising_validation_loss_beside_a_falling_training_loss_is_noticed() {
        let losses = [(0.9, 0.8), (0.5, 0.5), (0.3, 0.55), (0.2, 0.6), (0.1, 0.7)];
        assert_eq!(overfitting_since(&run(&losses)), Some(3));
    }

    #[test]
    fn what_is_no_over_fitting() {
        let cases: [(&str, &[(f64, f64)]); 7] = [
            ("nothing", &[]),
            ("one epoch", &[(0.9, 0.8)]),
            ("still improving", &[(0.9, 0.8), (0.5, 0.6), (0.4, 0.5), (0.3, 0.45)]),
            ("two worse epochs only", &[(0.9, 0.8), (0.5, 0.5), (0.4, 0.7), (0.3, 0.8)]),
            ("a plateau within 5 %", &[(0.9, 0.8), (0.5, 0.5), (0.4, 0.51), (0.3, 0.52), (0.2, 0.51)]),
            ("divergence", &[(0.9, 0.8), (0.5, 0.5), (0.8, 0.9), (1.5, 2.0), (3.0, 4.0)]),
            ("unmeasured", &[(0.5, f64::NAN), (0.4, f64::NAN), (0.3, f64::NAN), (0.2, f64::NAN)]),
        ];
        for (name, losses) in cases {
            assert_eq!(overfitting_since(&run(losses)), None, "{name}");
        }
    }
}

//! What the keys of a configuration may hold.

use std::fmt;

use data::text::counted;
use data::{FitName, InputRequest};

use crate::config::error::ConfigError;
use crate::config::schema::{ClassWeights, DataConfig, TrainConfig, UnfreezeAt};

/// Runs of a cross-validation at most.
const MOST_FOLDS: usize = 100;

impl TrainConfig {
    /// Whether every value is in its range.
    ///
    /// # Errors
    /// [`ConfigError::Range`], or what the augmentation says of its settings.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        fn range(
            good: bool,
            key: &'static str,
            found: impl fmt::Display,
            expected: &'static str,
        ) -> Result<(), ConfigError> {
            if good {
                return Ok(());
            }
            Err(ConfigError::Range { key, found: found.to_string(), expected })
        }
        let unit = |value: f64| (0.0..1.0).contains(&value);
        let positive = |value: f64| value > 0.0 && value.is_finite();
        let not_negative = |value: f64| value >= 0.0 && value.is_finite();

        let optimizer = &self.optimizer;
        let schedule = &self.schedule;
        let regularization = &self.regularization;
        range(self.epochs >= 1, "epochs", self.epochs, "1 or more")?;
        range((1..=1_000_000).contains(&self.batch_size), "batch_size", self.batch_size, "1 to 1,000,000")?;
        let fraction = self.data.valid_fraction;
        range(
            fraction > 0.0 && fraction < 1.0,
            "data.valid_fraction",
            fraction,
            "between 0 and 1, both excluded: the best epoch is chosen on the validation split",
        )?;
        range(
            matches!(self.data.channels, 0 | 1 | 3),
            "data.channels",
            self.data.channels,
            "1 (grey), 3 (RGB) or 0 (as the data has it)",
        )?;
        let test = self.data.test_fraction;
        range(test > 0.0 && test < 1.0, "data.test_fraction", test, "between 0 and 1, both excluded")?;
        range(
            self.data.resize <= InputRequest::MAX_SIDE,
            "data.resize",
            self.data.resize,
            "0 to 4096, the length of a side",
        )?;
        range(
            self.data.resize == 0 || self.data.fit == Some(FitName::Crop),
            "data.resize",
            self.data.resize,
            "0 without data.fit = \"crop\", which it belongs to",
        )?;
        range(self.data.memory_mib >= 1, "data.memory_mib", self.data.memory_mib, "1 or more")?;
        let DataConfig { folds, fold, limit, limit_per_class, .. } = self.data;
        range(folds == 0 || (2..=MOST_FOLDS).contains(&folds), "data.folds", folds, "2 to 100, or 0: off")?;
        range(fold <= folds, "data.fold", fold, "1 to data.folds")?;
        range(
            limit == 0 || limit_per_class == 0,
            "data.limit_per_class",
            limit_per_class,
            "only one of data.limit and data.limit_per_class",
        )?;
        range(self.data.workers <= 64, "data.workers", self.data.workers, "0 to 64")?;
        self.data.augment.validate()?;
        range(positive(optimizer.rate()), "optimizer.learning_rate", optimizer.rate(), "above 0")?;
        range(unit(optimizer.momentum()), "optimizer.momentum", optimizer.momentum(), "0 up to 1")?;
        range(
            !optimizer.nesterov || optimizer.momentum() > 0.0,
            "optimizer.nesterov",
            "true",
            "a momentum above 0 with it",
        )?;
        range(unit(optimizer.beta_1), "optimizer.beta_1", optimizer.beta_1, "0 up to 1")?;
        range(unit(optimizer.beta_2), "optimizer.beta_2", optimizer.beta_2, "0 up to 1")?;
        range(unit(optimizer.alpha), "optimizer.alpha", optimizer.alpha, "0 up to 1")?;
        range(positive(optimizer.epsilon), "optimizer.epsilon", optimizer.epsilon, "above 0")?;
        let decay = optimizer.weight_decay;
        range(not_negative(decay), "optimizer.weight_decay", decay, "0 or more")?;
        let warmup = schedule.warmup_epochs;
        range(not_negative(warmup), "schedule.warmup_epochs", warmup, "0 or more")?;
        range(schedule.step_epochs >= 1, "schedule.step_epochs", schedule.step_epochs, "1 or more")?;
        let gamma = schedule.gamma;
        range(gamma > 0.0 && gamma <= 1.0, "schedule.gamma", gamma, "above 0, at most 1")?;
        let factor = schedule.final_factor;
        range((0.0..=1.0).contains(&factor), "schedule.final_factor", factor, "0 to 1")?;
        range(not_negative(regularization.l1), "regularization.l1", regularization.l1, "0 or more")?;
        let smoothing = regularization.label_smoothing;
        range(unit(f64::from(smoothing)), "regularization.label_smoothing", smoothing, "0 up to 1")?;
        let norm = regularization.clip_norm;
        range(not_negative(norm), "regularization.clip_norm", norm, "0 (off) or more")?;
        let accumulate = regularization.accumulate;
        range(accumulate >= 1, "regularization.accumulate", accumulate, "1 or more")?;
        let ema = regularization.ema_decay;
        range(unit(ema), "regularization.ema_decay", ema, "0 (off) up to 1")?;
        if let ClassWeights::Given(weights) = &regularization.class_weights {
            range(
                weights.iter().all(|weight| weight.is_finite() && *weight >= 0.0)
                    && weights.iter().sum::<f32>() > 0.0,
                "regularization.class_weights",
                format!("{weights:?}"),
                "weights of 0 or more, not all 0",
            )?;
        }
        let delta = self.early_stopping.min_delta;
        range(not_negative(delta), "early_stopping.min_delta", delta, "0 or more")?;
        range(self.checkpoint.keep >= 1, "checkpoint.keep", self.checkpoint.keep, "1 or more")?;
        if let Some(finetune) = &self.finetune {
            let rate = finetune.feature_rate;
            range(not_negative(rate), "finetune.feature_rate", rate, "0 or more")?;
            let decay = finetune.layer_decay;
            range(decay > 0.0 && decay <= 1.0, "finetune.layer_decay", decay, "above 0, at most 1")?;
            if let UnfreezeAt::Stages(epochs) = &finetune.unfreeze_at {
                range(
                    !epochs.is_empty() && epochs[0] >= 1 && epochs.is_sorted(),
                    "finetune.unfreeze_at",
                    format!("{epochs:?}"),
                    "one epoch, or a list of epochs from 1 on that does not fall",
                )?;
            }
        }
        Ok(())
    }

    /// Whether something is unfrozen in one of the epochs, where that is asked for; warns of what comes too late. To be asked
    /// when the number of epochs is settled.
    ///
    /// # Errors
    /// [`ConfigError::Range`].
    pub fn check_unfreezing(&self) -> Result<(), ConfigError> {
        let Some(finetune) = &self.finetune else { return Ok(()) };
        let (first, late) = match &finetune.unfreeze_at {
            UnfreezeAt::All(epoch) => (*epoch, None),
            UnfreezeAt::Stages(epochs) => {
                let late = epochs.iter().find(|&&epoch| epoch > self.epochs);
                (epochs.first().copied().unwrap_or_default(), late)
            }
        };
        if first > 0 && matches!(finetune.freeze.as_str(), "none" | "") {
            return Err(ConfigError::Range {
                key: "finetune.unfreeze_at",
                found: format!("{first} with finetune.freeze = none"),
                expected: "something that is frozen until then: name it with --freeze, for example features",
            });
        }
        if first <= self.epochs {
            if let Some(late) = late {
                tracing::warn!(
                    "what finetune.unfreeze_at = {late} would unfreeze stays frozen: the run has {}",
                    counted(self.epochs, "epoch")
                );
            }
            return Ok(());
        }
        Err(ConfigError::Range {
            key: "finetune.unfreeze_at",
            found: format!("{first} with epochs = {}", self.epochs),
            expected: "an epoch of the run: after it nothing is unfrozen; raise --epochs, or leave --unfreeze-at out",
        })
    }
}

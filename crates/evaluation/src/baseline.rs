//! The majority-class baseline: the accuracy of always predicting the largest class. A network that is no better has learned
//! nothing.

use std::fmt;

use crate::metrics::ConfusionMatrix;

/// Standard errors above the share of the largest class that luck alone seldom exceeds (one in twenty, one-sided).
const MARGIN: f64 = 1.645;

/// Updates below which too few of them are the likely reason.
const FEW_UPDATES: usize = 400;

/// An accuracy beside the one that always naming the largest class has.
#[derive(Clone, Debug, PartialEq)]
pub struct MajorityBaseline {
    /// Share of the largest class among the images, 0 to 1.
    pub share: f64,
    accuracy: f64,
    /// Images the figures are of.
    images: u64,
}

impl MajorityBaseline {
    /// Of the answers on images; `None` where there are none.
    pub fn of(confusion: &ConfusionMatrix) -> Option<Self> {
        let classes = 0..confusion.classes();
        let supports =
            classes.clone().map(|target| classes.clone().map(|p| confusion.count(target, p)).sum());
        let largest: u64 = supports.max()?;
        let images = confusion.total();
        (images > 0).then(|| Self {
            share: largest as f64 / images as f64,
            accuracy: confusion.correct() as f64 / images as f64,
            images,
        })
    }

    /// Whether the accuracy is no better than the share of the largest class, luck allowed for: at most `MARGIN`
    /// standard errors of a binomial share (with half an image for its steps) above it. A result without a mistake is
    /// never called that.
    pub fn is_no_better(&self) -> bool {
        let images = self.images as f64;
        let luck = MARGIN * (self.share * (1.0 - self.share) / images).sqrt() + 0.5 / images;
        self.accuracy < 1.0 && self.accuracy < self.share + luck
    }

    /// What to tell the user, with the likely reason: `updates` were made, and the network is right on a share of
    /// `train_accuracy` of the images that it was trained on.
    pub fn notice(&self, subset: &str, updates: usize, train_accuracy: f64) -> Option<String> {
        self.is_no_better().then(|| {
            format!(
                "the network has learned nothing that shows: {:.1} % of {} {subset} images are right, always naming the \
                 largest class gets {:.1} %. {}",
                self.accuracy * 100.0,
                self.images,
                self.share * 100.0,
                Reason::likely(self, updates, train_accuracy)
            )
        })
    }
}

/// Why a network learns nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Updates(usize),
    Learned,
    Rate,
}

impl Reason {
    fn likely(baseline: &MajorityBaseline, updates: usize, train_accuracy: f64) -> Self {
        // Half of the way from guessing to no mistake.
        let learned = train_accuracy > f64::midpoint(baseline.share, 1.0);
        match (learned, updates < FEW_UPDATES) {
            (true, _) => Self::Learned,
            (false, true) => Self::Updates(updates),
            (false, false) => Self::Rate,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Updates(updates) => write!(
                f,
                "The likely reason: too few updates ({updates}); train with more --epochs or a smaller --batch-size"
            ),
            Self::Learned => f.write_str(
                "It knows the images that it was trained on, but no others: there are too few of them, the held-back \
                 ones are of another kind, or labels are wrong (`kiln data check` looks at them)",
            ),
            Self::Rate => f.write_str(
                "It has not even learned the images that it was trained on: the learning rate does not suit (try a \
                 tenth of it with --learning-rate), or the labels have nothing to do with the pictures (`kiln data check` \
                 looks at them)",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `right` of `images` images are right; the first class has `largest` of them.
    fn baseline(right: u64, largest: u64, images: u64) -> MajorityBaseline {
        MajorityBaseline {
            share: largest as f64 / images as f64,
            accuracy: right as f64 / images as f64,
            images,
        }
    }

    #[test]
    fn the_largest_class_is_that_of_the_targets() {
        let mut confusion = ConfusionMatrix::new(3);
        for (target, predicted) in [(0, 1), (0, 1), (1, 1), (2, 1)] {
            confusion.add(target, predicted).unwrap();
        }
        assert_eq!(MajorityBaseline::of(&confusion), Some(baseline(1, 2, 4)));
        assert_eq!(MajorityBaseline::of(&ConfusionMatrix::new(3)), None);
    }

    #[test]
    fn luck_does_not_hide_a_guess_and_a_good_result_is_none() {
        for (right, largest, images) in
            [(15, 15, 45), (20, 15, 45), (90, 90, 100), (92, 90, 100), (3_400, 3_334, 10_000)]
        {
            assert!(baseline(right, largest, images).is_no_better(), "{right} of {images}");
        }
        for (right, largest, images) in [(25, 15, 45), (97, 90, 100), (3_500, 3_334, 10_000), (6, 2, 6)] {
            assert!(!baseline(right, largest, images).is_no_better(), "{right} of {images}");
        }
        // Without a mistake, whatever the share of the largest class.
        assert!(!baseline(20, 19, 20).is_no_better());
    }

    #[test]
    fn the_notice_names_figures_and_the_likely_reason() {
        let guess = baseline(15, 15, 45);
        for (updates, train_accuracy, reason) in
            [(20, 0.35, "too few updates (20)"), (900, 0.99, "too few of them"), (900, 0.34, "learning rate")]
        {
            let notice = guess.notice("test", updates, train_accuracy).unwrap();
            assert!(notice.contains("33.3 % of 45 test images") && notice.contains(reason), "{notice}");
        }
        assert_eq!(baseline(40, 15, 45).notice("test", 20, 0.35), None);
    }
}

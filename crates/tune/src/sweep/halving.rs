//! Successive halving: all trials get few epochs, the better half of them twice as many, and so on (Jamieson &
//! Talwalkar, AISTATS 2016; in the form of the inner loop of algorithm 1 of Li et al., "Hyperband", JMLR 18, 2018).

use serde::{Deserialize, Serialize};

/// One round: so many trials train for so many epochs in total.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rung {
    /// Trials that take part.
    pub trials: usize,
    /// Epochs of each, those of the rounds before included.
    pub epochs: usize,
}

/// The rounds of `trials` trials: each keeps one in `eta` and gives it `eta` times the epochs, from `least` or more up
/// to just `epochs` in the last.
pub fn rungs(trials: usize, epochs: usize, least: usize, eta: usize) -> Vec<Rung> {
    let (eta, trials) = (eta.max(2), trials.max(1));
    // Backwards from the last round, as long as a trial is left for it and the first has enough epochs.
    let mut budgets = vec![epochs];
    let mut last = trials;
    while last / eta >= 1 && budgets[0] > 1 && budgets[0].div_ceil(eta) >= least {
        last /= eta;
        budgets.insert(0, budgets[0].div_ceil(eta));
    }
    let left = std::iter::successors(Some(trials), |trials| Some(trials / eta));
    left.zip(budgets).map(|(trials, epochs)| Rung { trials, epochs }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(rungs: &[Rung]) -> Vec<(usize, usize)> {
        rungs.iter().map(|rung| (rung.trials, rung.epochs)).collect()
    }

    #[test]
    fn the_rounds_by_hand() {
        assert_eq!(pairs(&rungs(8, 8, 1, 2)), [(8, 1), (4, 2), (2, 4), (1, 8)]);
        assert_eq!(pairs(&rungs(9, 9, 1, 3)), [(9, 1), (3, 3), (1, 9)]);
        // Hyperband's example with eta 3 and at least 3 epochs.
        assert_eq!(pairs(&rungs(27, 27, 3, 3)), [(27, 3), (9, 9), (3, 27)]);
        assert_eq!(pairs(&rungs(4, 10, 1, 2)), [(4, 3), (2, 5), (1, 10)]);
        assert_eq!(pairs(&rungs(1, 5, 1, 2)), [(1, 5)]);
        assert_eq!(pairs(&rungs(16, 1, 1, 2)), [(16, 1)]);
    }

    proptest! {
        #[test]
        fn rounds_shrink_while_their_epochs_grow(trials in 1usize..500, epochs in 1usize..200, least in 1usize..20, eta in 2usize..5) {
            let rungs = rungs(trials, epochs, least, eta);
            prop_assert_eq!(rungs[0].trials, trials);
            prop_assert_eq!(rungs[rungs.len() - 1].epochs, epochs);
            prop_assert!(rungs.iter().all(|rung| rung.trials >= 1 && rung.epochs >= least.min(epochs)));
            for pair in rungs.windows(2) {
                prop_assert_eq!(pair[1].trials, pair[0].trials / eta);
                prop_assert!(pair[1].epochs > pair[0].epochs && pair[1].epochs <= pair[0].epochs * eta);
            }
        }
    }
}

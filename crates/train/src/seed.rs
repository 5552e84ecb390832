//! Seeds that follow from others.

use model::{SPLITMIX_INCREMENT, splitmix};

/// One 64-bit seed from several numbers, by the output function of `SplitMix64`.
pub fn mix(parts: &[u64]) -> u64 {
    parts
        .iter()
        .fold(SPLITMIX_INCREMENT, |state, part| splitmix((state ^ part).wrapping_add(SPLITMIX_INCREMENT)))
}

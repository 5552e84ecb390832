//! Middle, spread and memory.

/// The value below which a share `q` of the values lies, between neighbours on a straight line; 0 of nothing.
pub(super) fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let position = q.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}

/// Largest minus smallest, as a share of the median.
pub(super) fn spread(values: &[f64]) -> f64 {
    let median = quantile(values, 0.5);
    if median == 0.0 { 0.0 } else { (quantile(values, 1.0) - quantile(values, 0.0)) / median }
}

/// The highest resident memory of this process in MiB, where Linux tells (`VmHWM` of proc(5)).
pub(super) fn peak_memory_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_spread_by_hand() {
        let values = [4.0, 1.0, 3.0, 2.0];
        for (q, expected) in [(0.0, 1.0), (0.5, 2.5), (0.99, 3.97), (1.0, 4.0)] {
            assert!((quantile(&values, q) - expected).abs() < 1e-12, "{q}");
        }
        assert!((spread(&values) - 1.2).abs() < 1e-12);
        assert_eq!((quantile(&[], 0.5), spread(&[])), (0.0, 0.0));
        assert_eq!((quantile(&[7.0], 0.99), spread(&[7.0])), (7.0, 0.0));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn memory_that_was_touched_shows() {
        let before = peak_memory_mib().expect("Linux tells");
        let touched = vec![1u8; 64 << 20];
        assert_eq!(touched.iter().map(|byte| u64::from(*byte)).sum::<u64>(), 64 << 20);
        assert!(peak_memory_mib().expect("Linux tells") > before.max(64.0));
    }
}

//! Smoothing by a Gaussian, row by row.

/// Adds `weight` times the values.
#[inline]
pub(super) fn add(out: &mut [f32], values: &[f32], weight: f32) {
    for (out, value) in out.iter_mut().zip(values) {
        *out += weight * value;
    }
}

/// Adds `weight` times the sums of two.
#[inline]
pub(super) fn add_pair(out: &mut [f32], left: &[f32], right: &[f32], weight: f32) {
    for ((out, left), right) in out.iter_mut().zip(left).zip(right) {
        *out += weight * (left + right);
    }
}

/// A Gaussian from its centre to 3 standard deviations. It is applied twice, along rows and columns, so the
/// sum of the whole kernel is the square root of `total`.
pub(super) fn gaussian(sigma: f32, total: f32) -> Vec<f32> {
    let radius = (3.0 * sigma).ceil() as i32;
    let weight = |distance: i32| (-0.5 * (f64::from(distance) / f64::from(sigma)).powi(2)).exp();
    let sum: f64 = (-radius..=radius).map(weight).sum();
    (0..=radius).map(|distance| (weight(distance) / sum * f64::from(total).sqrt()) as f32).collect()
}

use proptest::prelude::*;

use super::{Sizes, Window, backward, forward};
use crate::testing::{Numbers, check, pair, paths};

/// Small integers, so that many values of a window are equal: the first of them gets the gradient.
#[test]
fn pooling_follows_its_definition() {
    let cases = (1_usize..=40, pair(1..=20), pair(1..=3), pair(1..=3), pair(0..=1), any::<u64>());
    check(100, &cases, |(planes, [height, width], kernel, stride, padding, seed)| {
        let padding = std::array::from_fn(|axis| padding[axis].min(kernel[axis] / 2));
        for window in
            [Window { kernel, stride, padding }, Window { kernel: [2, 2], stride: [2, 2], padding: [0, 0] }]
        {
            let Some(sizes) = Sizes::new(planes, [height, width], window) else {
                continue;
            };
            let [rows, columns] = sizes.output();
            let x = Numbers(seed).integers(planes * height * width);
            let gradient = Numbers(seed ^ 1).integers(planes * rows * columns);
            let mut output = Vec::new();
            let mut slopes = vec![0.0; x.len()];
            for (at, &gradient) in gradient.iter().enumerate() {
                let (plane, row, column) = (at / columns / rows, at / columns % rows, at % columns);
                let (top, bottom, _) = window.range(0, row, height);
                let (left, right, _) = window.range(1, column, width);
                let mut places =
                    (top..bottom).flat_map(|y| (left..right).map(move |x| (plane * height + y) * width + x));
                let first = places.next().unwrap();
                let best = places.fold(first, |best, place| if x[place] > x[best] { place } else { best });
                output.push(x[best]);
                slopes[best] += gradient;
            }
            for path in paths() {
                let (found, codes) = forward(path, sizes, &x);
                prop_assert!(found == output, "{path:?} {window:?}");
                prop_assert!(backward(path, sizes, &codes, &gradient) == slopes, "{path:?} {window:?} back");
            }
        }
        Ok(())
    });
}

#[test]
fn pooling_passes_what_is_no_number() {
    let x = [1.0, f32::NAN, 3.0, 2.0, f32::INFINITY, f32::MAX, f32::NEG_INFINITY, f32::NEG_INFINITY];
    let window = Window { kernel: [2, 2], stride: [2, 2], padding: [0, 0] };
    let sizes = Sizes::new(2, [2, 2], window).unwrap();
    for path in paths() {
        let (found, codes) = forward(path, sizes, &x);
        assert!(found[0].is_nan() && found[1] == f32::INFINITY, "{path:?}: {found:?}");
        assert_eq!(backward(path, sizes, &codes, &[2.0, 3.0]), [0.0, 2.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0]);
    }
}

#[test]
fn pooling_refuses_windows_without_a_value() {
    let window = |kernel, padding| Window { kernel: [kernel; 2], stride: [2, 2], padding: [padding; 2] };
    assert!(Sizes::new(1, [4, 4], window(2, 2)).is_none(), "padding as large as the window");
    assert!(Sizes::new(1, [4, 4], window(5, 0)).is_none(), "a window larger than the plane");
    assert!(Sizes::new(1, [4, 4], window(16, 8)).is_none(), "more places than a code has");
    assert!(Sizes::new(0, [4, 4], window(2, 0)).is_none(), "no plane");
}

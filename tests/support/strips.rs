//! Strips of handwritten digits, composed of a data set's images: pictures whose text is known. A strip is a
//! function of (seed, index) alone.

#[path = "random.rs"]
pub(crate) mod random;

use data::Dataset;
use model::Picture;
use random::Random;

/// What makes a strip hard.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Condition {
    /// Name in the table.
    pub name: &'static str,
    /// Horizontal shear, largest, in columns a row.
    pub shear: f32,
    /// Standard deviation of the noise, in grey levels.
    pub noise: f32,
    /// Share of the light that is missing at the darkest edge.
    pub shade: f32,
    /// Distance between neighbours in pixels of the data set: smallest and largest; negative: they overlap.
    pub gap: (f32, f32),
    /// Dark ink on light paper, instead of light on dark.
    pub paper: bool,
}

/// From clean to everything at once.
pub(crate) const CONDITIONS: [Condition; 7] = [
    Condition { name: "clean, separated", ..PLAIN },
    Condition { name: "dark on light", paper: true, ..PLAIN },
    Condition { name: "sheared", paper: true, shear: 0.35, ..PLAIN },
    Condition { name: "noisy", paper: true, noise: 12.0, ..PLAIN },
    Condition { name: "uneven light", paper: true, shade: 0.6, ..PLAIN },
    Condition { name: "touching", paper: true, gap: (-3.0, -1.0), ..PLAIN },
    Condition { name: "all of it", paper: true, shear: 0.25, noise: 8.0, shade: 0.5, gap: (-2.0, 3.0) },
];

const PLAIN: Condition =
    Condition { name: "", shear: 0.0, noise: 0.0, shade: 0.0, gap: (3.0, 8.0), paper: false };

/// A strip of `length` digits of `dataset`, and its text.
pub(crate) fn strip(
    dataset: &Dataset,
    seed: u64,
    index: u64,
    length: usize,
    condition: &Condition,
) -> (Picture, String) {
    // Seeds that follow each other would give streams that are shifted only.
    let mut random = Random(Random(seed).next() ^ Random(!index).next());
    let side = dataset.shape.height;
    let scale = random.between(1.5, 3.0);
    let mut text = String::new();
    let mut digits = Vec::new();
    // Pen position in pixels of the data set, at the middle of the line.
    let mut pen = 0.0;
    for _ in 0..length {
        let number = random.below(dataset.len());
        text.push_str(&dataset.class_names[dataset.labels[number] as usize]);
        let image = dataset.image(number);
        let columns: Vec<usize> =
            (0..side).filter(|&x| (0..side).any(|y| image[y * side + x] > 64)).collect();
        let (left, right) = (columns[0] as f32, columns[columns.len() - 1] as f32 + 1.0);
        let size = random.between(0.9, 1.1);
        let lift = random.between(-1.5, 1.5);
        // Column of the strip at which the image's column 0 stands.
        digits.push((image, pen - left * size, lift, size));
        pen += (right - left) * size + random.between(condition.gap.0, condition.gap.1);
    }
    let shear = condition.shear * random.between(-1.0, 1.0);
    let margin = 6.0 + shear.abs() * side as f32 / 2.0;
    let width = ((pen + 2.0 * margin) * scale) as usize;
    let height = ((side as f32 + 10.0) * scale) as usize;
    let (paper, ink) = if condition.paper {
        (random.between(190.0, 240.0), random.between(20.0, 90.0))
    } else {
        (0.0, 255.0)
    };
    let angle = random.between(0.0, std::f32::consts::TAU);
    let mut pixels = Vec::with_capacity(width * height);
    for y in 0..height {
        for x in 0..width {
            let v = y as f32 / scale - 5.0;
            let u = x as f32 / scale - margin + shear * (v - side as f32 / 2.0);
            let mut value = 0.0f32;
            for &(image, start, lift, size) in &digits {
                let middle = side as f32 / 2.0;
                value =
                    value.max(sample(image, side, (u - start) / size, (v - lift - middle) / size + middle));
            }
            // Light falls off from one edge to the other.
            let across = (x as f32 / width as f32 - 0.5) * angle.cos()
                + (y as f32 / height as f32 - 0.5) * angle.sin();
            let light = 1.0 - condition.shade * (across + 0.5).clamp(0.0, 1.0);
            let level = (paper + (ink - paper) * value / 255.0) * light + condition.noise * random.normal();
            pixels.push(level.clamp(0.0, 255.0) as u8);
        }
    }
    (Picture::new(width, height, 1, pixels).expect("a picture"), text)
}

/// Bilinear, 0 outside.
pub(crate) fn sample(image: &[u8], side: usize, x: f32, y: f32) -> f32 {
    let (left, top) = (x.floor(), y.floor());
    let at = |x: f32, y: f32| {
        let inside = x >= 0.0 && y >= 0.0 && x < side as f32 && y < side as f32;
        if inside { f32::from(image[y as usize * side + x as usize]) } else { 0.0 }
    };
    let (right, down) = (x - left, y - top);
    let upper = at(left, top) * (1.0 - right) + at(left + 1.0, top) * right;
    let lower = at(left, top + 1.0) * (1.0 - right) + at(left + 1.0, top + 1.0) * right;
    upper * (1.0 - down) + lower * down
}

/// Insertions, deletions and replacements from one text to another (Levenshtein).
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, &b) in b.iter().enumerate() {
            let replaced = corner + usize::from(a != b);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

impl Random {
    pub(crate) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u32 << 24) as f32
    }

    pub(crate) fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// The sum of twelve uniform numbers, less 6: normal enough for noise.
    pub(crate) fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.unit()).sum::<f32>() - 6.0
    }
}

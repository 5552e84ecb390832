//! Pictures of one digit, whole, broken or with dirt, and of several digits: is it said which are which? A picture is a
//! function of (seed, index) alone.

use std::f32::consts::PI;

use data::Dataset;
use model::Picture;

use crate::strips::{random::Random, sample};

/// What is drawn. Lengths are in pixels of the data set, before the picture is enlarged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// Name in the table.
    pub name: &'static str,
    /// How many digits.
    pub digits: usize,
    /// Where the second stands: its direction from the first, in quarter turns; beside it at 0, below at 1.
    pub turn: f32,
    /// Ground between neighbours, smallest and largest.
    pub gap: (f32, f32),
    /// Width of a line of ground through the digit, smallest and largest.
    pub cut: (f32, f32),
    /// Direction of the line's normal, smallest and largest; half of pi is a level line.
    pub across: (f32, f32),
    /// Spots of ground on the strokes.
    pub holes: usize,
    /// Spots of ink.
    pub specks: usize,
    /// A rule beside the digit, longer than it is high.
    pub bar: bool,
    /// A rule under the digit.
    pub ruled: bool,
}

const ONE: Kind = Kind {
    name: "one, whole",
    digits: 1,
    turn: 0.0,
    gap: (0.0, 0.0),
    cut: (0.0, 0.0),
    across: (0.0, PI),
    holes: 0,
    specks: 0,
    bar: false,
    ruled: false,
};
/// Normals of lines that part what is above from what is below.
const LEVEL: (f32, f32) = (0.45 * PI, 0.55 * PI);
const BESIDE: Kind = Kind { digits: 2, ..ONE };
const ABOVE: Kind = Kind { turn: 1.0, ..BESIDE };

/// One digit, then several.
pub(crate) const KINDS: [Kind; 19] = [
    ONE,
    Kind { name: "one, cut by 0.5 to 1.5 pixels", cut: (0.5, 1.5), ..ONE },
    Kind { name: "one, cut by 1.5 to 4 pixels", cut: (1.5, 4.0), ..ONE },
    Kind { name: "one, cut level by 0.5 to 1.5 pixels", cut: (0.5, 1.5), across: LEVEL, ..ONE },
    Kind { name: "one, cut level by 1.5 to 4 pixels", cut: (1.5, 4.0), across: LEVEL, ..ONE },
    Kind { name: "one, strokes broken", holes: 5, ..ONE },
    Kind { name: "one, dirt", specks: 10, ..ONE },
    Kind { name: "one, cut and dirt", cut: (0.5, 3.0), specks: 10, ..ONE },
    Kind { name: "one, a rule beside", bar: true, ..ONE },
    Kind { name: "one, a rule under", ruled: true, ..ONE },
    Kind { name: "two beside, gap 1", gap: (1.0, 1.0), ..BESIDE },
    Kind { name: "two beside, gap 2 to 8", gap: (2.0, 8.0), ..BESIDE },
    Kind { name: "two beside, gap 8 to 30", gap: (8.0, 30.0), ..BESIDE },
    Kind { name: "three beside, gap 1 to 8", digits: 3, gap: (1.0, 8.0), ..BESIDE },
    Kind { name: "two above, gap 1", gap: (1.0, 1.0), ..ABOVE },
    Kind { name: "two above, gap 2 to 8", gap: (2.0, 8.0), ..ABOVE },
    Kind { name: "two above, gap 8 to 30", gap: (8.0, 30.0), ..ABOVE },
    Kind { name: "three above, gap 2 to 8", digits: 3, gap: (2.0, 8.0), ..ABOVE },
    Kind { name: "two aslant, gap 2 to 8", turn: 0.5, gap: (2.0, 8.0), ..BESIDE },
];

/// A form that is made ink or ground.
enum Form {
    /// A point on it, its normal, and half its width.
    Line([f32; 2], [f32; 2], f32),
    /// Centre and radius.
    Spot([f32; 2], f32),
    /// Left, top, right, bottom.
    Rule([f32; 4]),
}

impl Form {
    fn covers(&self, x: f32, y: f32) -> bool {
        match *self {
            Self::Line([a, b], [u, v], half) => ((x - a) * u + (y - b) * v).abs() <= half,
            Self::Spot([a, b], radius) => (x - a).hypot(y - b) <= radius,
            Self::Rule([left, top, right, bottom]) => {
                (left..=right).contains(&x) && (top..=bottom).contains(&y)
            }
        }
    }
}

/// An image of the data set, where its corner stands, and how many times as large.
struct Placed<'a> {
    image: &'a [u8],
    corner: [f32; 2],
    size: f32,
}

/// Left, top, right and bottom of an image's ink.
fn ink_box(image: &[u8], side: usize) -> [f32; 4] {
    let inked = |at: &usize| image[*at] > 64;
    let range = |of: fn(usize, usize) -> usize| {
        let all = (0..side * side).filter(inked).map(|at| of(at, side));
        all.fold((side, 0), |(low, high), at| (low.min(at), high.max(at + 1)))
    };
    let ((left, right), (top, bottom)) = (range(|at, side| at % side), range(|at, side| at / side));
    [left as f32, top as f32, right as f32, bottom as f32]
}

/// Everything on a picture, and the box of the digits.
struct Scene<'a> {
    side: usize,
    digits: Vec<Placed<'a>>,
    frame: [f32; 4],
    ground: Vec<Form>,
    ink: Vec<Form>,
}

impl<'a> Scene<'a> {
    fn new(dataset: &'a Dataset, random: &mut Random, first: usize, kind: &Kind) -> Self {
        let side = dataset.shape.height;
        let (mut digits, mut frame) = (Vec::new(), [0.0f32; 4]);
        let mut last = frame;
        for place in 0..kind.digits {
            let number = if place == 0 { first } else { random.below(dataset.len()) };
            let image = dataset.image(number);
            let size = if place == 0 { 1.0 } else { random.between(0.75, 1.25) };
            let inked = ink_box(image, side).map(|at| at * size);
            let (width, height) = (inked[2] - inked[0], inked[3] - inked[1]);
            let gap = random.between(kind.gap.0, kind.gap.1);
            let slide = random.between(-0.25, 0.25);
            let (left, top) = if place == 0 {
                (0.0, 0.0)
            } else if kind.turn == 0.0 {
                (last[2] + gap, (last[1] + last[3] - height) / 2.0 + slide * height)
            } else if kind.turn == 1.0 {
                ((last[0] + last[2] - width) / 2.0 + slide * width, last[3] + gap)
            } else {
                (last[2] + gap, last[3] + gap)
            };
            last = [left, top, left + width, top + height];
            frame = if place == 0 {
                last
            } else {
                [frame[0].min(last[0]), frame[1].min(last[1]), frame[2].max(last[2]), frame[3].max(last[3])]
            };
            digits.push(Placed { image, corner: [left - inked[0], top - inked[1]], size });
        }
        let mut scene = Self { side, digits, frame, ground: Vec::new(), ink: Vec::new() };
        scene.damage(random, kind);
        scene
    }

    /// What breaks the digit, and what lies beside it.
    fn damage(&mut self, random: &mut Random, kind: &Kind) {
        let [left, top, right, bottom] = self.frame;
        let inside = |random: &mut Random, share: f32| {
            let low = 0.5 - share / 2.0;
            let (x, y) = (random.between(low, low + share), random.between(low, low + share));
            [left + x * (right - left), top + y * (bottom - top)]
        };
        if kind.cut.1 > 0.0 {
            let angle = random.between(kind.across.0, kind.across.1);
            let half = random.between(kind.cut.0, kind.cut.1) / 2.0;
            self.ground.push(Form::Line(inside(random, 0.6), [angle.cos(), angle.sin()], half));
        }
        let mut holes = 0;
        while holes < kind.holes {
            let [x, y] = inside(random, 1.0);
            if self.digit(x, y) > 128.0 {
                self.ground.push(Form::Spot([x, y], random.between(1.0, 2.0)));
                holes += 1;
            }
        }
        for _ in 0..kind.specks {
            self.ink.push(Form::Spot(inside(random, 1.6), random.between(0.3, 0.9)));
        }
        let (thick, gap) = (random.between(0.5, 1.5), random.between(1.5, 5.0));
        let (before, after) = (random.between(4.0, 16.0), random.between(4.0, 16.0));
        if kind.bar {
            self.ink.push(Form::Rule([right + gap, top - before, right + gap + thick, bottom + after]));
        }
        if kind.ruled {
            self.ink.push(Form::Rule([left - before, bottom + gap, right + after, bottom + gap + thick]));
        }
    }

    /// The digits' ink at a point, 0 to 255.
    fn digit(&self, x: f32, y: f32) -> f32 {
        let at = |placed: &Placed| {
            let [left, top] = placed.corner;
            // The middle of a pixel is at a half.
            sample(placed.image, self.side, (x - left) / placed.size - 0.5, (y - top) / placed.size - 0.5)
        };
        self.digits.iter().map(at).fold(0.0, f32::max)
    }

    fn at(&self, x: f32, y: f32) -> f32 {
        if self.ink.iter().any(|form| form.covers(x, y)) {
            255.0
        } else if self.ground.iter().any(|form| form.covers(x, y)) {
            0.0
        } else {
            self.digit(x, y)
        }
    }
}

/// A picture of `kind`, as large as a scanner makes it: 4 to 12 pixels for one of the data set, soft, with noise, dark on
/// light or light on dark. Its first digit is image `index` of `dataset`.
pub(crate) fn scene(dataset: &Dataset, seed: u64, index: usize, kind: &Kind) -> Picture {
    let mut random = Random(Random(seed).next() ^ Random(!(index as u64)).next());
    let scene = Scene::new(dataset, &mut random, index % dataset.len(), kind);
    let scale = random.between(4.0, if kind.digits > 1 { 8.0 } else { 12.0 });
    let mut margin = || random.between(5.0, 14.0);
    let margins = [margin(), margin(), margin(), margin()];
    let [left, top, right, bottom] = scene.frame;
    let (left, top) = (left - margins[0], top - margins[1]);
    let width = ((right + margins[2] - left) * scale) as usize;
    let height = ((bottom + margins[3] - top) * scale) as usize;
    let sharp: Vec<f32> = (0..width * height)
        .map(|at| {
            let middle = |at: usize| (at as f32 + 0.5) / scale;
            scene.at(left + middle(at % width), top + middle(at / width))
        })
        .collect();
    let radius = (scale * random.between(0.0, 0.3)) as usize;
    let soft = blurred(&blurred(&sharp, width, radius, 1), width, radius, width);
    let (paper, ink) = if random.below(2) == 0 {
        (random.between(190.0, 250.0), random.between(10.0, 90.0))
    } else {
        (random.between(0.0, 40.0), random.between(170.0, 255.0))
    };
    let noise = random.between(0.0, 8.0);
    let level =
        |value: f32| (paper + (ink - paper) * value / 255.0 + noise * random.normal()).clamp(0.0, 255.0);
    let pixels = soft.into_iter().map(level).map(|level| level as u8).collect();
    Picture::new(width, height, 1, pixels).expect("a picture")
}

/// The mean of `2 radius + 1` pixels, `step` apart.
fn blurred(pixels: &[f32], width: usize, radius: usize, step: usize) -> Vec<f32> {
    let height = pixels.len() / width;
    let mean = |at: usize| {
        let (here, length) = if step == 1 { (at % width, width) } else { (at / width, height) };
        let (low, high) = (here.saturating_sub(radius), (here + radius + 1).min(length));
        let sum: f32 = (low..high).map(|other| pixels[at + other * step - here * step]).sum();
        sum / (high - low) as f32
    };
    (0..pixels.len()).map(mean).collect()
}

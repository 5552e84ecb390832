//! Several digits in one picture: a postal code, an amount, a meter.
//!
//! Longer than other files: cutting the ink, the candidates and the choice among them share their terms.
//!
//! The ink is cut into pieces: connected strokes, and slices of those that are too wide for one digit.
//! A digit is a run of neighbouring pieces; which runs, the network decides: of all ways to divide a line
//! the one with the highest sum of log-probabilities is read, found by dynamic programming over the cuts
//! (over-segmentation and recognition: Matan, Burges, LeCun & Denker 1992, "Multi-digit recognition using
//! a space displacement neural network", compares the two).

use std::collections::BTreeSet;

use serde::Serialize;

use crate::{
    Classifier, ClassifyError, InputShape, Picture, Policy, Prediction, Scores,
    input::{
        digit,
        ink::{Component, Ink, grey},
    },
};

/// Longest side on which ink is searched for.
const SEARCH: usize = 1600;

/// A digit may be this many pieces.
const MOST_PIECES: usize = 6;

/// What a cut through ink costs, for a cut as long as the line is high. Like the other costs in natural
/// logarithms of a probability, chosen on strips of MNIST's training images.
const CUT: f32 = 3.0;

/// What a digit costs that is wider than high, for each time its height.
const WIDE: f32 = 10.0;

/// What it costs to pass over a mark that is too small for a digit.
const SKIP: f32 = 2.5;

/// What it costs to take a small mark for a digit of its own.
const SMALL: f32 = 2.0;

/// What a digit costs that is as strange as the strangest accepted one, see [`Classifier::novelty`]; the cost
/// grows with the square, so that one strange digit is worse than two that are a little so. Otherwise the
/// division into the fewest digits would win.
const STRANGE: f32 = 3.0;

/// More marks than these are not weighed: several digits, or none.
const MOST_MARKS: usize = 24;

/// For the question whether a picture holds several digits: shorter than this share of the largest, a mark is none.
const LOWEST: f32 = 0.4;

/// What speaks for several digits, as the logarithm of the odds for each unit of a sign, see [`Apart::odds`]: logistic
/// regression on 865 pictures of MNIST's validation images, drawn by the example `several_digits` (one digit as a scanner
/// gives it, whole, cut through, with broken strokes, dirt or a rule; two and three beside, above and aslant, from one
/// pixel of MNIST apart). A single digit weighs five times as much as several. Of these pictures 1 of 520 with one digit was
/// taken for several, and of 345 with several 20 were not found, 14 of which stood one pixel apart; since then those above
/// each other count their length from [`BROKEN`] on.
const BEFORE: f32 = -13.4;
const LEAST: f32 = 0.94;
const TOGETHER: f32 = -0.21;
const APART: f32 = 8.2;
const SMALLEST: f32 = 8.8;
const WIDE_PAIR: f32 = 5.2;
const HIGH_PAIR: f32 = 1.3;
const ABOVE: f32 = 3.3;

/// Less wide than this share of its height, a digit is a 1, or a stroke.
const THIN: f32 = 0.45;
/// Nearer above each other than this, as a share of the highest, they may be the halves of a digit that was cut through.
/// Compared on 100 validation images of each kind of the example: 0.05 would find 98 instead of 71 of the pairs 2 to 8 pixels
/// above each other, and take 16 instead of 10 of 1,000 single digits for several.
const BROKEN: f32 = 0.15;

/// More marks than any text of digits has. Each is asked about several times, so that a page full of dots would take
/// minutes.
const MOST_OF_A_TEXT: usize = 1000;

/// Bytes that the images of a text's digits may take, and so the work it may ask for: of a network with large images, a
/// text has fewer marks.
const MOST_BYTES: usize = 16 << 20;

/// Bytes of images that go through the network together, those of 256 in MNIST's size: the layers hold many times as
/// much.
const AT_ONCE: usize = 256 * 28 * 28;

/// How many marks a text may have for a network with these images.
fn most_marks(input: InputShape) -> usize {
    (MOST_BYTES / input.len()).clamp(1, MOST_OF_A_TEXT)
}

/// How many of these images go through the network together.
fn at_once(input: InputShape) -> usize {
    (AT_ONCE / input.len()).max(1)
}

/// How many times the pixels of the picture may lie in the boxes of its marks: each box is searched.
const MOST_OVERLAP: usize = 16;

/// What was read in a picture.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Reading {
    /// The digits in order, lines divided by a space; `?` for a rejected one.
    pub text: String,
    /// Each digit with its place.
    pub digits: Vec<ReadDigit>,
}

/// One digit of a [`Reading`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReadDigit {
    /// The class.
    pub label: String,
    /// Its probability.
    pub probability: f32,
    /// Left, top, width and height in pixels of the picture.
    #[serde(rename = "box")]
    pub frame: [usize; 4],
    /// Whether the answer is not to be believed.
    pub rejected: bool,
    /// What the network saw, `[C, H, W]`.
    #[serde(skip)]
    pub image: Vec<u8>,
}

impl Reading {
    /// The probability that every digit is right: the product.
    pub fn probability(&self) -> f32 {
        self.digits.iter().map(|digit| digit.probability).product()
    }
}

/// A line with all that may be a digit in it.
struct ReadLine {
    candidates: Vec<Candidate>,
    /// One for each candidate.
    scores: Vec<Scores>,
    /// Those of the best division.
    chosen: Vec<usize>,
}

/// A run of pieces that may be one digit.
struct Candidate {
    /// First piece of the line, and one past the last.
    range: (usize, usize),
    frame: Component,
    /// What its shape and its cuts cost.
    cost: f32,
}

impl Classifier {
    /// Reads the digits of a picture, lines from the top, each from the left.
    ///
    /// # Errors
    /// When the device could not be read, the network takes neither 1 nor 3 channels, or the picture holds more marks
    /// than a text of digits has, for the size of the network's images.
    pub fn read(&self, picture: &Picture, policy: &Policy) -> Result<Reading, ClassifyError> {
        let input = self.input();
        if !self.metadata().task.is_classify() {
            return Err(ClassifyError::MultiLabel("read digits"));
        }
        if !matches!(input.channels, 1 | 3) {
            let source = crate::PictureError::Channels { channels: input.channels };
            return Err(ClassifyError::Picture { index: 0, source });
        }
        let mut ink = Ink::find(&grey(picture), SEARCH);
        let limit = most_marks(input);
        let boxes: usize = ink.components.iter().map(|mark| mark.width() * mark.height()).sum();
        if boxes > MOST_OVERLAP * ink.values.len() {
            return Err(ClassifyError::TooManyMarks { found: ink.components.len(), limit, input });
        }
        let lines = lines(&mut ink);
        let found = lines.iter().map(|line| line.pieces.len()).sum();
        if found > limit {
            return Err(ClassifyError::TooManyMarks { found, limit, input });
        }
        let mut reading = Reading::default();
        for line in lines {
            let read = self.read_line(&ink, &line)?;
            if !reading.text.is_empty() && !read.chosen.is_empty() {
                reading.text.push(' ');
            }
            for index in read.chosen {
                let Prediction { label, probability, rejected, .. } =
                    self.prediction(&read.scores[index], &Policy { top: 1, ..*policy });
                reading.text.push_str(if rejected { "?" } else { &label });
                reading.digits.push(ReadDigit {
                    label,
                    probability,
                    rejected,
                    frame: original_frame(&read.candidates[index].frame, &ink, picture),
                    image: line.image(&ink, &read.candidates[index], input),
                });
            }
        }
        Ok(reading)
    }

    /// The most bytes of images that [`Self::read`] holds at a time, beside the picture: those that go through the network
    /// and those of the digits that were read.
    pub fn reading_memory(&self) -> usize {
        self.examining_memory() + most_marks(self.input()) * self.input().len()
    }

    /// The same of [`Self::examine`].
    pub fn examining_memory(&self) -> usize {
        at_once(self.input()) * self.input().len()
    }

    /// The best division of a line.
    fn read_line(&self, ink: &Ink, line: &Line) -> Result<ReadLine, ClassifyError> {
        let input = self.input();
        let candidates = line.candidates();
        let mut scores = Vec::with_capacity(candidates.len());
        for some in candidates.chunks(at_once(input)) {
            let images: Vec<u8> =
                some.iter().flat_map(|candidate| line.image(ink, candidate, input)).collect();
            scores.extend(self.scores(&images)?);
        }
        let values: Vec<f32> = candidates
            .iter()
            .zip(&scores)
            .map(|(candidate, scores)| self.evidence(scores) - candidate.cost)
            .collect();
        let chosen = line.best(&candidates, &values);
        Ok(ReadLine { candidates, scores, chosen })
    }

    /// Whether ink is more than one digit, told by strokes that do not touch: what the division into digits finds must
    /// stand apart as digits do, and all of it together must be no digit.
    ///
    /// # Errors
    /// When the device could not be read.
    pub(crate) fn is_several(&self, mut ink: Ink) -> Result<bool, ClassifyError> {
        let lines = lines(&mut ink);
        let pieces = || lines.iter().flat_map(|line| &line.pieces);
        let marks = pieces().map(|piece| piece.component).collect::<BTreeSet<_>>().len();
        if marks < 2 {
            return Ok(false);
        }
        if marks > MOST_MARKS {
            return Ok(true);
        }
        let Some(whole) = pieces().map(|piece| piece.frame).reduce(|a, b| a.union(&b)) else {
            return Ok(false);
        };
        let mut digits: Vec<(Component, f32)> = Vec::new();
        for line in &lines {
            let read = self.read_line(&ink, line)?;
            let digit = |index: usize| (read.candidates[index].frame, self.evidence(&read.scores[index]));
            digits.extend(read.chosen.iter().map(|&index| digit(index)));
        }
        let largest = digits.iter().map(|(frame, _)| frame.side()).max().unwrap_or_default();
        digits.retain(|(frame, _)| frame.side() as f32 >= LOWEST * largest as f32);
        let frames: Vec<Component> = digits.iter().map(|(frame, _)| *frame).collect();
        let Some(apart) = Apart::new(&frames) else { return Ok(false) };
        let image = digit::place(&ink, &whole, |_| true, self.input());
        let together = self.scores(&digit::with_channels(image, self.input()).planes())?;
        let together = together.iter().map(|scores| self.evidence(scores)).fold(0.0, f32::min);
        let least = digits.iter().map(|(_, evidence)| *evidence).fold(0.0, f32::min);
        Ok(apart.odds(least, together) > 0.0)
    }

    /// The probability of the likeliest class.
    fn highest_probability(&self, scores: &Scores) -> f32 {
        self.probabilities(scores).into_iter().fold(0.0, f32::max)
    }

    /// How well an image is a digit: the logarithm of its highest probability, less for a strange one.
    fn evidence(&self, scores: &Scores) -> f32 {
        let probability = self.highest_probability(scores);
        let strange = self.novelty(scores).map_or(0.0, |novelty| ((novelty - 0.3) / 0.7).clamp(0.0, 2.0));
        probability.max(1e-6).ln() - STRANGE * strange * strange
    }
}

/// How digits stand beside or above each other.
#[derive(Debug, PartialEq)]
struct Apart {
    /// The widest distance of a digit from its nearest neighbour, as a share of the highest digit; negative where their
    /// boxes overlap.
    gap: f32,
    /// Whether they stand one above the other.
    is_above: bool,
    /// How long all together are: the width by the highest digit of those that stand beside each other, the height by
    /// the widest of the others; 0 for thin strokes or near ones above each other, which may be a digit in pieces.
    length: f32,
    /// The smallest digit as a share of the largest, by the longer side.
    smallest: f32,
}

impl Apart {
    /// `None` for fewer than two digits.
    fn new(digits: &[Component]) -> Option<Self> {
        let distance = |a: usize, b: usize, c: usize, d: usize| a.max(c) as f32 - b.min(d) as f32;
        let across = |a: &Component, b: &Component| distance(a.left, a.right, b.left, b.right);
        let down = |a: &Component, b: &Component| distance(a.top, a.bottom, b.top, b.bottom);
        let nearest = |(index, a): (usize, &Component)| {
            let others = digits.iter().enumerate().filter(|&(other, _)| other != index);
            let gaps = others.map(|(_, b)| (across(a, b), down(a, b)));
            gaps.min_by(|a, b| a.0.max(a.1).total_cmp(&b.0.max(b.1)))
        };
        let (beside, above) = digits
            .iter()
            .enumerate()
            .filter_map(nearest)
            .max_by(|a, b| a.0.max(a.1).total_cmp(&b.0.max(b.1)))?;
        let whole = digits.iter().copied().reduce(|a, b| a.union(&b))?;
        let highest = digits.iter().map(Component::height).max()? as f32;
        let widest = digits.iter().map(Component::width).max()? as f32;
        let is_above = above > beside;
        let gap = beside.max(above) / highest.max(1.0);
        let length = if is_above && (widest < THIN * highest || gap <= BROKEN) {
            0.0
        } else if is_above {
            whole.height() as f32 / widest
        } else {
            whole.width() as f32 / highest
        };
        let sides = || digits.iter().map(Component::side);
        let smallest = sides().min()? as f32 / sides().max()?.max(1) as f32;
        Some(Self { gap, is_above, length, smallest })
    }

    /// The logarithm of the odds that these are several digits and not the strokes of one: `least` is the least of their
    /// [evidences](Classifier::evidence), `together` that of all ink as one digit.
    fn odds(&self, least: f32, together: f32) -> f32 {
        // Beyond these bounds a sign says nothing more.
        let certain = |evidence: f32| evidence.max(-6.0);
        let length = if self.is_above {
            ABOVE + HIGH_PAIR * self.length.min(4.0)
        } else {
            WIDE_PAIR * self.length.min(2.5)
        };
        let apart = APART * self.gap.clamp(-0.1, 1.0) + SMALLEST * self.smallest;
        BEFORE + LEAST * certain(least) + TOGETHER * certain(together) + apart + length
    }
}

/// From the reduced picture to the given one.
fn original_frame(frame: &Component, ink: &Ink, picture: &Picture) -> [usize; 4] {
    let low = |at: usize| (at as f64 * ink.reduction).floor() as usize;
    let high = |at: usize, limit: usize| ((at as f64 * ink.reduction).ceil() as usize).min(limit);
    let (left, top) = (low(frame.left), low(frame.top));
    let (right, bottom) = (high(frame.right, picture.width()), high(frame.bottom, picture.height()));
    [left, top, right.saturating_sub(left), bottom.saturating_sub(top)]
}

/// A slice of connected ink, or all of it.
#[derive(Clone, Copy)]
struct Piece {
    frame: Component,
    /// The connected ink it is of.
    component: usize,
    /// Box of that ink.
    whole: Component,
    /// Ink on the seam to the slice before, as a share of the line's height; 0 where nothing was cut.
    seam: f32,
}

/// A line of digits. Its pieces have consecutive labels in the ink, from left to right.
struct Line {
    pieces: Vec<Piece>,
    /// Label of the first piece, less 1.
    first: usize,
    height: f32,
}

/// Finds the lines, and gives every pixel the label of its piece; what is no piece becomes ground.
fn lines(ink: &mut Ink) -> Vec<Line> {
    let groups = rows(ink);
    let mut labels = vec![0u32; ink.labels.len()];
    let mut lines = Vec::with_capacity(groups.len());
    let mut first = 0;
    for members in groups {
        let height = typical_height(members.iter().map(|&index| &ink.components[index]));
        let mut pieces = Vec::new();
        for &index in &members {
            pieces.extend(slices(ink, index, height));
        }
        // Seams tilt: the middle of a slice says where it stands.
        pieces.sort_by_key(|(piece, _)| (piece.frame.left + piece.frame.right, piece.component));
        for (number, (_, pixels)) in pieces.iter().enumerate() {
            for &at in pixels {
                labels[at] = (first + number) as u32 + 1;
            }
        }
        let count = pieces.len();
        lines.push(Line { pieces: pieces.into_iter().map(|(piece, _)| piece).collect(), first, height });
        first += count;
    }
    ink.labels = labels;
    lines
}

/// The height of the digits among some marks: the median of those at least half as high as the highest.
fn typical_height<'a>(marks: impl Iterator<Item = &'a Component> + Clone) -> f32 {
    let highest = marks.clone().map(Component::height).max().unwrap_or_default();
    let mut heights: Vec<usize> =
        marks.map(Component::height).filter(|&height| 2 * height >= highest).collect();
    heights.sort_unstable();
    heights.get(heights.len() / 2).copied().unwrap_or(1).max(1) as f32
}

/// A line of digits with its top and bottom, the means of its members.
struct Band {
    members: Vec<usize>,
    top: f32,
    bottom: f32,
}

/// The components of each line of writing, without rulings, shadows and specks.
fn rows(ink: &Ink) -> Vec<Vec<usize>> {
    let components = &ink.components;
    let is_ruling = |c: &Component| {
        let (long, short) = (c.side(), c.width().min(c.height()));
        // Across most of the picture and thin, or a patch of shadow at its edge.
        let across = c.width() * 10 >= ink.width * 9 || c.height() * 10 >= ink.height * 9;
        ink.at_edge(c) && across && (long >= 12 * short || c.area * 3 >= c.width() * c.height() * 2)
            || c.width() >= 12 * c.height() && c.width() * 2 >= ink.width
    };
    let marks: Vec<usize> = (0..components.len()).filter(|&index| !is_ruling(&components[index])).collect();
    let inside = |index: &&usize| !ink.at_edge(&components[**index]);
    let typical = if marks.iter().any(|index| inside(&index)) {
        typical_height(
            marks.iter().filter(inside).map(|&index| &components[index]).collect::<Vec<_>>().into_iter(),
        )
    } else {
        typical_height(marks.iter().map(|&index| &components[index]))
    };
    // Digits are seen at all from a few pixels on.
    if typical < 5.0 {
        return Vec::new();
    }
    let height = |index: usize| components[index].height() as f32;
    let is_speck = |c: &Component| {
        (c.side() as f32) < 0.15 * typical || (c.area as f32) < 0.004 * typical * typical || c.area < 4
    };
    let mut full: Vec<usize> = marks
        .iter()
        .copied()
        .filter(|&index| height(index) >= 0.5 * typical && height(index) <= 3.0 * typical)
        .collect();
    full.sort_by_key(|&index| components[index].top + components[index].bottom);
    let mut bands: Vec<Band> = Vec::new();
    for index in full {
        let c = &components[index];
        let (top, bottom) = (c.top as f32, c.bottom as f32);
        let overlap = |band: &Band| {
            (bottom.min(band.bottom) - top.max(band.top)) / (bottom - top).min(band.bottom - band.top)
        };
        match bands
            .iter_mut()
            .filter(|band| overlap(band) >= 0.5)
            .max_by(|a, b| overlap(a).total_cmp(&overlap(b)))
        {
            Some(band) => {
                let n = band.members.len() as f32;
                band.top = (band.top * n + top) / (n + 1.0);
                band.bottom = (band.bottom * n + bottom) / (n + 1.0);
                band.members.push(index);
            }
            None => bands.push(Band { members: vec![index], top, bottom }),
        }
    }
    // Broken strokes belong to the line they stand in.
    for &index in &marks {
        let c = &components[index];
        if height(index) >= 0.5 * typical || is_speck(c) {
            continue;
        }
        let middle = (c.top + c.bottom) as f32 / 2.0;
        if let Some(band) = bands
            .iter_mut()
            .find(|band| middle >= band.top - 0.2 * typical && middle <= band.bottom + 0.1 * typical)
        {
            band.members.push(index);
        }
    }
    bands.sort_by(|a, b| a.top.total_cmp(&b.top));
    bands.into_iter().map(|band| band.members).collect()
}

/// The pieces of a component with their pixels: itself, or slices between seams of little ink.
fn slices(ink: &Ink, index: usize, line_height: f32) -> Vec<(Piece, Vec<usize>)> {
    let whole = ink.components[index];
    let label = index as u32 + 1;
    let seams = if whole.width() as f32 > 0.7 * line_height && whole.height() as f32 > 0.5 * line_height {
        seams(ink, &whole, label, line_height)
    } else {
        Vec::new()
    };
    let mut pieces: Vec<(Option<Component>, Vec<usize>)> = vec![(None, Vec::new()); seams.len() + 1];
    for y in whole.top..whole.bottom {
        for x in whole.left..whole.right {
            let at = y * ink.width + x;
            if ink.labels[at] != label {
                continue;
            }
            let slice = seams.iter().filter(|seam| seam.columns[y - whole.top] <= x).count();
            let pixel = Component { left: x, top: y, right: x + 1, bottom: y + 1, area: 1 };
            let (frame, pixels) = &mut pieces[slice];
            *frame = Some(frame.map_or(pixel, |frame| frame.union(&pixel)));
            pixels.push(at);
        }
    }
    let seam_before = |slice: usize| if slice == 0 { 0.0 } else { seams[slice - 1].ink / line_height };
    pieces
        .into_iter()
        .enumerate()
        .filter_map(|(slice, (frame, pixels))| {
            let piece = Piece { frame: frame?, component: index, whole, seam: seam_before(slice) };
            Some((piece, pixels))
        })
        .collect()
}

/// A way from the top of a component to its bottom, one column for each row, a step of at most one column
/// from row to row.
struct Seam {
    columns: Vec<usize>,
    /// Ink on it, in pixels.
    ink: f32,
}

/// Seams near the columns with the least ink, from the left.
fn seams(ink: &Ink, whole: &Component, label: u32, line_height: f32) -> Vec<Seam> {
    let (width, height) = (whole.width(), whole.height());
    let plane = ink.cut(whole, 0, |other| other == label);
    let column = |x: usize| (0..height).map(|y| f32::from(plane.values[y * width + x])).sum::<f32>() / 255.0;
    let profile: Vec<f32> = (0..width).map(column).collect();
    let radius = (0.03 * line_height) as usize;
    let smooth: Vec<f32> = (0..width)
        .map(|x| {
            let part = &profile[x.saturating_sub(radius)..(x + radius + 1).min(width)];
            part.iter().sum::<f32>() / part.len() as f32
        })
        .collect();
    let edge = (0.12 * line_height) as usize;
    let reach = ((0.08 * line_height) as usize).max(1);
    let mut found: Vec<Seam> = (edge.max(1)..width.saturating_sub(edge.max(1)))
        .filter(|&x| {
            let part = &smooth[x.saturating_sub(reach)..(x + reach + 1).min(width)];
            part.iter().all(|&other| smooth[x] <= other)
        })
        .map(|x| seam(&plane.values, width, height, x, (0.22 * line_height) as usize + 1))
        .collect();
    found.sort_by(|a, b| a.ink.total_cmp(&b.ink));
    let most = ((width as f32 / line_height * 4.0) as usize).clamp(2, 16);
    let mut kept: Vec<Seam> = Vec::new();
    for seam in found {
        let distance = |other: &Seam| {
            let sum: usize = seam.columns.iter().zip(&other.columns).map(|(a, b)| a.abs_diff(*b)).sum();
            sum as f32 / height as f32
        };
        if seam.ink <= 0.6 * line_height
            && kept.len() < most
            && kept.iter().all(|other| distance(other) > 0.06 * line_height)
        {
            kept.push(seam);
        }
    }
    let mean = |seam: &Seam| seam.columns.iter().sum::<usize>();
    kept.sort_by_key(mean);
    for seam in &mut kept {
        seam.columns.iter_mut().for_each(|x| *x += whole.left);
    }
    kept
}

/// The seam with the least ink within `reach` columns of `start`.
fn seam(values: &[u8], width: usize, height: usize, start: usize, reach: usize) -> Seam {
    let (low, high) = (start.saturating_sub(reach), (start + reach + 1).min(width));
    let columns = high - low;
    // Straight where it costs nothing.
    let cost = |x: usize, y: usize| {
        f32::from(values[y * width + low + x]) / 255.0
            + 0.002 * (low + x).abs_diff(start) as f32 / reach as f32
    };
    let mut best: Vec<f32> = (0..columns).map(|x| cost(x, 0)).collect();
    let mut from = vec![0u8; columns * height];
    for y in 1..height {
        let before = best.clone();
        for (x, best) in best.iter_mut().enumerate() {
            let mut step = (1u8, before[x]);
            for (code, other) in [(0, x.checked_sub(1)), (2, Some(x + 1).filter(|&x| x < columns))] {
                // A tilted step crosses a little more.
                if let Some(value) = other.map(|other| before[other] + 0.01)
                    && value < step.1
                {
                    step = (code, value);
                }
            }
            *best = step.1 + cost(x, y);
            from[y * columns + x] = step.0;
        }
    }
    let mut x = (0..columns).min_by(|&a, &b| best[a].total_cmp(&best[b])).unwrap_or_default();
    let mut path = vec![0; height];
    let mut ink = 0.0;
    for y in (0..height).rev() {
        path[y] = low + x;
        ink += f32::from(values[y * width + low + x]) / 255.0;
        x = (x + usize::from(from[y * columns + x])).saturating_sub(1).min(columns - 1);
    }
    Seam { columns: path, ink }
}

impl Line {
    /// What the network is to see of a run of pieces, `[C, H, W]`.
    fn image(&self, ink: &Ink, candidate: &Candidate, input: InputShape) -> Vec<u8> {
        let (from, to) = candidate.range;
        let keep = |label: u32| (self.first + from..self.first + to).contains(&(label as usize - 1));
        digit::with_channels(digit::place(ink, &candidate.frame, keep, input), input).planes()
    }

    /// All runs of pieces that may be a digit.
    fn candidates(&self) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        for from in 0..self.pieces.len() {
            let mut frame = self.pieces[from].frame;
            for to in from + 1..=(from + MOST_PIECES).min(self.pieces.len()) {
                if to > from + 1 {
                    frame = frame.union(&self.pieces[to - 1].frame);
                }
                if let Some(cost) = self.cost(from, to, &frame) {
                    candidates.push(Candidate { range: (from, to), frame, cost });
                }
            }
        }
        candidates
    }

    /// What the shape of a run speaks against it; `None` if it cannot be a digit.
    fn cost(&self, from: usize, to: usize, frame: &Component) -> Option<f32> {
        let (width, height) = (frame.width() as f32, frame.height() as f32);
        let run = &self.pieces[from..to];
        // A single mark is always possible, or the line would have no reading.
        let whole = run.len() == 1 && run[0].frame == run[0].whole;
        let aspect = width / height.max(0.5 * self.height);
        if aspect > 1.8 && !whole {
            return None;
        }
        // Two whole digits that do not touch are two.
        for (index, a) in run.iter().enumerate() {
            for b in &run[index + 1..] {
                if a.component != b.component && !self.may_join(a, b) {
                    return None;
                }
            }
        }
        let mut cost = WIDE * (aspect - 1.0).max(0.0);
        if height < 0.4 * self.height {
            cost += SMALL;
        }
        // Half a cut for each of the two digits that it makes.
        let cut = |index: usize| {
            let before = index.checked_sub(1).and_then(|before| self.pieces.get(before));
            let seam =
                self.pieces.get(index).filter(|piece| before.is_some_and(|b| b.component == piece.component));
            seam.map_or(0.0, |piece| 0.5 * CUT * piece.seam + 0.05)
        };
        cost += cut(from) + cut(to);
        Some(cost)
    }

    /// Whether strokes that do not touch can be one digit: one of them is small, and they are near.
    fn may_join(&self, a: &Piece, b: &Piece) -> bool {
        let (first, second) = (&a.whole, &b.whole);
        let small = |c: &Component| (c.height() as f32) < 0.6 * self.height;
        let overlap = first.right.min(second.right) as f32 - first.left.max(second.left) as f32;
        let narrow = first.width().min(second.width()) as f32;
        let gap = -overlap;
        (small(first) || small(second)) && gap < 0.15 * self.height
            || overlap > 0.75 * narrow && narrow > 0.25 * self.height && (small(first) || small(second))
    }

    /// The runs that together are worth most and hold every piece once, in order.
    fn best(&self, candidates: &[Candidate], values: &[f32]) -> Vec<usize> {
        let n = self.pieces.len();
        // For each piece boundary: the best value of all before, and the run that ends there (none: a mark
        // was passed over).
        let mut best: Vec<(f32, Option<usize>)> = vec![(f32::NEG_INFINITY, None); n + 1];
        best[0].0 = 0.0;
        for end in 1..=n {
            let mark = &self.pieces[end - 1];
            let passed = (mark.frame == mark.whole && (mark.whole.height() as f32) < 0.4 * self.height)
                .then(|| best[end - 1].0 - SKIP);
            // If nothing fits, a mark is passed over at a high price rather than the line lost.
            let mut choice = (passed.unwrap_or(best[end - 1].0 - 50.0), None);
            for (index, candidate) in candidates.iter().enumerate().filter(|(_, c)| c.range.1 == end) {
                let value = best[candidate.range.0].0 + values[index];
                if value > choice.0 {
                    choice = (value, Some(index));
                }
            }
            best[end] = choice;
        }
        let mut chosen = Vec::new();
        let mut end = n;
        while end > 0 {
            match best[end].1 {
                Some(index) => {
                    chosen.push(index);
                    end = candidates[index].range.0;
                }
                None => end -= 1,
            }
        }
        chosen.reverse();
        chosen
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use burn::tensor::Device;

    use super::*;
    use crate::{CnnConfig, ConvBlockConfig, Description, NetworkConfig, Preprocessing, decode, encode};

    /// White rectangles (left, top, right, bottom) on black.
    fn ink(width: usize, height: usize, boxes: &[(usize, usize, usize, usize)]) -> Ink {
        let inside = |x: usize, y: usize| {
            boxes
                .iter()
                .any(|&(left, top, right, bottom)| (left..right).contains(&x) && (top..bottom).contains(&y))
        };
        let pixels =
            (0..width * height).map(|at| if inside(at % width, at / width) { 255 } else { 0 }).collect();
        Ink::find(&Picture::new(width, height, 1, pixels).unwrap(), SEARCH)
    }

    fn frames(line: &Line) -> Vec<(usize, usize, usize, usize)> {
        line.pieces.iter().map(|p| (p.frame.left, p.frame.top, p.frame.right, p.frame.bottom)).collect()
    }

    #[test]
    fn lines_come_from_the_top_and_marks_from_the_left() {
        let bars = [(60, 62, 66, 90), (20, 60, 26, 90), (40, 10, 46, 40), (20, 12, 26, 42), (80, 12, 86, 40)];
        let mut found = ink(120, 100, &bars);
        let lines = lines(&mut found);
        let first = vec![(20, 12, 26, 42), (40, 10, 46, 40), (80, 12, 86, 40)];
        let second = vec![(20, 60, 26, 90), (60, 62, 66, 90)];
        assert_eq!(lines.iter().map(frames).collect::<Vec<_>>(), [first, second]);
        assert_eq!(lines.iter().map(|line| line.first).collect::<Vec<_>>(), [0, 3]);
        assert_eq!(found.labels[70 * 120 + 62], 5);
    }

    #[test]
    fn rulings_and_specks_are_no_digits() {
        let boxes = [(30, 30, 36, 60), (60, 30, 66, 60), (0, 70, 200, 72), (100, 50, 102, 52)];
        let lines = lines(&mut ink(200, 100, &boxes));
        assert_eq!(lines.iter().map(frames).collect::<Vec<_>>(), [vec![(30, 30, 36, 60), (60, 30, 66, 60)]]);
    }

    #[test]
    fn two_bars_joined_by_a_thin_bridge_are_cut_there() {
        // 30 columns of ink, a bridge of 2 rows from column 32 to 48, 30 columns of ink.
        let mut found = ink(120, 80, &[(12, 20, 32, 60), (32, 39, 48, 41), (48, 20, 68, 60)]);
        let lines = lines(&mut found);
        assert_eq!(lines.len(), 1);
        let line = &lines[0];
        assert!(line.pieces.len() >= 2, "{:?}", frames(line));
        let bridge = line.pieces.iter().find(|piece| (32..=48).contains(&piece.frame.left)).unwrap();
        assert!(bridge.seam < 0.1, "{}", bridge.seam);
        // Cut there it costs little, elsewhere much.
        let candidates = line.candidates();
        let left = candidates.iter().find(|c| c.range.0 == 0 && (31..=48).contains(&c.frame.right)).unwrap();
        assert!(left.cost < 0.5, "{}", left.cost);
    }

    #[test]
    fn strokes_of_one_digit_may_join_and_two_digits_may_not() {
        // A five whose bar stands apart, then a bar of its own.
        let lines = lines(&mut ink(160, 90, &[(30, 24, 52, 70), (46, 14, 62, 19), (90, 15, 96, 70)]));
        assert_eq!(lines.len(), 1);
        let candidates = lines[0].candidates();
        let widths: Vec<(usize, usize)> = candidates.iter().map(|c| (c.frame.left, c.frame.right)).collect();
        assert!(widths.contains(&(30, 62)), "{widths:?}");
        assert!(widths.iter().all(|&(left, right)| !(left < 62 && right > 90)), "{widths:?}");
    }

    #[test]
    fn the_best_division_is_found() {
        let frame = Component { left: 0, top: 0, right: 10, bottom: 20, area: 1 };
        let piece = Piece { frame, component: 0, whole: frame, seam: 0.0 };
        let line = Line { pieces: vec![piece; 3], first: 0, height: 20.0 };
        let candidate = |from, to| Candidate { range: (from, to), frame, cost: 0.0 };
        let candidates = [
            candidate(0, 1),
            candidate(0, 2),
            candidate(1, 2),
            candidate(1, 3),
            candidate(2, 3),
            candidate(0, 3),
        ];
        // Alone: -1 -4 -1; joined: (0,2) -2, (1,3) -1.5, all -9.
        assert_eq!(line.best(&candidates, &[-1.0, -2.0, -4.0, -1.5, -1.0, -9.0]), [0, 3]);
        assert_eq!(line.best(&candidates, &[-1.0, -2.0, -0.1, -1.5, -0.1, -9.0]), [0, 2, 4]);
        assert_eq!(line.best(&candidates, &[-9.0, -9.0, -9.0, -9.0, -9.0, -1.0]), [5]);
    }

    #[test]
    fn digits_stand_apart_and_strokes_do_not() {
        let frame = |left: usize, top: usize, width: usize, height: usize| Component {
            left,
            top,
            right: left + width,
            bottom: top + height,
            area: 1,
        };
        let apart = |boxes: &[(usize, usize, usize, usize)]| {
            let boxes: Vec<Component> = boxes.iter().map(|&(l, t, w, h)| frame(l, t, w, h)).collect();
            Apart::new(&boxes).map(|apart| {
                let one = if apart.is_above { 1.0 / 0.45 } else { 1.2 };
                ((apart.gap * 100.0).round() as i32, apart.length > one)
            })
        };
        assert_eq!(apart(&[]), None);
        assert_eq!(apart(&[(0, 0, 60, 100)]), None);
        // Two digits beside each other, at one height and at two.
        assert_eq!(apart(&[(0, 0, 60, 100), (70, 0, 60, 100)]), Some((10, true)));
        assert_eq!(apart(&[(0, 0, 60, 100), (70, 80, 60, 100)]), Some((10, true)));
        // One above the other.
        assert_eq!(apart(&[(0, 0, 60, 100), (5, 140, 60, 100)]), Some((40, true)));
        // The halves of an 8, the sides of a 0, and a stroke across another.
        assert_eq!(apart(&[(0, 0, 60, 50), (0, 55, 60, 50)]), Some((10, false)));
        assert_eq!(apart(&[(0, 0, 35, 100), (45, 0, 35, 100)]), Some((10, false)));
        assert_eq!(apart(&[(0, 0, 60, 100), (20, 40, 60, 10)]), Some((-10, false)));
        // The middle of three strokes is near to both others.
        assert_eq!(apart(&[(0, 0, 50, 40), (0, 48, 50, 40), (0, 96, 50, 40)]), Some((20, true)));
    }

    #[test]
    fn digits_read_well_and_apart_are_several_and_strokes_are_not() {
        let boxes = |boxes: &[(usize, usize, usize, usize)]| -> Vec<Component> {
            let frame = |&(left, top, width, height): &(usize, usize, usize, usize)| Component {
                left,
                top,
                right: left + width,
                bottom: top + height,
                area: 1,
            };
            boxes.iter().map(frame).collect()
        };
        let beside = boxes(&[(0, 0, 60, 100), (65, 0, 60, 100)]);
        let above = boxes(&[(0, 0, 60, 100), (5, 120, 60, 100)]);
        let small = boxes(&[(0, 0, 60, 100), (120, 50, 30, 50)]);
        let far = boxes(&[(0, 0, 60, 100), (160, 20, 60, 100)]);
        // The sides of a 0 whose top and bottom are gone, the halves of an 8, of a 1, and a 7 without its corner.
        let sides = boxes(&[(0, 0, 30, 100), (55, 0, 30, 100)]);
        let halves = boxes(&[(0, 0, 60, 48), (0, 52, 60, 48)]);
        let strokes = boxes(&[(0, 0, 20, 48), (0, 53, 20, 48)]);
        let corner = boxes(&[(0, 0, 60, 25), (30, 30, 30, 70)]);
        let odds = |frames: &[Component], least, together| Apart::new(frames).unwrap().odds(least, together);
        for pair in [&beside, &above, &small, &far] {
            assert!(odds(pair, -0.2, -4.0) > 0.0, "{pair:?} {}", odds(pair, -0.2, -4.0));
        }
        for one in [&sides, &halves, &corner] {
            assert!(odds(one, -3.0, -1.0) < 0.0, "{one:?} {}", odds(one, -3.0, -1.0));
        }
        // Strokes are read as a 1 as surely as all of them together.
        assert!(odds(&strokes, -0.5, -0.5) < 0.0, "{}", odds(&strokes, -0.5, -0.5));
        // The better each is read, and the worse all together, the more they are several.
        assert!(odds(&beside, -0.1, -4.0) > odds(&beside, -3.0, -4.0));
        assert!(odds(&beside, -0.1, -4.0) > odds(&beside, -0.1, -0.5));
    }

    /// An untrained classifier of digits with images of this size.
    fn classifier(input: InputShape) -> Classifier {
        let network =
            NetworkConfig::Cnn(CnnConfig { blocks: vec![ConvBlockConfig::new(1)], ..CnnConfig::default() });
        let description = Description {
            network: network.clone(),
            preprocessing: Preprocessing { input, ..Preprocessing::mnist() },
            classes: (0..10).map(|digit| digit.to_string()).collect(),
            task: crate::Task::default(),
            provenance: BTreeMap::new(),
            confidence: None,
            seen: None,
        };
        let device = Device::flex();
        let built = network.init(input, 10, 3, &device).unwrap();
        Classifier::new(decode(&encode(&built, description).unwrap(), &device).unwrap(), device)
    }

    /// `count` bars in rows of 40, with a wide margin.
    fn bars(count: usize) -> Picture {
        const MARGIN: usize = 120;
        let (width, height) = (40 * 12 + 2 * MARGIN, count.div_ceil(40) * 24 + 2 * MARGIN);
        let is_bar = |x: usize, y: usize| {
            let (Some(x), Some(y)) = (x.checked_sub(MARGIN), y.checked_sub(MARGIN)) else { return false };
            x < 480 && y / 24 * 40 + x / 12 < count && x % 12 < 4 && y % 24 < 16
        };
        let pixels = (0..width * height).map(|at| if is_bar(at % width, at / width) { 255 } else { 0 });
        Picture::new(width, height, 1, pixels.collect()).unwrap()
    }

    #[test]
    fn what_a_text_may_hold_depends_on_the_size_of_the_images() {
        for (input, limit, together) in [
            (InputShape::new(1, 28, 28), 1000, 256),
            (InputShape::new(3, 32, 32), 1000, 65),
            (InputShape::new(1, 224, 224), 334, 4),
            (InputShape::new(3, 224, 224), 111, 1),
            (InputShape::new(3, 4096, 4096), 1, 1),
        ] {
            assert_eq!((most_marks(input), at_once(input)), (limit, together), "{input}");
        }
        let large = classifier(InputShape::new(1, 224, 224));
        assert!(large.reading_memory() <= MOST_BYTES + AT_ONCE);
        let error = large.read(&bars(335), &Policy::default()).unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("335 marks; expected at most 334 in a text") && message.contains("1x224x224"),
            "{message}"
        );
        // More candidates than go through the network together, each with its own scores and image.
        let reading = large.read(&bars(3), &Policy { keep: 1.0, ..Policy::default() }).unwrap();
        assert!(!reading.digits.is_empty());
        for digit in &reading.digits {
            let scores = large.scores(&digit.image).unwrap();
            assert_eq!(large.prediction(&scores[0], &Policy::default()).probability, digit.probability);
        }
    }

    #[test]
    fn empty_paper_has_no_lines() {
        assert!(lines(&mut ink(100, 100, &[])).is_empty());
        assert!(lines(&mut ink(100, 100, &[(50, 50, 52, 52)])).is_empty());
    }
}

//! Black and white strips as fax machines code them: ITU-T T.4 (Group 3, in one or two dimensions, and its variant in
//! TIFF without marks of the end of a line) and T.6 (Group 4). The tables of codes are those of the crate `fax`.

use fax::maps::{self, Mode};
use fax::{BitReader, ByteReader};
use std::convert::Infallible;

/// How the strips of a TIFF file are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// Compression 2: runs, each row from a byte on.
    Runs,
    /// Compression 3; of the options bit 0 says two dimensions.
    Group3 {
        /// Rows may be coded by their differences to the row above.
        two_dimensional: bool,
    },
    /// Compression 4.
    Group4,
}

/// Decodes `height` rows of `width` pixels, packed, 1 is black; `None` where codes mean nothing or rows are missing.
pub(crate) fn decode(
    bytes: impl Iterator<Item = u8>,
    coding: Coding,
    width: usize,
    height: usize,
) -> Option<Vec<u8>> {
    let width = u16::try_from(width).ok()?;
    // The tables look further than the last code.
    let padded = bytes.chain([0; 4]).map(Ok::<u8, Infallible>);
    let mut strip = Strip { reader: ByteReader::new(padded).ok()?, width };
    let row_len = usize::from(width).div_ceil(8);
    let mut packed = vec![0; row_len.checked_mul(height)?];
    let mut above: Vec<u16> = Vec::new();
    for row in packed.chunks_exact_mut(row_len) {
        let ends = match coding {
            Coding::Runs => {
                let ends = strip.one_dimensional()?;
                strip.next_byte()?;
                ends
            }
            Coding::Group3 { two_dimensional } => {
                strip.skip_end_of_line()?;
                let plain = !two_dimensional || strip.take(1)? == 1;
                if plain { strip.one_dimensional()? } else { strip.two_dimensional(&above)? }
            }
            Coding::Group4 => strip.two_dimensional(&above)?,
        };
        paint(row, &ends, width);
        above = ends;
    }
    Some(packed)
}

struct Strip<R: Iterator<Item = Result<u8, Infallible>>> {
    reader: ByteReader<R>,
    width: u16,
}

impl<R: Iterator<Item = Result<u8, Infallible>>> Strip<R> {
    fn take(&mut self, bits: u8) -> Option<u16> {
        let value = self.reader.peek(bits)?;
        self.reader.consume(bits).ok()?;
        Some(value)
    }

    fn next_byte(&mut self) -> Option<()> {
        let bits = self.reader.bits_to_byte_boundary();
        self.take(bits).map(drop)
    }

    /// Goes behind a mark of the end of a line, eleven zeros or more and a one, if one is next.
    fn skip_end_of_line(&mut self) -> Option<()> {
        while self.reader.peek(11)? == 0 {
            while self.take(1)? == 0 {}
        }
        Some(())
    }

    /// One run: codes for multiples of 64, then one for the rest.
    fn run(&mut self, black: bool) -> Option<u16> {
        let mut length = 0u16;
        loop {
            let code = if black {
                maps::black::decode(&mut self.reader)
            } else {
                maps::white::decode(&mut self.reader)
            };
            let code = code?;
            length = length.checked_add(code)?;
            if code < 64 {
                return Some(length);
            }
        }
    }

    /// Ends of runs, white first; the last is the width.
    fn one_dimensional(&mut self) -> Option<Vec<u16>> {
        let (mut ends, mut at) = (Vec::new(), 0u16);
        while at < self.width {
            at = at.checked_add(self.run(ends.len() % 2 == 1)?)?.min(self.width);
            ends.push(at);
        }
        Some(ends)
    }

    /// Ends of runs by those of the row above: T.4, 4.2.1.3.
    fn two_dimensional(&mut self, above: &[u16]) -> Option<Vec<u16>> {
        let (mut ends, mut at) = (Vec::<u16>::new(), 0u16);
        let mut begun = false;
        let width = self.width;
        let change = |index: usize| above.get(index).copied().unwrap_or(width);
        // The first change of the row above to the right. Neither row goes back, so neither does this.
        let mut next = 0;
        // Where the row is changed next to the other colour; of the row above, likewise.
        while at < width {
            let black = ends.len() % 2 == 1;
            while above.get(next).is_some_and(|&end| end < at || begun && end == at) {
                next += 1;
            }
            // The first of those that has the colour opposite to ours.
            let first = next + usize::from((next % 2 == 1) != black);
            match maps::mode::decode(&mut self.reader)? {
                Mode::Pass => at = change(first + 1),
                Mode::Horizontal => {
                    for black in [black, !black] {
                        at = at.checked_add(self.run(black)?)?.min(self.width);
                        ends.push(at);
                    }
                }
                Mode::Vertical(by) => {
                    let end = i32::from(change(first)) + i32::from(by);
                    let end = u16::try_from(end).ok().filter(|&end| end >= at && end <= self.width)?;
                    ends.push(end);
                    at = end;
                }
                Mode::Extension | Mode::EOF => return None,
            }
            begun = true;
        }
        Some(ends)
    }
}

/// Sets the bits of the black runs.
fn paint(row: &mut [u8], ends: &[u16], width: u16) {
    for run in ends.chunks(2) {
        let start = run[0];
        let end = run.get(1).copied().unwrap_or(width);
        for x in usize::from(start)..usize::from(end) {
            row[x / 8] |= 0x80 >> (x % 8);
        }
    }
}

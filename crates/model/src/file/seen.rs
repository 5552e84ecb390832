//! Which pictures a model has seen, so that a test on them can be told from a test.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Pictures at most that a model file lists; more are not recorded. They take 16 bytes each.
pub const MOST_SEEN: usize = 50_000;

/// The pictures that a model was trained and validated on, each as the first 8 bytes of the SHA-256 of what it shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// Those that the weights come from.
    train: Prints,
    /// Those that the epoch was chosen by.
    valid: Prints,
}

impl Seen {
    /// Of the SHA-256 of each picture; `None` for more than [`MOST_SEEN`].
    pub fn new<'a>(
        train: impl IntoIterator<Item = &'a [u8; 32]>,
        valid: impl IntoIterator<Item = &'a [u8; 32]>,
    ) -> Option<Self> {
        let seen = Self { train: Prints::new(train), valid: Prints::new(valid) };
        (seen.train.0.len() + seen.valid.0.len() <= MOST_SEEN).then_some(seen)
    }

    /// These and those that the model had seen that this one began as; `None` for more than [`MOST_SEEN`].
    pub fn with(&self, earlier: &Self) -> Option<Self> {
        let seen = Self { train: self.train.with(&earlier.train), valid: self.valid.with(&earlier.valid) };
        (seen.train.0.len() + seen.valid.0.len() <= MOST_SEEN).then_some(seen)
    }

    /// Whether the model was trained on a picture.
    pub fn trained_on(&self, sha256: &[u8; 32]) -> bool {
        self.train.contains(sha256)
    }

    /// Whether the model's epoch was chosen by a picture.
    pub fn validated_on(&self, sha256: &[u8; 32]) -> bool {
        self.valid.contains(sha256)
    }

    /// How many of these pictures the model was trained or validated on.
    pub fn count_of<'a>(&self, pictures: impl IntoIterator<Item = &'a [u8; 32]>) -> usize {
        pictures.into_iter().filter(|sha256| self.trained_on(sha256) || self.validated_on(sha256)).count()
    }
}

/// Ascending, each once. Written as hexadecimal digits, 16 for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Prints(Vec<u64>);

impl Prints {
    fn new<'a>(pictures: impl IntoIterator<Item = &'a [u8; 32]>) -> Self {
        Self::ascending(pictures.into_iter().map(print).collect())
    }

    fn ascending(mut prints: Vec<u64>) -> Self {
        prints.sort_unstable();
        prints.dedup();
        Self(prints)
    }

    fn with(&self, more: &Self) -> Self {
        Self::ascending(self.0.iter().chain(&more.0).copied().collect())
    }

    fn contains(&self, sha256: &[u8; 32]) -> bool {
        self.0.binary_search(&print(sha256)).is_ok()
    }
}

fn print(sha256: &[u8; 32]) -> u64 {
    sha256[..8].iter().fold(0, |print, &byte| print << 8 | u64::from(byte))
}

impl Serialize for Prints {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let digits: Vec<String> = self.0.iter().map(|print| format!("{print:016x}")).collect();
        serializer.serialize_str(&digits.concat())
    }
}

impl<'de> Deserialize<'de> for Prints {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digits = String::deserialize(deserializer)?;
        let bad = || D::Error::custom("expected 16 hexadecimal digits for each picture that was seen");
        if !digits.len().is_multiple_of(16) || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let prints: Result<Vec<u64>, _> =
            (0..digits.len()).step_by(16).map(|at| u64::from_str_radix(&digits[at..at + 16], 16)).collect();
        Ok(Self::ascending(prints.map_err(|_| bad())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(number: u32) -> [u8; 32] {
        let mut sha256 = [0; 32];
        sha256[4..8].copy_from_slice(&number.to_be_bytes());
        sha256
    }

    #[test]
    fn pictures_that_were_seen_are_counted_in_both_parts() {
        let [train, valid] = [[picture(5), picture(1), picture(5)].to_vec(), vec![picture(7)]];
        let seen = Seen::new(&train, &valid).unwrap();
        assert!(
            seen.trained_on(&picture(1)) && !seen.trained_on(&picture(7)) && seen.validated_on(&picture(7))
        );
        assert_eq!(seen.count_of(&[picture(7), picture(2), picture(5), picture(5)]), 3);
        let json = serde_json::to_string(&seen).unwrap();
        assert_eq!(json, r#"{"train":"00000000000000010000000000000005","valid":"0000000000000007"}"#);
        assert_eq!(serde_json::from_str::<Seen>(&json).unwrap(), seen);
        for bad in
            [r#"{"train":"00","valid":""}"#, r#"{"train":"zzzzzzzzzzzzzzzz","valid":""}"#, r#"{"train":""}"#]
        {
            assert!(serde_json::from_str::<Seen>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn more_than_a_file_should_hold_are_not_recorded() {
        let many: Vec<[u8; 32]> = (0..=MOST_SEEN as u32).map(picture).collect();
        assert_eq!(Seen::new(&many, &[]), None);
        assert!(Seen::new(&many[1..], &[]).is_some());
    }

    #[test]
    fn what_a_model_began_as_had_seen_counts_too() {
        let own = Seen::new(&[picture(1), picture(4)], &[picture(2)]).unwrap();
        let earlier = Seen::new(&[picture(2), picture(1)], &[picture(3)]).unwrap();
        let both = own.with(&earlier).unwrap();
        assert_eq!(both, Seen::new(&[1, 2, 4].map(picture), &[2, 3].map(picture)).unwrap());
        let many: Vec<[u8; 32]> = (0..MOST_SEEN as u32).map(picture).collect();
        let many = Seen::new(&many, &[]).unwrap();
        assert!(many.with(&many).is_some());
        assert_eq!(many.with(&own), None, "one more in validation");
    }
}

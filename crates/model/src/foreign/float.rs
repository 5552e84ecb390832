//! The floating-point types that weights are stored in.

/// Type of the values of a tensor in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatType {
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an `f32`.
    BF16,
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 double precision.
    F64,
}

impl FloatType {
    /// Little-endian values as `f32`; bytes that are no whole value are left out.
    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F16 => pairs(bytes).map(half).collect(),
            Self::BF16 => pairs(bytes).map(|bits| f32::from_bits(u32::from(bits) << 16)).collect(),
            Self::F32 => crate::weights::record::floats(bytes),
            Self::F64 => bytes
                .chunks_exact(8)
                .map(|b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32)
                .collect(),
        }
    }
}

fn pairs(bytes: &[u8]) -> impl Iterator<Item = u16> + '_ {
    bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]))
}

/// One sign bit, 5 bits of exponent (bias 15), 10 bits of mantissa.
fn half(bits: u16) -> f32 {
    let (sign, exponent, mantissa) = (u32::from(bits >> 15) << 31, bits >> 10 & 31, u32::from(bits & 0x3FF));
    let magnitude = match exponent {
        0 => mantissa as f32 * 2f32.powi(-24),
        31 => f32::from_bits(0x7F80_0000 | mantissa << 13),
        _ => f32::from_bits((u32::from(exponent) + 112) << 23 | mantissa << 13),
    };
    f32::from_bits(sign | magnitude.to_bits())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_follows_its_definition() {
        for (bits, value) in [
            (0x0000, 0.0),
            (0x3C00, 1.0),
            (0xC000, -2.0),
            (0x3555, 0.333_251_95),
            (0x0001, 2f32.powi(-24)),
            (0x03FF, 1023.0 * 2f32.powi(-24)),
            (0x0400, 2f32.powi(-14)),
            (0x7BFF, 65504.0),
            (0x7C00, f32::INFINITY),
            (0xFC00, f32::NEG_INFINITY),
        ] {
            assert_eq!(half(bits).to_bits(), value.to_bits(), "{bits:#06x}: {}", half(bits));
        }
        assert!(half(0x7E00).is_nan());
        assert_eq!(half(0x8000).to_bits(), (-0f32).to_bits());
    }

    #[test]
    fn every_type_gives_its_values() {
        assert_eq!(FloatType::BF16.decode(&[0xC0, 0x3F, 0x00, 0xC1]), [1.5, -8.0]);
        assert_eq!(FloatType::F16.decode(&[0x00, 0x3C, 0x00, 0xC0, 7]), [1.0, -2.0]);
        assert_eq!(FloatType::F32.decode(&(-3.25f32).to_le_bytes()), [-3.25]);
        assert_eq!(FloatType::F64.decode(&0.1f64.to_le_bytes()), [0.1]);
    }
}

//! Which code runs: chosen once from the processor, or forced by `KILN_KERNELS`.

use std::sync::OnceLock;

/// The environment variable that forces a [`Path`].
const VARIABLE: &str = "KILN_KERNELS";

/// One of the implementations of the operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Path {
    /// Burn's own operators, composed.
    Stock,
    /// Code without processor-specific instructions.
    Portable,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512,
}

/// Why the operators cannot run as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelsError {
    /// `KILN_KERNELS` holds a word that names no path.
    #[error(
        "KILN_KERNELS: expected stock, portable, avx2 or avx512, found {found:?}; unset it to let the processor decide"
    )]
    UnknownPath {
        /// The value of the variable.
        found: String,
    },
    /// `KILN_KERNELS` names a path that this processor cannot run.
    #[error("KILN_KERNELS={found}: this processor lacks the instructions; unset it or choose portable")]
    UnsupportedPath {
        /// The value of the variable.
        found: &'static str,
    },
}

impl Path {
    /// The name that `KILN_KERNELS` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stock => "stock",
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// Whether this processor can run the path.
    pub fn is_supported(self) -> bool {
        match self {
            Self::Stock | Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_supported()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }

    /// The fastest path that this processor supports.
    fn best() -> Self {
        [Self::Avx512, Self::Avx2].into_iter().find(|path| path.is_supported()).unwrap_or(Self::Portable)
    }

    fn choose(forced: Option<&str>) -> Result<Self, KernelsError> {
        let Some(name) = forced else {
            return Ok(Self::best());
        };
        let path = [Self::Stock, Self::Portable, Self::Avx2, Self::Avx512]
            .into_iter()
            .find(|path| path.name() == name)
            .ok_or_else(|| KernelsError::UnknownPath { found: name.to_owned() })?;
        if path.is_supported() { Ok(path) } else { Err(KernelsError::UnsupportedPath { found: path.name() }) }
    }
}

/// The path in use, resolved at the first call. A program calls this once at its start and reports
/// the error; the operators themselves take [`Path::Stock`] when the variable is unusable.
///
/// # Errors
/// `KILN_KERNELS` names no path, or one that this processor cannot run.
pub fn path() -> Result<Path, KernelsError> {
    static PATH: OnceLock<Result<Path, KernelsError>> = OnceLock::new();
    PATH.get_or_init(|| {
        let forced = std::env::var_os(VARIABLE).map(|value| value.to_string_lossy().into_owned());
        Path::choose(forced.as_deref())
    })
    .clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for path in [Path::Stock, Path::Portable, Path::Avx2, Path::Avx512] {
            let chosen = Path::choose(Some(path.name()));
            if path.is_supported() {
                assert_eq!(chosen, Ok(path));
            } else {
                assert_eq!(chosen, Err(KernelsError::UnsupportedPath { found: path.name() }));
            }
        }
    }

    #[test]
    fn unknown_name_is_refused() {
        let error = Path::choose(Some("fast")).expect_err("no such path");
        assert!(error.to_string().contains("\"fast\""), "{error}");
        assert!(Path::choose(Some("")).is_err());
    }

    #[test]
    fn default_is_supported() {
        let path = Path::choose(None).expect("no value, no error");
        assert!(path.is_supported() && path != Path::Stock);
    }
}

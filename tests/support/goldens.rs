//! Networks of other programs with the logits that those computed (`tests/golden/networks.py`), beside ours.
#![allow(dead_code, reason = "each test program uses its part")]

use std::fs;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use data::Search;
use model::{InputShape, Loading, Network, NetworkConfig};
use serde_json::Value;
use train::start::weights::ForeignWeights;

/// Largest difference of a logit, absolute up to a magnitude of 1 and relative above.
pub(crate) const TOLERANCE: f64 = 1e-4;

/// `images` of `tests/golden/networks.py`.
pub(crate) fn images(count: usize, input: InputShape) -> Tensor<4> {
    let start = (1_000_001u64 * 0x85EB_CA77 % (1 << 32)) as u32;
    let value = |index: u32| {
        let mut x = index.wrapping_mul(0x9E37_79B1).wrapping_add(start);
        x ^= x >> 16;
        x = x.wrapping_mul(0x7FEB_352D);
        x ^= x >> 15;
        x = x.wrapping_mul(0x846C_A68B);
        x ^= x >> 16;
        ((f64::from(x >> 8) / f64::from(1 << 24) - 0.5) * 4.0) as f32
    };
    let values: Vec<f32> = (1..=(count * input.len()) as u32).map(value).collect();
    let shape = [count, input.channels, input.height, input.width];
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

pub(crate) fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).expect("a golden file")).expect("JSON")
}

/// Input and classes of a golden.
pub(crate) fn sizes(golden: &Value) -> (InputShape, usize) {
    let size = |value: &Value| value.as_u64().expect("a size") as usize;
    let input = &golden["input"];
    (InputShape::new(size(&input[0]), size(&input[1]), size(&input[2])), size(&golden["classes"]))
}

pub(crate) fn open(path: &Path) -> Result<ForeignWeights, String> {
    ForeignWeights::open(path.to_str().expect("a path"), &Search::default()).map_err(|e| e.to_string())
}

pub(crate) fn load(
    path: &Path,
    config: &NetworkConfig,
    input: InputShape,
    classes: usize,
) -> Result<Network, String> {
    let empty = config.init(input, classes, 1, &Device::flex()).expect("it fits");
    let loaded = open(path)?.load(empty, config, input, classes, |_| Loading::Required);
    loaded.map(|(network, _)| network).map_err(|error| error.to_string())
}

/// The largest difference of a logit of a golden, and whether the classes agree.
pub(crate) fn compare(network: &Network, input: InputShape, golden: &Value) -> (f64, bool) {
    let expected: Vec<Vec<f64>> = golden["logits"]
        .as_array()
        .expect("logits")
        .iter()
        .map(|image| {
            image.as_array().expect("logits").iter().map(|v| v.as_f64().expect("a number")).collect()
        })
        .collect();
    let logits = network.forward(images(expected.len(), input));
    let [_, classes] = logits.dims();
    let found: Vec<f64> = logits.into_data().iter::<f64>().collect();
    let top = |values: &[f64]| (0..values.len()).max_by(|a, b| values[*a].total_cmp(&values[*b]));
    let rows = found.chunks(classes).zip(&expected);
    let same = rows.clone().all(|(found, expected)| top(found) == top(expected));
    let differences = rows.flat_map(|(found, expected)| found.iter().zip(expected));
    let worst = differences.map(|(found, expected)| (found - expected).abs() / expected.abs().max(1.0));
    (worst.fold(0.0, f64::max), same)
}

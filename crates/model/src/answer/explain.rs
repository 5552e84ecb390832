//! Where in an image a network saw what it answered.
//!
//! The gradients are those of an answer, not of a loss: nothing is trained here.

use burn::{
    module::Module,
    tensor::{Tensor, TensorData},
};

use crate::{
    Classifier, ClassifyError, InputShape, Scores,
    answer::classifier::{is_blank, row},
    argmax,
};

/// A picture of numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[H, W]`.
    pub values: Vec<f32>,
}

impl Map {
    /// The largest magnitude, 0 for an empty map.
    pub fn peak(&self) -> f32 {
        self.values.iter().fold(0.0, |peak, value| value.abs().max(peak))
    }

    /// Enlarged or reduced bilinearly, samples at the centres of their pixels.
    #[must_use]
    pub fn resized(&self, width: usize, height: usize) -> Self {
        // Position of an output pixel in the source: its left neighbour, and the share of the right one.
        let taps = |to: usize, from: usize| -> Vec<(usize, usize, f32)> {
            (0..to)
                .map(|at| {
                    let at =
                        ((at as f32 + 0.5) * from as f32 / to as f32 - 0.5).clamp(0.0, (from - 1) as f32);
                    (at as usize, (at as usize + 1).min(from - 1), at.fract())
                })
                .collect()
        };
        let columns = taps(width, self.width);
        let mut values = Vec::with_capacity(width * height);
        for (top, bottom, down) in taps(height, self.height) {
            for &(left, right, across) in &columns {
                let row = |y: usize| {
                    let (a, b) = (self.values[y * self.width + left], self.values[y * self.width + right]);
                    a + (b - a) * across
                };
                values.push(row(top) + (row(bottom) - row(top)) * down);
            }
        }
        Self { width, height, values }
    }
}

/// What explains the answer for one image.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The class that is explained.
    pub class: usize,
    /// Its probability.
    pub probability: f32,
    /// Grad-CAM: where the last convolution found what speaks for the class, in the size of that layer.
    /// `None` for a network without convolutions.
    pub activation: Option<Map>,
    /// How much probability the class loses when this place is covered, in the size of the image.
    pub occlusion: Map,
    /// How much the class's logit changes with each pixel, in the size of the image.
    pub saliency: Map,
    /// The maps of every convolution stage, from the image on.
    pub stages: Vec<Vec<Map>>,
    /// Weights of the first convolution, one map for each filter; colours are averaged.
    pub filters: Vec<Map>,
}

/// Side of the covered square as a share of the image's, and the steps between squares.
const COVER: f64 = 0.25;
const STEPS: usize = 14;

impl Classifier {
    /// Explains why the network holds `image`, prepared `[C, H, W]`, for `class` (`None`: its answer).
    ///
    /// # Errors
    /// When the device could not be read.
    ///
    /// # Panics
    /// An image of another size, or a class that the network does not know.
    pub fn explain(&self, image: &[u8], class: Option<usize>) -> Result<Explanation, ClassifyError> {
        assert_eq!(image.len(), self.input().len(), "one image of {}", self.input());
        let scores = self.scores(image)?;
        let probabilities = scores.first().map(|scores| self.probabilities(scores)).unwrap_or_default();
        let class = class.unwrap_or_else(|| argmax(&probabilities));
        assert!(class < probabilities.len(), "class {class} of {}", probabilities.len());
        let batch = self.metadata().preprocessing.batch(image, 1, self.device()); // [1, C, H, W]
        let stages = self.network().stages(batch.clone());
        Ok(Explanation {
            class,
            probability: probabilities[class],
            activation: match stages.last() {
                Some(maps) => Some(self.class_activation(maps.clone(), Some(class))?.2),
                None => None,
            },
            occlusion: self.occlusion(image, class)?,
            saliency: self.saliency(batch, class)?,
            stages: stages.into_iter().map(maps_of).collect::<Result<_, _>>()?,
            filters: match self.network().filters() {
                // [O, C, K, K] -> [1, O, K, K]
                Some(weights) => maps_of(weights.mean_dim(1).swap_dims(0, 1))?,
                None => Vec::new(),
            },
        })
    }

    /// The scores of `image`, prepared `[C, H, W]`, and [`Explanation::activation`] of its answer, in one pass
    /// through the convolutions, so that it can follow a pen.
    ///
    /// # Errors
    /// When the device could not be read.
    ///
    /// # Panics
    /// As [`Self::explain`].
    pub fn attend(&self, image: &[u8]) -> Result<(Scores, Option<Map>), ClassifyError> {
        let batch = self.metadata().preprocessing.batch(image, 1, self.device()); // [1, C, H, W]
        match self.network().stages(batch).pop() {
            Some(maps) => {
                let (logits, signature, map) = self.class_activation(maps, None)?;
                Ok((Scores { logits, signature, blank: is_blank(image) }, Some(map)))
            }
            None => Ok((self.scores(image)?.swap_remove(0), None)),
        }
    }

    /// Logits `[K]`, signature `[S]`, and the activation of `class` (`None`: the answer).
    ///
    /// Selvaraju et al. 2017, "Grad-CAM", equations 1 and 2: the maps weighted by the mean of their
    /// gradients, and what is positive of the sum. `maps` are `[1, C, H, W]`.
    fn class_activation(
        &self,
        maps: Tensor<4>,
        class: Option<usize>,
    ) -> Result<(Vec<f32>, Vec<f32>, Map), ClassifyError> {
        let maps = maps.autodiff().require_grad();
        let network = self.network().clone().freeze().train();
        let (features, signature) = network.gather(maps.clone());
        let logits = network.classify_features(features); // [1, K]
        let (values, signature) = (row(logits.clone().inner())?, row(signature.inner())?);
        let class = class.unwrap_or_else(|| argmax(&values));
        let gradients = logits.slice([0..1, class..class + 1]).sum().backward();
        let Some(gradient) = maps.grad(&gradients) else { return Err(no_gradient()) };
        let weights = gradient.mean_dim(2).mean_dim(3); // [1, C, 1, 1]
        let sum = (maps.inner() * weights).sum_dim(1).clamp_min(0.0); // [1, 1, H, W]
        Ok((values, signature, single(maps_of(sum)?)?))
    }

    /// Simonyan, Vedaldi & Zisserman 2014, section 3: the magnitude of the logit's gradient, the largest
    /// of the channels.
    fn saliency(&self, batch: Tensor<4>, class: usize) -> Result<Map, ClassifyError> {
        let images = batch.autodiff().require_grad();
        let network = self.network().clone().freeze().train();
        let logits = network.forward(images.clone()); // [1, K]
        let gradients = logits.slice([0..1, class..class + 1]).sum().backward();
        let Some(gradient) = images.grad(&gradients) else { return Err(no_gradient()) };
        single(maps_of(gradient.abs().max_dim(1))?)
    }

    /// Zeiler & Fergus 2014, section 4.2: a square of the image's most frequent value is laid on every
    /// place in turn. A pixel's value is the mean loss of probability over the squares that cover it.
    fn occlusion(&self, image: &[u8], class: usize) -> Result<Map, ClassifyError> {
        let InputShape { channels, height, width } = self.input();
        let square = |side: usize| ((side as f64 * COVER).round() as usize).clamp(1, side);
        let (h, w) = (square(height), square(width));
        let starts = |side: usize, cover: usize| -> Vec<usize> {
            let room = side - cover;
            let steps = STEPS.min(room).max(1);
            (0..=steps)
                .map(|step| step * room / steps)
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .collect()
        };
        let fills: Vec<u8> = image.chunks_exact(height * width).map(most_frequent).collect();
        let places: Vec<(usize, usize)> = starts(height, h)
            .into_iter()
            .flat_map(|y| starts(width, w).into_iter().map(move |x| (y, x)))
            .collect();
        let mut covered = Vec::with_capacity((places.len() + 1) * image.len());
        covered.extend_from_slice(image);
        for &(y, x) in &places {
            let start = covered.len();
            covered.extend_from_slice(image);
            for (channel, &fill) in fills.iter().enumerate().take(channels) {
                for row in y..y + h {
                    let at = start + (channel * height + row) * width + x;
                    covered[at..at + w].fill(fill);
                }
            }
        }
        let scores = self.scores(&covered)?;
        let probability = |index: usize| self.probabilities(&scores[index])[class];
        let whole = probability(0);
        let mut sums = vec![0f32; height * width];
        let mut counts = vec![0f32; height * width];
        for (index, &(y, x)) in places.iter().enumerate() {
            let loss = whole - probability(index + 1);
            for row in y..y + h {
                for at in row * width + x..row * width + x + w {
                    sums[at] += loss;
                    counts[at] += 1.0;
                }
            }
        }
        let values = sums.iter().zip(&counts).map(|(sum, count)| sum / count.max(1.0)).collect();
        Ok(Map { width, height, values })
    }
}

fn most_frequent(values: &[u8]) -> u8 {
    let mut counts = [0usize; 256];
    for &value in values {
        counts[usize::from(value)] += 1;
    }
    let best = (0..=255u8).rev().max_by_key(|&value| counts[usize::from(value)]);
    best.unwrap_or_default()
}

fn no_gradient() -> ClassifyError {
    ClassifyError::Device("the network gave no gradient for its input".to_owned())
}

/// The channels of the first image of `[N, C, H, W]`.
fn maps_of(maps: Tensor<4>) -> Result<Vec<Map>, ClassifyError> {
    let [_, channels, height, width] = maps.dims();
    let data: TensorData = maps.try_into_data().map_err(|error| ClassifyError::Device(error.to_string()))?;
    let values: Vec<f32> = data.iter::<f32>().take(channels * height * width).collect();
    Ok(values
        .chunks_exact((height * width).max(1))
        .map(|values| Map { width, height, values: values.to_vec() })
        .collect())
}

fn single(maps: Vec<Map>) -> Result<Map, ClassifyError> {
    maps.into_iter().next().ok_or_else(no_gradient)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use burn::tensor::Device;

    use super::*;
    use crate::{
        CnnConfig, ConvBlockConfig, Description, Fit, Network, NetworkConfig, PoolConfig, Preprocessing,
        decode, encode, load, named_tensors,
    };

    fn classifier(
        config: CnnConfig,
        input: InputShape,
        weights: impl Fn(&str, usize) -> Option<Vec<f32>>,
    ) -> Classifier {
        let config = NetworkConfig::Cnn(config);
        let network = config.init(input, 2, 5, &Device::flex()).unwrap();
        let mut tensors = named_tensors(&network);
        for (name, data) in &mut tensors {
            if let Some(values) = weights(name, data.shape().num_elements()) {
                *data = TensorData::new(values, data.shape().clone());
            }
        }
        let network: Network = load(network, &tensors).unwrap();
        let description = Description {
            network: config,
            preprocessing: Preprocessing {
                input,
                mean: vec![0.0; input.channels],
                std: vec![1.0; input.channels],
                fit: Fit::Stretch,
            },
            classes: vec!["yes".into(), "no".into()],
            task: crate::Task::default(),
            provenance: BTreeMap::new(),
            confidence: None,
            seen: None,
        };
        let model = decode(&encode(&network, description).unwrap(), &Device::flex()).unwrap();
        Classifier::new(model, Device::flex())
    }

    /// Maps `relu(x)` and `relu(-x)`; `yes` is the sum of the first, `no` its opposite.
    fn sum_of_light(side: usize) -> Classifier {
        let block = ConvBlockConfig { kernel: 1, ..ConvBlockConfig::new(2) };
        let config = CnnConfig { blocks: vec![block], ..CnnConfig::default() };
        classifier(config, InputShape::new(1, side, side), |name, len| {
            Some(match name {
                "blocks.0.conv.weight" => vec![1.0, -1.0],
                // [2 * side * side, 2]
                "head.weight" => {
                    (0..len).map(|at| if at / 2 < len / 4 { [1.0, -1.0][at % 2] } else { 0.0 }).collect()
                }
                _ => vec![0.0; len],
            })
        })
    }

    #[test]
    fn the_map_is_where_the_evidence_is() {
        let net = sum_of_light(4);
        let mut image = vec![0; 16];
        (image[5], image[15]) = (255, 51);
        let explanation = net.explain(&image, None).unwrap();
        assert_eq!(explanation.class, 0);
        // logits 1.2 and -1.2
        assert!((explanation.probability - 1.0 / (1.0 + (-2.4f32).exp())).abs() < 1e-6);
        // The gradient of `yes` is 1 at every place of the first map: its weight is 1, the map is the image.
        let mut expected = [0.0; 16];
        (expected[5], expected[15]) = (1.0, 0.2);
        let map = explanation.activation.unwrap();
        assert_eq!((map.width, map.height), (4, 4));
        for (found, expected) in map.values.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{:?}", map.values);
        }
        // The logit changes with each lit pixel at the rate of 1, and not with dark ones.
        let lit = |value: &f32| (value - 1.0).abs() < 1e-6;
        assert!(lit(&explanation.saliency.values[5]) && lit(&explanation.saliency.values[15]));
        // Two maps of one stage, two filters of one weight.
        assert_eq!((explanation.stages.len(), explanation.stages[0].len()), (1, 2));
        let filters: Vec<f32> = explanation.filters.iter().map(|filter| filter.values[0]).collect();
        assert_eq!(filters, [1.0, -1.0]);
        // What speaks against a class is not on its map.
        let against = net.explain(&image, Some(1)).unwrap().activation.unwrap();
        assert!(against.values.iter().all(|&value| value == 0.0));
    }

    #[test]
    fn covering_the_evidence_costs_the_answer() {
        let net = sum_of_light(8);
        let mut image = vec![0; 64];
        image[2 * 8 + 6] = 255;
        let occlusion = net.explain(&image, None).unwrap().occlusion;
        let (row, column) = (2, 6);
        for (at, &value) in occlusion.values.iter().enumerate() {
            // A square of 2x2 that covers both (row, column) and this pixel takes the light away.
            let near = (at / 8).abs_diff(row) <= 1 && (at % 8).abs_diff(column) <= 1;
            assert_eq!(value > 1e-6, near, "{at}: {value}");
        }
        let lost = 1.0 / (1.0 + (-2f32).exp()) - 0.5;
        assert!((occlusion.values[row * 8 + column] - lost).abs() < 1e-6);
    }

    #[test]
    fn saliency_is_the_gradient_in_evaluation() {
        let config = CnnConfig {
            blocks: vec![ConvBlockConfig {
                pool: Some(PoolConfig::default()),
                dropout: 0.3,
                ..ConvBlockConfig::new(4)
            }],
            dense: vec![12],
            dropout: 0.5,
            batch_norm: true,
            ..CnnConfig::default()
        };
        let input = InputShape::new(3, 8, 8);
        let net = classifier(config, input, |_, _| None);
        let image: Vec<u8> = (0..input.len()).map(|at| (at * 37 % 251) as u8).collect();
        let saliency = net.explain(&image, Some(1)).unwrap().saliency;
        let again = net.explain(&image, Some(1)).unwrap().saliency;
        assert_eq!(saliency, again);
        let batch = net.metadata().preprocessing.batch(&image, 1, net.device());
        let logit = |at: usize, change: f32| {
            let mut values: Vec<f32> = batch.to_data().iter::<f32>().collect();
            values[at] += change;
            let images = Tensor::<4>::from_data(TensorData::new(values, [1, 3, 8, 8]), net.device());
            net.network().forward(images).into_data().iter::<f32>().nth(1).unwrap()
        };
        let mut faults = vec![];
        for pixel in 0..64 {
            // Away from the kinks of ReLU and maximum in nearly all places.
            let slope = |at: usize| ((logit(at, 1e-2) - logit(at, -1e-2)) / 2e-2).abs();
            let expected = (0..3).map(|channel| slope(channel * 64 + pixel)).fold(0.0, f32::max);
            if (saliency.values[pixel] - expected).abs() > 2e-3 + 0.02 * expected {
                faults.push(format!("{pixel}: {} {expected}", saliency.values[pixel]));
            }
        }
        assert!(faults.len() <= 6, "{faults:?}");
    }

    #[test]
    fn a_network_without_convolutions_has_no_map() {
        let config = CnnConfig { blocks: vec![], dense: vec![6], ..CnnConfig::default() };
        let net = classifier(config, InputShape::new(1, 5, 6), |_, _| None);
        let explanation = net.explain(&[7; 30], None).unwrap();
        assert!(explanation.activation.is_none() && explanation.filters.is_empty());
        assert!(explanation.stages.is_empty());
        assert_eq!(explanation.saliency.values.len(), 30);
        assert!(explanation.saliency.peak() > 0.0);
    }

    #[test]
    fn maps_grow_smoothly() {
        let map = Map { width: 2, height: 1, values: vec![0.0, 4.0] };
        assert_eq!(map.resized(4, 2).values, [0.0, 1.0, 3.0, 4.0, 0.0, 1.0, 3.0, 4.0]);
        assert_eq!(map.resized(2, 1), map);
        assert!((map.peak() - 4.0).abs() < 1e-9);
    }

    #[test]
    fn parts_of_a_network_give_the_whole() {
        for batch_norm in [false, true] {
            let config = CnnConfig { dense: vec![9], batch_norm, ..CnnConfig::default() };
            let input = InputShape::new(1, 28, 28);
            let net = classifier(config, input, |_, _| None);
            let image: Vec<u8> = (0..784).map(|at| (at * 13 % 256) as u8).collect();
            let batch = net.metadata().preprocessing.batch(&image, 1, net.device());
            let network = net.network();
            let values = |tensor: Tensor<2>| tensor.into_data().iter::<f32>().collect::<Vec<f32>>();
            let whole = values(network.forward(batch.clone()));
            let (features, signature) = network.features(batch.clone());
            assert_eq!((features.dims(), signature.dims()), ([1, 9], [1, 64]));
            let signature = values(signature);
            assert_eq!(values(network.classify_features(features)), whole);
            let stages = network.stages(batch);
            let sizes: Vec<_> = stages.iter().map(Tensor::dims).collect();
            assert_eq!(sizes, [[1, 32, 26, 26], [1, 64, 11, 11]]);
            let (features, signature_apart) = network.gather(stages[1].clone());
            let apart = values(network.classify_features(features));
            for (a, b) in apart.iter().zip(&whole) {
                assert!((a - b).abs() < 1e-5, "{apart:?} {whole:?}");
            }
            let signature_apart = values(signature_apart);
            for (a, b) in signature_apart.iter().zip(&signature) {
                assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
            let (scores, map) = net.attend(&image).unwrap();
            assert_eq!((&scores.logits, &scores.signature), (&apart, &signature_apart));
            let answer = net.explain(&image, None).unwrap();
            assert_eq!(map.unwrap(), answer.activation.unwrap());
        }
    }
}

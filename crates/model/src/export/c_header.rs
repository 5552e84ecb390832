//! A whole classifier as one header in C99: weights as arrays, and the functions that use them.

use std::fmt::Write as _;

use super::{ExportError, Layer, QuantizedTensor, Sequence, WeightTensor, answers};
use crate::{Activation, Metadata, NetworkConfig, PoolConfig, PoolKind};

/// Shape of what flows between two layers.
#[derive(Clone, Copy)]
struct Flow {
    channels: usize,
    height: usize,
    width: usize,
}

impl Flow {
    fn len(self) -> usize {
        self.channels * self.height * self.width
    }
}

/// The header. It needs nothing but the standard library (`-lm`), allocates nothing and keeps no
/// state: `kiln_logits` takes a normalised image `[C, H, W]` and scratch memory of `KILN_SCRATCH`
/// floats; `kiln_classify` takes 8-bit pixels, normalises them and returns the index of the class;
/// `kiln_probabilities` makes probabilities of logits, at the model's temperature.
///
/// # Errors
/// Class names that C cannot hold.
pub fn c_header(
    sequence: &Sequence,
    config: &NetworkConfig,
    metadata: &Metadata,
) -> Result<String, ExportError> {
    if let Some(name) = metadata.classes.iter().find(|name| name.contains('\0')) {
        return Err(ExportError::unsupported(
            config,
            "c-header",
            format!("the class {name:?} has a zero in its name"),
        ));
    }
    let input = metadata.preprocessing.input;
    let mut flow = Flow { channels: input.channels, height: input.height, width: input.width };
    let mut largest = 0;
    let (mut arrays, mut calls) = (String::new(), String::new());
    for (index, layer) in sequence.layers.iter().enumerate() {
        let Flow { channels, height, width } = flow;
        let from = if index == 0 { "image" } else { "x" };
        let name = format!("kiln_{index}");
        let after = match layer {
            Layer::Conv { weight, bias, stride, padding } => {
                let (outputs, kernel) = (weight.shape()[0], weight.shape()[2]);
                let side = |length: usize| (length + 2 * padding - kernel) / stride + 1;
                let after = Flow { channels: outputs, height: side(height), width: side(width) };
                let weights = write_weights(&mut arrays, &name, weight);
                let bias = match bias {
                    Some(bias) => write_floats(&mut arrays, &format!("{name}_bias"), bias),
                    None => "0".to_owned(),
                };
                let _ = writeln!(
                    calls,
                    "    kiln_conv({from}, {channels}, {height}, {width}, {weights}, {bias}, {outputs}, {kernel}, \
                     {stride}, {padding}, y);\n    SWAP;"
                );
                after
            }
            Layer::BatchNorm { gamma, beta, mean, variance, epsilon } => {
                let scale: Vec<f64> = gamma
                    .iter()
                    .zip(variance)
                    .map(|(&gamma, &variance)| f64::from(gamma) / (f64::from(variance) + epsilon).sqrt())
                    .collect();
                let shift = beta.iter().zip(mean).zip(&scale);
                let shift: Vec<f32> = shift
                    .map(|((&beta, &mean), scale)| (f64::from(beta) - f64::from(mean) * scale) as f32)
                    .collect();
                let scale: Vec<f32> = scale.into_iter().map(|scale| scale as f32).collect();
                let scale = write_floats(&mut arrays, &format!("{name}_scale"), &scale);
                let shift = write_floats(&mut arrays, &format!("{name}_shift"), &shift);
                let _ =
                    writeln!(calls, "    kiln_affine(x, {channels}, {}, {scale}, {shift});", height * width);
                flow
            }
            Layer::Activation(activation) => {
                let _ = writeln!(calls, "    {}(x, {});", activation_in_c(*activation).0, flow.len());
                flow
            }
            Layer::Pool(pool) => {
                let PoolConfig { kind, kernel, padding, .. } = *pool;
                let stride = pool.stride();
                let side = |length: usize| (length + 2 * padding - kernel) / stride + 1;
                let after = Flow { channels, height: side(height), width: side(width) };
                let function = match kind {
                    PoolKind::Max => "kiln_max_pool",
                    PoolKind::Average => "kiln_average_pool",
                };
                let _ = writeln!(
                    calls,
                    "    {function}({from}, {channels}, {height}, {width}, {kernel}, {stride}, {padding}, y);\n    SWAP;"
                );
                after
            }
            Layer::Flatten => Flow { channels: flow.len(), height: 1, width: 1 },
            Layer::Linear { weight, bias } => {
                let outputs = bias.len();
                let weights = write_weights(&mut arrays, &name, weight);
                let bias = write_floats(&mut arrays, &format!("{name}_bias"), bias);
                let from = if calls.is_empty() { "image" } else { "x" };
                let _ = writeln!(
                    calls,
                    "    kiln_linear({from}, {channels}, {weights}, {bias}, {outputs}, y);\n    SWAP;"
                );
                Flow { channels: outputs, height: 1, width: 1 }
            }
        };
        flow = after;
        largest = largest.max(flow.len());
    }

    let classes: Vec<String> = metadata.classes.iter().map(|name| string_in_c(name)).collect();
    let preprocessing = &metadata.preprocessing;
    let [_, (_, probabilities), (_, rejection)] = answers(metadata);
    let used = activations(sequence).map(|activation| activation_in_c(activation).1).collect::<String>();
    Ok(format!(
        "/* A classifier with its weights, written by Kiln {version}. C99; link with -lm.\n\
         \x20*\n\
         \x20* int class = kiln_classify(pixels, logits, scratch);   8-bit pixels [C, H, W]\n\
         \x20* kiln_logits(image, logits, scratch);                  normalised floats [C, H, W]\n\
         \x20* kiln_probabilities(logits, probabilities);            {probabilities}\n\
         \x20*\n\
         \x20* No allocation and no state: threads need only scratch memory of their own.\n\
         \x20* Rejection: {rejection}\n\
         \x20* Weights: SHA-256 {sha}\n\
         \x20*/\n\
         #ifndef KILN_MODEL_H\n#define KILN_MODEL_H\n\n#include <math.h>\n#include <stddef.h>\n\n\
         #define KILN_CHANNELS {channels}\n#define KILN_HEIGHT {height}\n#define KILN_WIDTH {width}\n\
         #define KILN_CLASSES {count}\n#define KILN_SCRATCH {scratch}\n\
         /* Logits are divided by it before the softmax. */\n#define KILN_TEMPERATURE {temperature}\n\n\
         static const char *const kiln_classes[KILN_CLASSES] = {{ {classes} }};\n\
         static const float kiln_mean[KILN_CHANNELS] = {{ {mean} }};\n\
         static const float kiln_std[KILN_CHANNELS] = {{ {std} }};\n\n\
         {arrays}\n{FUNCTIONS}{used}\n\
         /* A normalised image [C, H, W] to the logits of all classes. */\n\
         static inline void kiln_logits(const float *image, float *logits, float *scratch)\n{{\n\
         \x20   float *x = scratch, *y = scratch + KILN_SCRATCH / 2, *t;\n\
         #define SWAP (t = x, x = y, y = t)\n\
         {calls}#undef SWAP\n\
         \x20   for (size_t i = 0; i < KILN_CLASSES; i++) logits[i] = x[i];\n}}\n\n{PROBABILITIES}\n{CLASSIFY}\n\
         #endif\n",
        temperature = floats(&[metadata.temperature()]),
        version = metadata.kiln_version,
        sha = metadata.weights_sha256,
        channels = input.channels,
        height = input.height,
        width = input.width,
        count = classes.len(),
        // Two halves, one read and one written; `kiln_classify` puts the image into the first.
        scratch = 2 * largest.max(input.len()),
        classes = classes.join(", "),
        mean = floats(&preprocessing.mean),
        std = floats(&preprocessing.std),
    ))
}

/// The functions that the layers share. Multiplications are summed in single precision, as the
/// network does.
const FUNCTIONS: &str = "\
/* Weights are floats, or bytes with one scale for each output. */
typedef struct { const float *floats; const signed char *bytes; const float *scales; } kiln_weights;

static inline void kiln_conv(const float *x, int channels, int height, int width, kiln_weights w,
                             const float *bias, int outputs, int kernel, int stride, int padding, float *y)
{
    int rows = (height + 2 * padding - kernel) / stride + 1;
    int columns = (width + 2 * padding - kernel) / stride + 1;
    for (int o = 0; o < outputs; o++)
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < columns; c++) {
                float sum = 0.0f;
                for (int i = 0; i < channels; i++)
                    for (int k = 0; k < kernel; k++) {
                        int row = r * stride + k - padding;
                        if (row < 0 || row >= height) continue;
                        for (int l = 0; l < kernel; l++) {
                            int column = c * stride + l - padding;
                            if (column < 0 || column >= width) continue;
                            size_t at = (((size_t)o * channels + i) * kernel + k) * kernel + l;
                            float weight = w.floats ? w.floats[at] : (float)w.bytes[at];
                            sum += weight * x[((size_t)i * height + row) * width + column];
                        }
                    }
                if (w.scales) sum *= w.scales[o];
                y[((size_t)o * rows + r) * columns + c] = bias ? sum + bias[o] : sum;
            }
}

static inline void kiln_linear(const float *x, int inputs, kiln_weights w, const float *bias, int outputs, float *y)
{
    for (int o = 0; o < outputs; o++) y[o] = 0.0f;
    for (int i = 0; i < inputs; i++)
        for (int o = 0; o < outputs; o++) {
            size_t at = (size_t)i * outputs + o;
            y[o] += x[i] * (w.floats ? w.floats[at] : (float)w.bytes[at]);
        }
    for (int o = 0; o < outputs; o++) y[o] = (w.scales ? y[o] * w.scales[o] : y[o]) + bias[o];
}

static inline void kiln_affine(float *x, int channels, int len, const float *scale, const float *shift)
{
    for (int c = 0; c < channels; c++)
        for (int i = 0; i < len; i++) x[(size_t)c * len + i] = x[(size_t)c * len + i] * scale[c] + shift[c];
}

static inline void kiln_max_pool(const float *x, int channels, int height, int width, int kernel, int stride,
                                 int padding, float *y)
{
    int rows = (height + 2 * padding - kernel) / stride + 1;
    int columns = (width + 2 * padding - kernel) / stride + 1;
    for (int i = 0; i < channels; i++)
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < columns; c++) {
                float best = -INFINITY;
                for (int k = 0; k < kernel; k++)
                    for (int l = 0; l < kernel; l++) {
                        int row = r * stride + k - padding, column = c * stride + l - padding;
                        if (row < 0 || row >= height || column < 0 || column >= width) continue;
                        float value = x[((size_t)i * height + row) * width + column];
                        if (value > best) best = value;
                    }
                y[((size_t)i * rows + r) * columns + c] = best;
            }
}

/* Zeros of the padding count. */
static inline void kiln_average_pool(const float *x, int channels, int height, int width, int kernel, int stride,
                                     int padding, float *y)
{
    int rows = (height + 2 * padding - kernel) / stride + 1;
    int columns = (width + 2 * padding - kernel) / stride + 1;
    for (int i = 0; i < channels; i++)
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < columns; c++) {
                float sum = 0.0f;
                for (int k = 0; k < kernel; k++)
                    for (int l = 0; l < kernel; l++) {
                        int row = r * stride + k - padding, column = c * stride + l - padding;
                        if (row < 0 || row >= height || column < 0 || column >= width) continue;
                        sum += x[((size_t)i * height + row) * width + column];
                    }
                y[((size_t)i * rows + r) * columns + c] = sum / (float)(kernel * kernel);
            }
}
";

const PROBABILITIES: &str = "\
/* Logits of all classes to their probabilities, which sum to 1; both may be the same array. */
static inline void kiln_probabilities(const float *logits, float *probabilities)
{
    float largest = logits[0], sum = 0.0f;
    for (int k = 1; k < KILN_CLASSES; k++)
        if (logits[k] > largest) largest = logits[k];
    for (int k = 0; k < KILN_CLASSES; k++)
        sum += probabilities[k] = expf((logits[k] - largest) / KILN_TEMPERATURE);
    for (int k = 0; k < KILN_CLASSES; k++) probabilities[k] /= sum;
}
";

const CLASSIFY: &str = "\
/* Pixels from 0 to 255, [C, H, W], to the index of the class; the logits of all classes are left in `logits`. */
static inline int kiln_classify(const unsigned char *pixels, float *logits, float *scratch)
{
    float *image = scratch; /* Read by the first layer, which writes the other half. */
    int best = 0;
    for (size_t c = 0, i = 0; c < KILN_CHANNELS; c++)
        for (size_t p = 0; p < (size_t)KILN_HEIGHT * KILN_WIDTH; p++, i++)
            image[i] = ((float)pixels[i] / 255.0f - kiln_mean[c]) / kiln_std[c];
    kiln_logits(image, logits, scratch);
    for (int k = 1; k < KILN_CLASSES; k++)
        if (logits[k] > logits[best]) best = k;
    return best;
}
";

/// Every activation of the network once.
fn activations(sequence: &Sequence) -> impl Iterator<Item = Activation> {
    let mut found: Vec<Activation> = Vec::new();
    for layer in &sequence.layers {
        if let Layer::Activation(activation) = layer
            && !found.contains(activation)
        {
            found.push(*activation);
        }
    }
    found.into_iter()
}

/// Name and text of the function.
fn activation_in_c(activation: Activation) -> (&'static str, String) {
    let (name, expression) = match activation {
        Activation::Relu => ("kiln_relu", "v > 0.0f ? v : 0.0f"),
        Activation::LeakyRelu => ("kiln_leaky_relu", "v > 0.0f ? v : 0.01f * v"),
        Activation::Gelu => ("kiln_gelu", "0.5f * v * (1.0f + erff(v * 0.70710678f))"),
        Activation::Silu => ("kiln_silu", "v / (1.0f + expf(-v))"),
        Activation::Sigmoid => ("kiln_sigmoid", "1.0f / (1.0f + expf(-v))"),
        Activation::Tanh => ("kiln_tanh", "tanhf(v)"),
    };
    let text = format!(
        "\nstatic inline void {name}(float *x, size_t len)\n{{\n    for (size_t i = 0; i < len; i++) {{ float v = \
         x[i]; x[i] = {expression}; }}\n}}\n"
    );
    (name, text)
}

/// Writes the arrays, and gives the expression for them.
fn write_weights(arrays: &mut String, name: &str, weight: &WeightTensor) -> String {
    match weight {
        WeightTensor::Float { values, .. } => {
            let weights = write_floats(arrays, &format!("{name}_weight"), values);
            format!("(kiln_weights){{ {weights}, 0, 0 }}")
        }
        WeightTensor::Int8(QuantizedTensor { values, scales, .. }) => {
            let lines: Vec<String> = values
                .chunks(24)
                .map(|line| line.iter().map(i8::to_string).collect::<Vec<_>>().join(","))
                .collect();
            let _ = writeln!(
                arrays,
                "static const signed char {name}_weight[{}] = {{\n{}\n}};",
                values.len(),
                lines.join(",\n")
            );
            let scales = write_floats(arrays, &format!("{name}_weight_scale"), scales);
            format!("(kiln_weights){{ 0, {name}_weight, {scales} }}")
        }
    }
}

fn write_floats(arrays: &mut String, name: &str, values: &[f32]) -> String {
    let lines: Vec<String> = values.chunks(8).map(floats).collect();
    let _ = writeln!(arrays, "static const float {name}[{}] = {{\n{}\n}};", values.len(), lines.join(",\n"));
    name.to_owned()
}

/// The shortest decimals that give the same floats back.
fn floats(values: &[f32]) -> String {
    values.iter().map(|value| format!("{value:e}f")).collect::<Vec<_>>().join(",")
}

/// A string literal. Octal escapes end after three digits, whatever follows; `?` could begin a trigraph.
fn string_in_c(text: &str) -> String {
    let escaped: String = text
        .bytes()
        .map(|byte| match byte {
            b'"' | b'\\' | b'?' => format!("\\{}", char::from(byte)),
            b' '..=b'~' => char::from(byte).to_string(),
            other => format!("\\{other:03o}"),
        })
        .collect();
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_c() {
        assert_eq!(string_in_c("a\"b\\c?"), r#""a\"b\\c\?""#);
        assert_eq!(string_in_c("ü1\n"), r#""\303\2741\012""#);
        assert_eq!(floats(&[1.0, -0.1, 1e-7]), "1e0f,-1e-1f,1e-7f");
        for value in [0.1f32, 1.0 / 3.0, f32::MIN_POSITIVE, -123_456.79] {
            assert_eq!(format!("{value:e}").parse::<f32>().unwrap().to_bits(), value.to_bits());
        }
    }
}

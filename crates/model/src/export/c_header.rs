//! A whole classifier as one header in C99: weights as arrays, and the functions that use them.
//!
//! Longer than other files: for every operator the C code that computes it.

use std::fmt::Write as _;

use super::{
    ExportError, Exported, QuantizedTensor, WeightTensor, answers,
    layers::{maps, steps},
};
use crate::{
    Activation, Cell, Convolution, Metadata, Node, NodeId, Operator, PoolKind, Task, networks::NetworkConfig,
};

/// The header. It needs nothing but the standard library (`-lm`), allocates nothing and keeps no
/// state: `kiln_logits` takes a normalised image `[C, H, W]` and scratch memory of `KILN_SCRATCH`
/// floats; `kiln_classify` takes 8-bit pixels, normalises them and returns the index of the class;
/// `kiln_probabilities` makes probabilities of logits, at the model's temperature.
///
/// # Errors
/// Class names that C cannot hold.
pub fn c_header(
    network: &Exported,
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
    let mut header =
        Header { network, memory: Memory::new(network), arrays: String::new(), calls: String::new() };
    for (id, node) in network.graph.iter() {
        header.layer(id, node);
    }
    let logits = header.memory.of(network.graph.head());
    let Header { memory, arrays, calls, .. } = header;

    let classes: Vec<String> = metadata.classes.iter().map(|name| string_in_c(name)).collect();
    let preprocessing = &metadata.preprocessing;
    let said = answers(metadata);
    let about = |key: &str| said.iter().find(|(name, _)| *name == key).map_or("", |(_, text)| text.as_str());
    let (probabilities, rejection) = (about("probabilities"), about("rejection"));
    let Answering { call, squash, thresholds, code } = Answering::of(&metadata.task);
    let used = functions(network);
    Ok(format!(
        "/* A classifier with its weights, written by Kiln {version}. C99; link with -lm.\n\
         \x20*\n\
         \x20* {call}   8-bit pixels [C, H, W]\n\
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
         /* Logits are divided by it before the {squash}. */\n#define KILN_TEMPERATURE {temperature}\n\n\
         static const char *const kiln_classes[KILN_CLASSES] = {{ {classes} }};\n\
         static const float kiln_mean[KILN_CHANNELS] = {{ {mean} }};\n\
         static const float kiln_std[KILN_CHANNELS] = {{ {std} }};\n{thresholds}\n\
         {arrays}\n{WEIGHTS}{used}\n\
         /* A normalised image [C, H, W] to the logits of all classes. */\n\
         static inline void kiln_logits(const float *image, float *logits, float *scratch)\n{{\n\
         {calls}\
         \x20   for (size_t i = 0; i < KILN_CLASSES; i++) logits[i] = ({logits})[i];\n}}\n\n{code}\n\
         #endif\n",
        temperature = floats(&[metadata.temperature()]),
        version = metadata.kiln_version,
        sha = metadata.weights_sha256,
        channels = input.channels,
        height = input.height,
        width = input.width,
        count = classes.len(),
        // `kiln_classify` puts the image at its start.
        scratch = memory.len,
        classes = classes.join(", "),
        mean = floats(&preprocessing.mean),
        std = floats(&preprocessing.std),
    ))
}

/// Scratch memory for what flows between layers, divided so that what is needed at one time has places of its own.
struct Memory {
    /// For every node the start of its output.
    places: Vec<usize>,
    /// For every node the start of what it needs beside that.
    extras: Vec<usize>,
    /// All of it.
    len: usize,
}

impl Memory {
    /// The image lies at the start, where `kiln_classify` puts it.
    fn new(network: &Exported) -> Self {
        let graph = &network.graph;
        let mut last_use: Vec<usize> = (0..graph.nodes.len()).collect();
        for (id, node) in graph.iter() {
            for input in &node.inputs {
                last_use[input.index()] = id.index();
            }
        }
        let mut memory = Self { places: Vec::new(), extras: Vec::new(), len: 0 };
        // Start, end and the last node that needs it.
        let mut taken: Vec<(usize, usize, usize)> = Vec::new();
        for (id, node) in graph.iter() {
            taken.retain(|&(_, _, last)| last >= id.index());
            let place = memory.find(&mut taken, node.output.iter().product(), last_use[id.index()]);
            memory.places.push(place);
            let extra = memory.find(&mut taken, extra(network, node), id.index());
            memory.extras.push(extra);
        }
        memory
    }

    /// The first gap of a length.
    fn find(&mut self, taken: &mut Vec<(usize, usize, usize)>, len: usize, last: usize) -> usize {
        taken.sort_unstable();
        let mut start = 0;
        for &(from, to, _) in taken.iter() {
            if start + len <= from {
                break;
            }
            start = start.max(to);
        }
        taken.push((start, start + len, last));
        self.len = self.len.max(start + len);
        start
    }

    /// The output of a node, as an expression.
    fn of(&self, id: NodeId) -> String {
        if id == NodeId(0) { "image".to_owned() } else { format!("scratch + {}", self.places[id.index()]) }
    }
}

/// Floats that a layer needs beside its input and its output.
fn extra(network: &Exported, node: &Node) -> usize {
    match node.operator {
        // The products of the input and of the state, and the state and memory of the cell.
        Operator::Recurrent { cell, hidden } => (2 * cell.gates() + 2) * hidden,
        // The weights of one token.
        Operator::Attention { .. } => steps(network.input_of(node))[0],
        _ => 0,
    }
}

/// The header as it grows.
struct Header<'a> {
    network: &'a Exported,
    memory: Memory,
    arrays: String,
    calls: String,
}

impl Header<'_> {
    fn layer(&mut self, id: NodeId, node: &Node) {
        let input = self.network.input_of(node).to_vec();
        let [channels, height, width] = maps(&input);
        let [rows, features] = steps(&input);
        let len: usize = node.output.iter().product();
        let inputs: Vec<String> = node.inputs.iter().map(|&input| self.memory.of(input)).collect();
        let x = inputs.first().cloned().unwrap_or_default();
        let y = self.memory.of(id);
        let extra = format!("scratch + {}", self.memory.extras[id.index()]);
        let name = format!("kiln_{}", id.index());
        let lines: Vec<String> = match &node.operator {
            Operator::Image => vec![],
            Operator::Dropout { .. } | Operator::Flatten | Operator::FirstToken => {
                vec![format!("kiln_copy({x}, {len}, {y});")]
            }
            Operator::Convolution(convolution) => {
                let Convolution { channels: outputs, kernel, stride, padding, dilation, groups, bias } =
                    *convolution;
                let weights = self.weights(&name, node, "weight");
                let bias = if bias { self.floats(&name, node, "bias") } else { "0".to_owned() };
                let list =
                    |sizes: &[usize]| sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                let form = format!(
                    "(kiln_convolution){{ {{ {} }}, {{ {} }}, {{ {} }}, {{ {} }}, {groups}, {outputs} }}",
                    list(&kernel),
                    list(&stride),
                    list(&padding),
                    list(&dilation)
                );
                vec![format!(
                    "kiln_conv({x}, {channels}, {height}, {width}, {weights}, {bias}, {form}, {y});"
                )]
            }
            Operator::BatchNorm { epsilon } => {
                let part = |part: &str| self.network.floats(node, part);
                let scale: Vec<f64> = part("gamma")
                    .iter()
                    .zip(part("running_var"))
                    .map(|(&gamma, variance)| f64::from(gamma) / (f64::from(variance) + epsilon).sqrt())
                    .collect();
                let (beta, mean) = (part("beta"), part("running_mean"));
                let shift = beta.iter().zip(&mean).zip(&scale);
                let shift: Vec<f32> = shift
                    .map(|((&beta, &mean), scale)| (f64::from(beta) - f64::from(mean) * scale) as f32)
                    .collect();
                let scale: Vec<f32> = scale.into_iter().map(|scale| scale as f32).collect();
                let scale = write_floats(&mut self.arrays, &format!("{name}_scale"), &scale);
                let shift = write_floats(&mut self.arrays, &format!("{name}_shift"), &shift);
                vec![format!("kiln_affine({x}, {channels}, {}, {scale}, {shift}, {y});", height * width)]
            }
            Operator::LayerNorm { epsilon } => {
                let [gamma, beta] = ["gamma", "beta"].map(|part| self.floats(&name, node, part));
                let epsilon = floats(&[*epsilon as f32]);
                vec![format!("kiln_layer_norm({x}, {rows}, {features}, {gamma}, {beta}, {epsilon}, {y});")]
            }
            Operator::Activation(activation) => {
                vec![format!("{}({x}, {len}, {y});", activation_in_c(*activation).0)]
            }
            Operator::Pool(pool) => {
                let function = match pool.kind {
                    PoolKind::Max => "kiln_max_pool",
                    PoolKind::Average => "kiln_average_pool",
                };
                let (kernel, stride, padding) = (pool.kernel, pool.stride(), pool.padding);
                vec![format!(
                    "{function}({x}, {channels}, {height}, {width}, {kernel}, {stride}, {padding}, {y});"
                )]
            }
            Operator::Average { side } => {
                vec![format!("kiln_average({x}, {channels}, {height}, {width}, {side}, {y});")]
            }
            Operator::Dense { outputs } => {
                let weights = self.weights(&name, node, "weight");
                let bias = self.floats(&name, node, "bias");
                vec![format!("kiln_dense({x}, {rows}, {features}, {weights}, {bias}, {outputs}, {y});")]
            }
            Operator::Add => vec![format!("kiln_add({}, {len}, {y});", inputs.join(", "))],
            Operator::Concatenate => {
                let mut start = 0;
                let mut lines = Vec::new();
                for (input, x) in node.inputs.iter().zip(&inputs) {
                    let len: usize = self.network.graph.node(*input).output.iter().product();
                    lines.push(format!("kiln_copy({x}, {len}, {y} + {start});"));
                    start += len;
                }
                lines
            }
            Operator::Scale => {
                vec![format!("kiln_scale({}, {channels}, {}, {y});", inputs.join(", "), height * width)]
            }
            Operator::Rows => vec![format!("kiln_rows({x}, {channels}, {height}, {width}, {y});")],
            Operator::Recurrent { cell, hidden } => {
                let function = match cell {
                    Cell::Lstm => "kiln_lstm",
                    Cell::Gru => "kiln_gru",
                };
                let [from, of] = ["input", "state"].map(|side| {
                    let weights = self.weights(&name, node, &format!("{side}.weight"));
                    let bias = self.floats(&name, node, &format!("{side}.bias"));
                    format!("{weights}, {bias}")
                });
                vec![format!("{function}({x}, {rows}, {features}, {hidden}, {from}, {of}, {extra}, {y});")]
            }
            Operator::LastStep => {
                vec![format!("kiln_copy({x} + {}, {len}, {y});", rows.saturating_sub(1) * features)]
            }
            Operator::Tokens => {
                let [class_token, positions] =
                    ["class_token", "positions"].map(|part| self.floats(&name, node, part));
                vec![format!(
                    "kiln_tokens({x}, {channels}, {}, {class_token}, {positions}, {y});",
                    height * width
                )]
            }
            Operator::Attention { heads } => {
                vec![format!("kiln_attention({x}, {rows}, {}, {heads}, {extra}, {y});", features / 3)]
            }
            Operator::Thin { stride, channels: more } => {
                vec![format!("kiln_thin({x}, {channels}, {height}, {width}, {stride}, {more}, {y});")]
            }
        };
        for line in lines {
            let _ = writeln!(self.calls, "    {line}");
        }
    }

    /// Writes a matrix or filters, and gives the expression for them.
    fn weights(&mut self, name: &str, node: &Node, part: &str) -> String {
        let name = format!("{name}_{}", part.replace('.', "_"));
        match self.network.tensor(node, part) {
            Some(weight) => write_weights(&mut self.arrays, &name, weight),
            None => "(kiln_weights){ 0, 0, 0 }".to_owned(),
        }
    }

    /// Writes a vector, and gives its name.
    fn floats(&mut self, name: &str, node: &Node, part: &str) -> String {
        let values = self.network.floats(node, part);
        write_floats(&mut self.arrays, &format!("{name}_{}", part.replace('.', "_")), &values)
    }
}

const WEIGHTS: &str = "\
/* Weights are floats, or bytes with one scale for each output. */
typedef struct { const float *floats; const signed char *bytes; const float *scales; } kiln_weights;

static inline void kiln_copy(const float *x, size_t len, float *y)
{
    for (size_t i = 0; i < len; i++) y[i] = x[i];
}
";

/// Multiplications are summed in single precision, as the network does.
const CONVOLUTION: &str = "
/* Rows, then columns; padding at the top, the left, the bottom and the right. */
typedef struct { int kernel[2], stride[2], padding[4], dilation[2], groups, outputs; } kiln_convolution;

static inline void kiln_conv(const float *x, int channels, int height, int width, kiln_weights w,
                             const float *bias, kiln_convolution f, float *y)
{
    int rows = (height + f.padding[0] + f.padding[2] - f.dilation[0] * (f.kernel[0] - 1) - 1) / f.stride[0] + 1;
    int columns = (width + f.padding[1] + f.padding[3] - f.dilation[1] * (f.kernel[1] - 1) - 1) / f.stride[1] + 1;
    int inputs = channels / f.groups, outputs = f.outputs / f.groups;
    for (int o = 0; o < f.outputs; o++)
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < columns; c++) {
                float sum = 0.0f;
                for (int i = 0; i < inputs; i++)
                    for (int k = 0; k < f.kernel[0]; k++) {
                        int row = r * f.stride[0] + k * f.dilation[0] - f.padding[0];
                        if (row < 0 || row >= height) continue;
                        for (int l = 0; l < f.kernel[1]; l++) {
                            int column = c * f.stride[1] + l * f.dilation[1] - f.padding[1];
                            if (column < 0 || column >= width) continue;
                            size_t at = (((size_t)o * inputs + i) * f.kernel[0] + k) * f.kernel[1] + l;
                            float weight = w.floats ? w.floats[at] : (float)w.bytes[at];
                            size_t channel = (size_t)(o / outputs) * inputs + i;
                            sum += weight * x[(channel * height + row) * width + column];
                        }
                    }
                if (w.scales) sum *= w.scales[o];
                y[((size_t)o * rows + r) * columns + c] = bias ? sum + bias[o] : sum;
            }
}
";

const DENSE: &str = "
static inline void kiln_dense(const float *x, int rows, int inputs, kiln_weights w, const float *bias, int outputs,
                              float *y)
{
    for (int r = 0; r < rows; r++, x += inputs, y += outputs) {
        for (int o = 0; o < outputs; o++) y[o] = 0.0f;
        for (int i = 0; i < inputs; i++)
            for (int o = 0; o < outputs; o++) {
                size_t at = (size_t)i * outputs + o;
                y[o] += x[i] * (w.floats ? w.floats[at] : (float)w.bytes[at]);
            }
        for (int o = 0; o < outputs; o++) y[o] = (w.scales ? y[o] * w.scales[o] : y[o]) + bias[o];
    }
}
";

const BATCH_NORM: &str = "
static inline void kiln_affine(const float *x, int channels, int len, const float *scale, const float *shift, float *y)
{
    for (int c = 0; c < channels; c++)
        for (int i = 0; i < len; i++) y[(size_t)c * len + i] = x[(size_t)c * len + i] * scale[c] + shift[c];
}
";

const LAYER_NORM: &str = "
static inline void kiln_layer_norm(const float *x, int rows, int len, const float *gamma, const float *beta,
                                   float epsilon, float *y)
{
    for (int r = 0; r < rows; r++, x += len, y += len) {
        float mean = 0.0f, variance = 0.0f;
        for (int i = 0; i < len; i++) mean += x[i];
        mean /= (float)len;
        for (int i = 0; i < len; i++) variance += (x[i] - mean) * (x[i] - mean);
        variance /= (float)len;
        for (int i = 0; i < len; i++) y[i] = (x[i] - mean) / sqrtf(variance + epsilon) * gamma[i] + beta[i];
    }
}
";

const MAX_POOL: &str = "
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
";

const AVERAGE_POOL: &str = "
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

const AVERAGE: &str = "
/* Means over a grid of cells, whatever the size. */
static inline void kiln_average(const float *x, int channels, int height, int width, int side, float *y)
{
    for (int i = 0; i < channels; i++)
        for (int r = 0; r < side; r++)
            for (int c = 0; c < side; c++) {
                int top = r * height / side, bottom = ((r + 1) * height + side - 1) / side;
                int left = c * width / side, right = ((c + 1) * width + side - 1) / side;
                float sum = 0.0f;
                for (int row = top; row < bottom; row++)
                    for (int column = left; column < right; column++)
                        sum += x[((size_t)i * height + row) * width + column];
                y[((size_t)i * side + r) * side + c] = sum / (float)((bottom - top) * (right - left));
            }
}
";

const ADD: &str = "
static inline void kiln_add(const float *a, const float *b, size_t len, float *y)
{
    for (size_t i = 0; i < len; i++) y[i] = a[i] + b[i];
}
";

const SCALE: &str = "
static inline void kiln_scale(const float *x, const float *factors, int channels, int len, float *y)
{
    for (int c = 0; c < channels; c++)
        for (int i = 0; i < len; i++) y[(size_t)c * len + i] = x[(size_t)c * len + i] * factors[c];
}
";

const ROWS: &str = "
/* The rows of all channels side by side: [C, H, W] to [H, C * W]. */
static inline void kiln_rows(const float *x, int channels, int height, int width, float *y)
{
    for (int r = 0; r < height; r++)
        for (int c = 0; c < channels; c++)
            kiln_copy(x + ((size_t)c * height + r) * width, (size_t)width, y + ((size_t)r * channels + c) * width);
}
";

const SIGMOID: &str = "
static inline float kiln_gate(float v) { return 1.0f / (1.0f + expf(-v)); }
";

const LSTM: &str = "
/* The states after all steps; the gates are input, forget, cell, output. `scratch` holds 10 * hidden floats. */
static inline void kiln_lstm(const float *x, int steps, int inputs, int hidden, kiln_weights wi, const float *bi,
                             kiln_weights ws, const float *bs, float *scratch, float *y)
{
    float *a = scratch, *b = a + 4 * (size_t)hidden, *state = b + 4 * (size_t)hidden, *memory = state + hidden;
    for (int h = 0; h < hidden; h++) state[h] = memory[h] = 0.0f;
    for (int t = 0; t < steps; t++, x += inputs, y += hidden) {
        kiln_dense(x, 1, inputs, wi, bi, 4 * hidden, a);
        kiln_dense(state, 1, hidden, ws, bs, 4 * hidden, b);
        for (int h = 0; h < hidden; h++) {
            float input = kiln_gate(a[h] + b[h]), forget = kiln_gate(a[hidden + h] + b[hidden + h]);
            float cell = tanhf(a[2 * hidden + h] + b[2 * hidden + h]);
            float output = kiln_gate(a[3 * hidden + h] + b[3 * hidden + h]);
            memory[h] = forget * memory[h] + input * cell;
            y[h] = state[h] = output * tanhf(memory[h]);
        }
    }
}
";

const GRU: &str = "
/* The states after all steps; the gates are reset, update, new. `scratch` holds 8 * hidden floats. */
static inline void kiln_gru(const float *x, int steps, int inputs, int hidden, kiln_weights wi, const float *bi,
                            kiln_weights ws, const float *bs, float *scratch, float *y)
{
    float *a = scratch, *b = a + 3 * (size_t)hidden, *state = b + 3 * (size_t)hidden;
    for (int h = 0; h < hidden; h++) state[h] = 0.0f;
    for (int t = 0; t < steps; t++, x += inputs, y += hidden) {
        kiln_dense(x, 1, inputs, wi, bi, 3 * hidden, a);
        kiln_dense(state, 1, hidden, ws, bs, 3 * hidden, b);
        for (int h = 0; h < hidden; h++) {
            float reset = kiln_gate(a[h] + b[h]), update = kiln_gate(a[hidden + h] + b[hidden + h]);
            float next = tanhf(a[2 * hidden + h] + reset * b[2 * hidden + h]);
            y[h] = state[h] = next + update * (state[h] - next);
        }
    }
}
";

const TOKENS: &str = "
/* Patches [D, P] behind a class token, with positions added: [P + 1, D]. */
static inline void kiln_tokens(const float *x, int width, int patches, const float *class_token,
                               const float *positions, float *y)
{
    for (int t = 0; t <= patches; t++)
        for (int d = 0; d < width; d++) {
            size_t at = (size_t)t * width + d;
            y[at] = (t ? x[(size_t)d * patches + t - 1] : class_token[d]) + positions[at];
        }
}
";

const ATTENTION: &str = "
/* Queries, keys and values side by side [T, 3 D] to mixed values [T, D]. `scratch` holds T floats. */
static inline void kiln_attention(const float *x, int tokens, int width, int heads, float *scratch, float *y)
{
    int features = width / heads;
    for (int h = 0; h < heads; h++)
        for (int t = 0; t < tokens; t++) {
            const float *query = x + (size_t)t * 3 * width + (size_t)h * features;
            float largest = -INFINITY, sum = 0.0f;
            for (int s = 0; s < tokens; s++) {
                const float *key = x + (size_t)s * 3 * width + width + (size_t)h * features;
                float product = 0.0f;
                for (int f = 0; f < features; f++) product += query[f] * key[f];
                scratch[s] = product / sqrtf((float)features);
                if (scratch[s] > largest) largest = scratch[s];
            }
            for (int s = 0; s < tokens; s++) sum += scratch[s] = expf(scratch[s] - largest);
            float *mixed = y + (size_t)t * width + (size_t)h * features;
            for (int f = 0; f < features; f++) mixed[f] = 0.0f;
            for (int s = 0; s < tokens; s++) {
                const float *value = x + (size_t)s * 3 * width + 2 * (size_t)width + (size_t)h * features;
                for (int f = 0; f < features; f++) mixed[f] += scratch[s] / sum * value[f];
            }
        }
}
";

const THIN: &str = "
/* Every stride-th row and column, and channels of zeros before and behind. */
static inline void kiln_thin(const float *x, int channels, int height, int width, int stride, int more, float *y)
{
    int rows = (height + stride - 1) / stride, columns = (width + stride - 1) / stride;
    for (int c = 0; c < channels + more; c++)
        for (int r = 0; r < rows; r++)
            for (int l = 0; l < columns; l++) {
                int from = c - more / 2;
                size_t at = ((size_t)c * rows + r) * columns + l;
                y[at] = 0.0f;
                if (from >= 0 && from < channels)
                    y[at] = x[((size_t)from * height + (size_t)r * stride) * width + (size_t)l * stride];
            }
}
";

/// The functions that the layers use, each once.
fn functions(network: &Exported) -> String {
    let mut found: Vec<String> = Vec::new();
    let mut add = |text: String| {
        if !found.contains(&text) {
            found.push(text);
        }
    };
    for node in &network.graph.nodes {
        let texts: &[&str] = match &node.operator {
            Operator::Activation(activation) => {
                add(activation_in_c(*activation).1);
                &[]
            }
            Operator::Convolution(_) => &[CONVOLUTION],
            Operator::BatchNorm { .. } => &[BATCH_NORM],
            Operator::LayerNorm { .. } => &[LAYER_NORM],
            Operator::Pool(pool) => match pool.kind {
                PoolKind::Max => &[MAX_POOL],
                PoolKind::Average => &[AVERAGE_POOL],
            },
            Operator::Average { .. } => &[AVERAGE],
            Operator::Dense { .. } => &[DENSE],
            Operator::Add => &[ADD],
            Operator::Scale => &[SCALE],
            Operator::Rows => &[ROWS],
            Operator::Recurrent { cell: Cell::Lstm, .. } => &[DENSE, SIGMOID, LSTM],
            Operator::Recurrent { cell: Cell::Gru, .. } => &[DENSE, SIGMOID, GRU],
            Operator::Tokens => &[TOKENS],
            Operator::Attention { .. } => &[ATTENTION],
            Operator::Thin { .. } => &[THIN],
            Operator::Image
            | Operator::Concatenate
            | Operator::Dropout { .. }
            | Operator::Flatten
            | Operator::LastStep
            | Operator::FirstToken => &[],
        };
        for text in texts {
            add((*text).to_owned());
        }
    }
    found.concat()
}

/// What a header says and does by the task of its model.
struct Answering {
    /// How it is called.
    call: &'static str,
    /// What makes probabilities of logits.
    squash: &'static str,
    /// Their array, where there are any.
    thresholds: String,
    /// From logits to probabilities, and from pixels to answers.
    code: String,
}

impl Answering {
    fn of(task: &Task) -> Self {
        match task {
            Task::Classify => Self {
                call: "int class = kiln_classify(pixels, logits, scratch);",
                squash: "softmax",
                thresholds: String::new(),
                code: format!("{PROBABILITIES}\n{CLASSIFY}"),
            },
            Task::MultiLabel { thresholds } => Self {
                call: "int count = kiln_labels(pixels, labels, logits, scratch);",
                squash: "sigmoid",
                thresholds: format!(
                    "/* The least probability of each class that is a label. */\n\
                     static const float kiln_thresholds[KILN_CLASSES] = {{ {} }};\n",
                    floats(thresholds)
                ),
                code: format!("{PROBABILITY_OF_EACH}\n{LABELS}"),
            },
        }
    }
}

const PROBABILITY_OF_EACH: &str = "\
/* Logits of all classes to their probabilities, each by itself; both may be the same array. */
static inline void kiln_probabilities(const float *logits, float *probabilities)
{
    for (int k = 0; k < KILN_CLASSES; k++)
        probabilities[k] = 1.0f / (1.0f + expf(-logits[k] / KILN_TEMPERATURE));
}
";

const LABELS: &str = "\
/* Pixels from 0 to 255, [C, H, W], to a 1 in `labels` for each class that is on the picture, and a 0 for the others; gives
 * how many there are. The logits of all classes are left in `logits`. */
static inline int kiln_labels(const unsigned char *pixels, unsigned char *labels, float *logits, float *scratch)
{
    float *image = scratch; /* Nothing is written there before the last layer that reads it. */
    int count = 0;
    for (size_t c = 0, i = 0; c < KILN_CHANNELS; c++)
        for (size_t p = 0; p < (size_t)KILN_HEIGHT * KILN_WIDTH; p++, i++)
            image[i] = ((float)pixels[i] / 255.0f - kiln_mean[c]) / kiln_std[c];
    kiln_logits(image, logits, scratch);
    for (int k = 0; k < KILN_CLASSES; k++) {
        float probability = 1.0f / (1.0f + expf(-logits[k] / KILN_TEMPERATURE));
        count += labels[k] = probability >= kiln_thresholds[k];
    }
    return count;
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
    float *image = scratch; /* Nothing is written there before the last layer that reads it. */
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
        "\nstatic inline void {name}(const float *x, size_t len, float *y)\n{{\n    for (size_t i = 0; i < len; i++) \
         {{ float v = x[i]; y[i] = {expression}; }}\n}}\n"
    );
    (name, text)
}

/// Writes the arrays, and gives the expression for them.
fn write_weights(arrays: &mut String, name: &str, weight: &WeightTensor) -> String {
    match weight {
        WeightTensor::Float { values, .. } => {
            let weights = write_floats(arrays, name, values);
            format!("(kiln_weights){{ {weights}, 0, 0 }}")
        }
        WeightTensor::Int8(QuantizedTensor { values, scales, .. }) => {
            let lines: Vec<String> = values
                .chunks(24)
                .map(|line| line.iter().map(i8::to_string).collect::<Vec<_>>().join(","))
                .collect();
            let _ = writeln!(
                arrays,
                "static const signed char {name}[{}] = {{\n{}\n}};",
                values.len(),
                lines.join(",\n")
            );
            let scales = write_floats(arrays, &format!("{name}_scale"), scales);
            format!("(kiln_weights){{ 0, {name}, {scales} }}")
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

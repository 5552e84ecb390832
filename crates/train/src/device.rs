//! The one place that knows which backends exist.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use burn::tensor::wgpu::wgpu::{AdapterInfo, Backend as Api, DeviceType};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Where tensors live and operators run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// Burn's pure Rust CPU backend.
    #[default]
    Flex,
    /// CPU, on the `ndarray` crate.
    #[value(name = "ndarray")]
    #[serde(rename = "ndarray")]
    NdArray,
    /// A GPU through Vulkan, Metal, DirectX 12 or WebGPU.
    Wgpu,
    /// An NVIDIA GPU.
    #[cfg(feature = "cuda")]
    Cuda,
}

/// Which code the operators of the CPU run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kernels {
    /// As the variable `KILN_KERNELS` says; without it the fastest that the processor can run
    #[default]
    Auto,
    /// Burn's own operators
    Stock,
    /// Without instructions that only some processors have
    Portable,
    /// For x86-64 with AVX2 and FMA
    Avx2,
    /// For x86-64 with AVX-512
    Avx512,
}

impl Kernels {
    /// The path chosen here; `None` where variable and processor choose.
    pub fn path(self) -> Option<model::ops::Path> {
        match self {
            Self::Auto => None,
            Self::Stock => Some(model::ops::Path::Stock),
            Self::Portable => Some(model::ops::Path::Portable),
            Self::Avx2 => Some(model::ops::Path::Avx2),
            Self::Avx512 => Some(model::ops::Path::Avx512),
        }
    }

    /// Lets the process compute with it from here on, and gives the path that this comes to.
    ///
    /// # Errors
    /// When the processor cannot run it, or `KILN_KERNELS` names nothing that it can run.
    pub fn apply(self) -> Result<model::ops::Path, model::ops::KernelsError> {
        model::ops::set_path(self.path())?;
        model::ops::path()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
pub(crate) fn is_auto(kernels: &Kernels) -> bool {
    *kernels == Kernels::Auto
}

impl std::fmt::Display for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.path().map_or("auto", model::ops::Path::name))
    }
}

/// The processor, for tensors that no step of training touches: weights on their way from one file to another, pictures to look
/// at.
pub fn processor() -> Device {
    Device::flex()
}

/// A backend that cannot be used here.
#[derive(Debug, thiserror::Error)]
#[error(
    "the backend `{backend}` cannot be used on this machine: {reason}\n\
     It needs {needs}.\n\
     The backends `flex` and `ndarray` run on any processor: try `--backend flex`."
)]
pub struct DeviceError {
    backend: Backend,
    reason: String,
    needs: &'static str,
}

/// The graphics adapter behind `wgpu`, as its driver describes itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adapter {
    /// Its name: `NVIDIA H100`, `llvmpipe (LLVM 15.0.6, 256 bits)`.
    pub name: String,
    /// `discrete GPU`, `integrated GPU`, `virtual GPU`, `processor` or `unknown kind`.
    pub kind: String,
    /// The driver and its version, as far as it says.
    pub driver: String,
    /// The graphics interface: `Vulkan`, `Metal`, `DirectX 12`, `OpenGL`.
    pub api: String,
    /// Whether it computes on the processor.
    pub software: bool,
}

impl Adapter {
    fn new(info: &AdapterInfo) -> Self {
        let kind = match info.device_type {
            DeviceType::DiscreteGpu => "discrete GPU",
            DeviceType::IntegratedGpu => "integrated GPU",
            DeviceType::VirtualGpu => "virtual GPU",
            DeviceType::Cpu => "processor",
            DeviceType::Other => "unknown kind",
        };
        let api = match info.backend {
            Api::Vulkan => "Vulkan",
            Api::Metal => "Metal",
            Api::Dx12 => "DirectX 12",
            Api::Gl => "OpenGL",
            Api::BrowserWebGpu => "WebGPU",
            Api::Noop => "none",
        };
        Self {
            name: info.name.clone(),
            kind: kind.to_owned(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            api: api.to_owned(),
            software: info.device_type == DeviceType::Cpu || names_software(&info.name),
        }
    }

    /// What a user should know before waiting for it.
    fn warning(&self) -> Option<String> {
        let mut parts = Vec::new();
        if self.software {
            parts.push(
                "this adapter is software: it computes on the processor, far slower than `--backend flex`, which \
                 is made for it"
                    .to_owned(),
            );
        }
        if self.api == "OpenGL" {
            parts.push(
                "no Vulkan driver was found, and OpenGL is slower and computes less exactly; on Debian and Ubuntu \
                 `apt-get install mesa-vulkan-drivers`, for a GPU its maker's driver"
                    .to_owned(),
            );
        }
        (!parts.is_empty()).then(|| parts.join(". "))
    }
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.name, self.kind)?;
        if !self.driver.is_empty() {
            write!(f, ", driver {}", self.driver)?;
        }
        write!(f, ", {})", self.api)
    }
}

/// Whether a name is that of a program that imitates a GPU: drivers do not always say so by their type.
fn names_software(name: &str) -> bool {
    let name = name.to_lowercase();
    ["llvmpipe", "lavapipe", "softpipe", "swiftshader", "swrast", "basic render driver"]
        .iter()
        .any(|known| name.contains(known))
}

/// The adapter that `wgpu` runs on, once it has been set up; or why it cannot be.
static ADAPTER: OnceLock<Result<Adapter, String>> = OnceLock::new();

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flex => "flex",
            Self::NdArray => "ndarray",
            Self::Wgpu => "wgpu",
            #[cfg(feature = "cuda")]
            Self::Cuda => "cuda",
        })
    }
}

impl Backend {
    /// Whether the tensors are plain memory of this process, so that reading one waits for nothing.
    pub fn is_cpu(self) -> bool {
        matches!(self, Self::Flex | Self::NdArray)
    }

    /// The graphics adapter that tensors live on, once [`Self::device`] has been called.
    pub fn adapter(self) -> Option<&'static Adapter> {
        (self == Self::Wgpu).then(|| ADAPTER.get()).flatten().and_then(|found| found.as_ref().ok())
    }

    /// The device, after a tiny computation has shown that it works: GPU devices are created
    /// lazily, and would fail in the middle of training. The first time the adapter of `wgpu` is named in the log.
    ///
    /// # Errors
    /// When there is no adapter or driver, with what is missing.
    pub fn device(self) -> Result<Device, DeviceError> {
        let device = match self {
            Self::Flex => return Ok(Device::flex()),
            #[expect(deprecated, reason = "a backend the customer asked for, in Burn until 0.22")]
            Self::NdArray => return Ok(Device::ndarray()),
            Self::Wgpu => {
                let found = ADAPTER.get_or_init(|| silently(set_up_wgpu).unwrap_or_else(Err));
                found.as_ref().map_err(|reason| self.unusable(reason.clone()))?;
                Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)
            }
            #[cfg(feature = "cuda")]
            Self::Cuda => Device::cuda(0),
        };
        probe(&device).map_err(|reason| self.unusable(reason))?;
        Ok(device)
    }

    fn unusable(self, reason: String) -> DeviceError {
        let needs = match self {
            Self::Wgpu => {
                "a GPU with a Vulkan, Metal or DirectX 12 driver, or a software one: on Debian and \
                 Ubuntu `apt-get install mesa-vulkan-drivers`"
            }
            _ => "an NVIDIA GPU, its driver and the CUDA toolkit",
        };
        DeviceError { backend: self, reason, needs }
    }
}

/// Acquires the adapter that Burn's default `wgpu` device then uses, and names it.
fn set_up_wgpu() -> Result<Adapter, String> {
    let (_, setup) =
        Device::wgpu_options().init_with_setup().map_err(|error| in_plain_words(&error.to_string()))?;
    let adapter = Adapter::new(&setup.adapter.get_info());
    tracing::info!("wgpu runs on {adapter}");
    if let Some(warning) = adapter.warning() {
        tracing::warn!("{warning}");
    }
    Ok(adapter)
}

/// Adds one and one.
fn probe(device: &Device) -> Result<(), String> {
    let answer = silently(|| {
        let one = Tensor::<1>::ones([1], device);
        (one.clone() + one).try_into_scalar::<f32>().map_err(|error| first_line(&error.to_string()))
    })??;
    if (answer - 2.0).abs() < f32::EPSILON { Ok(()) } else { Err(format!("1 + 1 gave {answer}")) }
}

/// Calls a part of the GPU stack, which reports a missing adapter by a panic, in its own thread too.
fn silently<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let answer = catch_unwind(AssertUnwindSafe(call));
    std::panic::set_hook(hook);
    answer.map_err(|panic| match data::text::panic_message(&*panic).unwrap_or_default() {
        // A channel whose other end died with the real reason, in a thread we cannot see into.
        message if message.is_empty() || message.contains("RecvError") => {
            "no graphics adapter was found".to_owned()
        }
        message => first_line(message),
    })
}

/// What the GPU stack says of a machine without an adapter, in words for everybody.
fn in_plain_words(error: &str) -> String {
    if error.contains("No adapter") || error.contains("no adapter") {
        return "no graphics adapter was found".to_owned();
    }
    first_line(error)
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(name: &str, device_type: DeviceType, api: Api) -> Adapter {
        let mut info = AdapterInfo::new(device_type, api);
        info.name = name.to_owned();
        Adapter::new(&info)
    }

    #[test]
    fn software_adapters_are_known_by_their_kind_and_by_their_name() {
        for (name, kind, software) in [
            ("llvmpipe (LLVM 15.0.6, 256 bits)", DeviceType::Cpu, true),
            ("llvmpipe (LLVM 19.1.7, 256 bits)", DeviceType::Other, true),
            ("SwiftShader Device (LLVM 10.0.0)", DeviceType::VirtualGpu, true),
            ("Microsoft Basic Render Driver", DeviceType::Other, true),
            ("a processor nobody has heard of", DeviceType::Cpu, true),
            ("NVIDIA H100 80GB HBM3", DeviceType::DiscreteGpu, false),
            ("Intel(R) UHD Graphics 620", DeviceType::IntegratedGpu, false),
        ] {
            let adapter = adapter(name, kind, Api::Vulkan);
            assert_eq!(adapter.software, software, "{name}");
            assert_eq!(adapter.warning().is_some_and(|text| text.contains("--backend flex")), software);
        }
    }

    #[test]
    fn opengl_is_not_taken_in_silence() {
        let opengl = adapter("AMD Radeon", DeviceType::DiscreteGpu, Api::Gl);
        assert!(opengl.warning().is_some_and(|text| text.contains("OpenGL") && text.contains("Vulkan")));
        assert_eq!(opengl.to_string(), "AMD Radeon (discrete GPU, OpenGL)");
        assert_eq!(adapter("AMD Radeon", DeviceType::DiscreteGpu, Api::Vulkan).warning(), None);
    }

    #[test]
    fn cpu_devices_compute() {
        for backend in [Backend::Flex, Backend::NdArray] {
            assert_eq!(probe(&backend.device().unwrap()), Ok(()));
        }
    }
}

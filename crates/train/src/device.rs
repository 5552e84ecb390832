//! The one place that knows which backends exist.

use std::panic::{AssertUnwindSafe, catch_unwind};

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

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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

    /// The device, after a tiny computation has shown that it works: GPU devices are created
    /// lazily, and would fail in the middle of training.
    ///
    /// # Errors
    /// When there is no adapter or driver, with what is missing.
    pub fn device(self) -> Result<Device, DeviceError> {
        let device = match self {
            Self::Flex => return Ok(Device::flex()),
            #[expect(deprecated, reason = "a backend the customer asked for, in Burn until 0.22")]
            Self::NdArray => return Ok(Device::ndarray()),
            Self::Wgpu => Device::wgpu(burn::tensor::DeviceKind::DefaultDevice),
            #[cfg(feature = "cuda")]
            Self::Cuda => Device::cuda(0),
        };
        let needs = match self {
            Self::Wgpu => {
                "a GPU with a Vulkan, Metal or DirectX 12 driver, or a software one: on Debian and \
                 Ubuntu `apt-get install mesa-vulkan-drivers`"
            }
            _ => "an NVIDIA GPU, its driver and the CUDA toolkit",
        };
        probe(&device).map_err(|reason| DeviceError { backend: self, reason, needs })?;
        Ok(device)
    }
}

/// Adds one and one. The GPU stack reports a missing adapter by a panic in its own thread.
fn probe(device: &Device) -> Result<(), String> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let answer = catch_unwind(AssertUnwindSafe(|| {
        let one = Tensor::<1>::ones([1], device);
        (one.clone() + one).try_into_scalar::<f32>().map_err(|error| error.to_string())
    }));
    std::panic::set_hook(hook);
    match answer {
        Ok(Ok(two)) if (two - 2.0).abs() < f32::EPSILON => Ok(()),
        Ok(Ok(other)) => Err(format!("1 + 1 gave {other}")),
        Ok(Err(error)) => Err(first_line(&error)),
        Err(panic) => Err(match panic_message(&*panic) {
            // A channel whose other end died with the real reason, in a thread we cannot see into.
            message if message.is_empty() || message.contains("RecvError") => {
                "no graphics adapter was found".to_owned()
            }
            message => first_line(&message),
        }),
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_default()
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_devices_compute() {
        for backend in [Backend::Flex, Backend::NdArray] {
            assert_eq!(probe(&backend.device().unwrap()), Ok(()));
        }
    }
}

//! `NumPy`'s archive: a zip of arrays.

use std::io::{Cursor, Write};

use model::export::{ExportError, WeightTensor};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// The arrays under their names in our record; an int8 array `NAME` has its scales in `NAME_scale`.
/// `metadata` becomes the array `kiln`, a string.
pub(super) fn npz(tensors: &[(String, WeightTensor)], metadata: &str) -> Result<Vec<u8>, ExportError> {
    let failed =
        |reason: &dyn std::fmt::Display| ExportError::Container { format: "npz", reason: reason.to_string() };
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    // The same model gives the same bytes: no times. Weights do not get smaller.
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(zip::DateTime::default());
    let mut add = |name: &str, array: Vec<u8>| {
        zip.start_file(format!("{name}.npy"), options).map_err(|error| failed(&error))?;
        zip.write_all(&array).map_err(|error| failed(&error))
    };
    for (name, tensor) in tensors {
        match tensor {
            WeightTensor::Float { shape, values } => add(name, floats(shape, values))?,
            WeightTensor::Int8(tensor) => {
                let bytes = tensor.values.iter().flat_map(|value| value.to_le_bytes());
                add(name, npy("|i1", &tensor.shape, bytes))?;
                add(&format!("{name}_scale"), floats(&[tensor.scales.len()], &tensor.scales))?;
            }
        }
    }
    let text = metadata.chars().flat_map(|c| u32::from(c).to_le_bytes());
    add("kiln", npy(&format!("<U{}", metadata.chars().count()), &[], text))?;
    Ok(zip.finish().map_err(|error| failed(&error))?.into_inner())
}

fn floats(shape: &[usize], values: &[f32]) -> Vec<u8> {
    npy("<f4", shape, values.iter().flat_map(|value| value.to_le_bytes()))
}

/// One array in `NumPy`'s format, version 1.0: magic, version, length of the header, header, data.
fn npy(kind: &str, shape: &[usize], data: impl Iterator<Item = u8>) -> Vec<u8> {
    let sizes = shape.iter().map(|size| format!("{size},")).collect::<Vec<_>>().concat();
    let mut header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({sizes}), }}");
    // Data begins at a multiple of 64.
    let start = (10 + header.len() + 1).next_multiple_of(64);
    header.push_str(&" ".repeat(start - 10 - header.len() - 1));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_what_numpy_writes() {
        // numpy.save(file, numpy.array([[1.5, -2]], "<f4"))
        let bytes = floats(&[1, 2], &[1.5, -2.0]);
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,2,), }";
        assert_eq!(&bytes[..10], b"\x93NUMPY\x01\x00\x76\x00");
        assert_eq!(std::str::from_utf8(&bytes[10..128]).unwrap().trim_end(), header);
        assert_eq!(bytes[127], b'\n');
        assert_eq!(bytes[128..], [0, 0, 0xc0, 0x3f, 0, 0, 0, 0xc0]);
    }

    #[test]
    fn the_same_model_gives_the_same_bytes() {
        let tensors = [("a".to_owned(), WeightTensor::Float { shape: vec![2], values: vec![1.0, 2.0] })];
        assert_eq!(npz(&tensors, "{}").unwrap(), npz(&tensors, "{}").unwrap());
    }
}

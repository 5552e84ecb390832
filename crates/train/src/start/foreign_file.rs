//! What a file is that is none of weights that Kiln reads: its kind by its first and last bytes, and what to do.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// A file of another kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OtherFile {
    /// What it is: `an ONNX model`.
    pub(crate) what: &'static str,
    /// What to do with it.
    pub(crate) advice: &'static str,
}

const fn other(what: &'static str, advice: &'static str) -> OtherFile {
    OtherFile { what, advice }
}

/// For what another framework wrote.
const CONVERT: &str = "convert it to PyTorch or safetensors first, or train anew";
/// For what was saved in the place of a file.
const DOWNLOAD: &str = "the download went wrong: fetch the file itself";
/// For what is packed.
const UNPACK: &str = "unpack it, and name the file of weights in it";
/// For what holds no weights.
const WEIGHTS: &str = "name a file of weights: PyTorch (.pt, .pth), safetensors or burnpack";

const KERAS_H5: OtherFile = other("an HDF5 file, as Keras (.h5) and MATLAB write them", CONVERT);
const ONNX: OtherFile = other(
    "an ONNX model",
    "an ONNX graph cannot be started from: name the PyTorch file that it was exported from",
);
const SAVED_MODEL: OtherFile = other("a SavedModel of TensorFlow", CONVERT);
const PICKLE: &str = "its classes would have to be executed: save tensors in PyTorch (torch.save of a state_dict) or as safetensors";

/// Beginnings that say what a file is.
const BEGINNINGS: &[(&[u8], OtherFile)] = &[
    (b"\x89HDF\r\n\x1a\n", KERAS_H5),
    (b"GGUF", other("a GGUF file of llama.cpp", CONVERT)),
    (b"lmgg", other("a GGML file of llama.cpp", CONVERT)),
    (b"tjgg", other("a GGML file of llama.cpp", CONVERT)),
    (b"\x93NUMPY", other("a NumPy array (.npy)", "save all arrays with their names as safetensors")),
    (
        b"version https://git-lfs",
        other("a pointer of Git LFS in place of the file", "fetch the file itself: git lfs pull"),
    ),
    (b"%PDF", other("a PDF document", WEIGHTS)),
    (b"\x89PNG", other("a PNG picture", WEIGHTS)),
    (b"\xff\xd8\xff", other("a JPEG picture", WEIGHTS)),
    (b"\x1f\x8b", other("a gzip archive", UNPACK)),
    (b"BZh", other("a bzip2 archive", UNPACK)),
    (b"\xfd7zXZ\0", other("an xz archive", UNPACK)),
    (b"\x28\xb5\x2f\xfd", other("a Zstandard archive", UNPACK)),
    (b"7z\xbc\xaf\x27\x1c", other("a 7z archive", UNPACK)),
    (b"Rar!", other("a RAR archive", UNPACK)),
    (b"\x12\x01\x00\x00\x00\x00\x00\x00", other("a parameter file of MXNet", CONVERT)),
    // Field 1 of a SavedModel is its version, 1; that of an ONNX model, 3 and more today, is handled below.
    (b"\x08\x01\x12", other("a SavedModel of TensorFlow (saved_model.pb)", CONVERT)),
];

/// Names in the directory of a zip archive that say what it is.
const ENTRIES: &[(&[u8], OtherFile)] = &[
    (b"model.weights.h5", other("a Keras model (.keras)", CONVERT)),
    (b".npy", other("NumPy arrays (.npz)", "save them with their names as safetensors")),
    (b"word/", other("a document of an office program", WEIGHTS)),
    (b"xl/", other("a spreadsheet", WEIGHTS)),
    (b"META-INF/", other("a Java archive", WEIGHTS)),
    (b"AndroidManifest.xml", other("an Android package", WEIGHTS)),
];

/// Words in a pickle that say who wrote it.
const PICKLED: &[(&[u8], OtherFile)] = &[
    (b"sklearn", other("a model of scikit-learn, pickled", PICKLE)),
    (b"joblib", other("a pickle of joblib", PICKLE)),
    (b"xgboost", other("a model of XGBoost, pickled", PICKLE)),
    (b"lightgbm", other("a model of LightGBM, pickled", PICKLE)),
    (
        b"fastai",
        other(
            "a learner of fastai, pickled",
            "save its weights alone: learn.save, or learn.model.state_dict()",
        ),
    ),
    (b"ultralytics", other("a model of ultralytics, pickled", PICKLE)),
    (b"numpy", other("a pickle of NumPy arrays, as joblib, PaddlePaddle and others write them", PICKLE)),
    (b"pandas", other("a table of pandas, pickled", WEIGHTS)),
];

/// A folder; none where there is none at `path`.
pub(crate) fn folder(path: &Path) -> Option<OtherFile> {
    if !path.is_dir() {
        return None;
    }
    let has = |name: &str| path.join(name).exists();
    Some(if has("saved_model.pb") {
        SAVED_MODEL
    } else if has(crate::run::folder::MODEL_FILE) {
        other("a run of Kiln", "fine-tune from it with kiln finetune --from, or name its model.kiln")
    } else if has("model.safetensors") || has("pytorch_model.bin") {
        other(
            "a folder with a model of Hugging RecordSink",
            "name the model.safetensors or pytorch_model.bin in it",
        )
    } else if has("Manifest.json") {
        other("a Core ML package", CONVERT)
    } else {
        other("a folder", WEIGHTS)
    })
}

/// The kind of a file whose reading as weights failed; none where it says nothing of itself.
pub(crate) fn recognise(path: &Path) -> Option<OtherFile> {
    let mut file = File::open(path).ok()?;
    let mut first = Vec::new();
    (&mut file).take(1 << 16).read_to_end(&mut first).ok()?;
    let len = file.seek(SeekFrom::End(0)).ok()?;
    file.seek(SeekFrom::Start(len.saturating_sub(1 << 16))).ok()?;
    let mut last = Vec::new();
    file.take(1 << 16).read_to_end(&mut last).ok()?;
    by_content(&first, &last).or_else(|| by_name(path))
}

fn by_content(first: &[u8], last: &[u8]) -> Option<OtherFile> {
    if first.is_empty() {
        return Some(other("empty", DOWNLOAD));
    }
    if let Some((_, found)) = BEGINNINGS.iter().find(|(beginning, _)| first.starts_with(beginning)) {
        return Some(*found);
    }
    if first.get(4..8) == Some(b"TFL3") {
        return Some(other("a TensorFlow Lite model", CONVERT));
    }
    let holds = |bytes: &[u8], word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
    if first.starts_with(b"PK") {
        // The directory stands at the end.
        if let Some((_, found)) = ENTRIES.iter().find(|(entry, _)| holds(last, entry)) {
            return Some(*found);
        }
        return (!holds(last, b"data.pkl")).then_some(other("a zip archive that is no PyTorch file", UNPACK));
    }
    if first.get(257..262) == Some(b"ustar") {
        return Some(other("a tar archive that is no PyTorch file", UNPACK));
    }
    if first[0] == 0x80 || first.starts_with(b"(") || first.starts_with(b"c") || first.starts_with(b"}") {
        if let Some((_, found)) = PICKLED.iter().find(|(word, _)| holds(first, word)) {
            return Some(*found);
        }
        if first[0] == 0x80 {
            return Some(other("a pickle without tensors of PyTorch", PICKLE));
        }
    }
    // ModelProto: field 1, the version as one byte, and a second field that it has.
    if first[0] == 0x08
        && matches!(first.get(1), Some(2..=20))
        && matches!(first.get(2), Some(0x12 | 0x1a | 0x3a | 0x42))
    {
        return Some(ONNX);
    }
    text(first)
}

/// A file of text.
fn text(first: &[u8]) -> Option<OtherFile> {
    let beginning = &first[..first.len().min(512)];
    let printable = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~' | 0x80..);
    if !beginning.iter().all(printable) {
        return None;
    }
    let text =
        String::from_utf8_lossy(beginning).trim_start_matches('\u{feff}').trim_start().to_ascii_lowercase();
    Some(if text.starts_with("<!doctype html") || text.starts_with("<html") || text.contains("<head") {
        other("a page of HTML", DOWNLOAD)
    } else if text.starts_with("<?xml") || text.starts_with('<') {
        other("an XML document", DOWNLOAD)
    } else if text.starts_with('{') || text.starts_with('[') {
        other("a JSON document", WEIGHTS)
    } else {
        other("a text", WEIGHTS)
    })
}

/// By the extension, for formats without a mark.
fn by_name(path: &Path) -> Option<OtherFile> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    Some(match extension.as_str() {
        "h5" | "hdf5" | "keras" => other("no sound Keras file either", DOWNLOAD),
        "onnx" => ONNX,
        "tflite" => other("a TensorFlow Lite model", CONVERT),
        "pb" => other("a graph of TensorFlow", CONVERT),
        "index" | "meta" => other("a part of a TensorFlow checkpoint", CONVERT),
        "caffemodel" => other("a model of Caffe", CONVERT),
        "mlmodel" => other("a Core ML model", CONVERT),
        "msgpack" => other("weights of Flax", CONVERT),
        "params" => other("a parameter file of MXNet", CONVERT),
        "weights" => other("weights of Darknet", CONVERT),
        _ if path.to_str().is_some_and(|path| path.contains(".data-0")) => {
            other("a part of a TensorFlow checkpoint", CONVERT)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_others_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let zip = |entry: &[u8]| [b"PK\x03\x04 content ".as_slice(), entry, b" PK\x01\x02 ", entry].concat();
        let html = b"\n<!DOCTYPE html>\n<html><head><title>404</title>".to_vec();
        let tar = |mut bytes: Vec<u8>| {
            bytes.resize(1024, 0);
            bytes[257..262].copy_from_slice(b"ustar");
            bytes
        };
        for (bytes, what) in [
            (b"\x89HDF\r\n\x1a\n and more".to_vec(), "HDF5"),
            (b"\x08\x07\x12\x07pytorch\x1a\x052.1.0".to_vec(), "ONNX"),
            (b"\x08\x0a:\x10".to_vec(), "ONNX"),
            (b"\x1c\0\0\0TFL3 and more".to_vec(), "TensorFlow Lite"),
            (b"GGUF\x03\0\0\0".to_vec(), "GGUF"),
            (html, "HTML"),
            (b"<html lang=en>".to_vec(), "HTML"),
            (b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code>".to_vec(), "XML"),
            (b"{\"error\": \"not found\"}".to_vec(), "JSON"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n".to_vec(), "Git LFS"),
            (b"\x08\x01\x12\x85\x01".to_vec(), "SavedModel"),
            (zip(b"config.json model.weights.h5"), "Keras"),
            (zip(b"arr_0.npy"), "NumPy"),
            (zip(b"readme.txt"), "zip archive that is no PyTorch"),
            (b"\x93NUMPY\x01\0".to_vec(), "NumPy"),
            (b"\x80\x04\x95\0\0\0\0\x8c\x1esklearn.linear_model._logistic".to_vec(), "scikit-learn"),
            (b"\x80\x03cjoblib.numpy_pickle\n".to_vec(), "joblib"),
            (b"\x80\x04\x95\x8c\x16numpy._core.multiarray".to_vec(), "NumPy"),
            (b"\x80\x04N.".to_vec(), "pickle without tensors"),
            (b"\x1f\x8b\x08\0".to_vec(), "gzip"),
            (tar(b"resnet.pth".to_vec()), "tar"),
            (b"not weights".to_vec(), "a text"),
            (Vec::new(), "empty"),
        ] {
            let path = folder.path().join("file.pth");
            std::fs::write(&path, &bytes).unwrap();
            let found = recognise(&path).unwrap_or_else(|| panic!("{what}: nothing"));
            assert!(found.what.contains(what), "{what}: {found:?}");
            assert!(!found.advice.is_empty());
        }
        // What may be PyTorch's is left to its reader, and noise to its name.
        for bytes in [zip(b"archive/data.pkl"), vec![1, 2, 3, 0, 255]] {
            let path = folder.path().join("file.pth");
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(recognise(&path), None, "{bytes:?}");
        }
        let path = folder.path().join("file.onnx");
        std::fs::write(&path, [1, 2, 3, 0, 255]).unwrap();
        assert_eq!(recognise(&path), Some(ONNX));
    }

    #[test]
    fn folders_are_named() {
        let root = tempfile::tempdir().unwrap();
        for (file, what) in [
            ("saved_model.pb", "SavedModel"),
            ("model.safetensors", "Hugging RecordSink"),
            ("model.kiln", "run of Kiln"),
            ("readme", "a folder"),
        ] {
            let path = root.path().join(what.replace(' ', "-"));
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join(file), "").unwrap();
            assert!(folder(&path).unwrap().what.contains(what), "{file}");
            assert_eq!(folder(&path.join(file)), None);
        }
    }
}

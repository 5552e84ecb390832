//! What the documentation promises of the project itself: invariants that a search can check, configurations that
//! resolve, commands in the README that exist, and the arrows between files.

#[path = "support/arrows.rs"]
mod arrows;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use train::config::ConfigLayers;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace")
}

/// Rust sources of a crate, with their text up to the tests.
fn sources(name: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("crates").join(name).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source");
                let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned();
                found.push((path, code));
            }
        }
    }
    found
}

fn assert_absent(crates: &[&str], words: &[&str], except: &[&str]) {
    for name in crates {
        for (path, code) in sources(name) {
            let file = path.file_name().expect("a name").to_string_lossy().into_owned();
            if except.contains(&file.as_str()) {
                continue;
            }
            for word in words {
                let line =
                    code.lines().find(|line| !line.trim_start().starts_with("//") && line.contains(word));
                assert!(
                    line.is_none(),
                    "{}: `{word}` in `{}`",
                    path.display(),
                    line.unwrap_or_default().trim()
                );
            }
        }
    }
}

const SAFE: &[&str] = &["model", "data", "evaluation", "train", "tune", "finetune", "kiln", "web"];

#[test]
fn model_does_no_input_or_output() {
    assert_absent(&["model", "kernels"], &["std::fs", "std::net", "println!", "std::process"], &[]);
}

#[test]
fn mean_and_deviation_live_in_one_module() {
    assert_absent(SAFE, &["0.1307", "0.3081", "0.2860", "0.3530"], &["preprocessing.rs"]);
}

#[test]
fn backends_are_named_in_one_module() {
    assert_absent(
        &["evaluation", "train", "tune", "finetune", "kiln"],
        &["Device::ndarray", "Device::wgpu", "Device::cuda"],
        &["device.rs"],
    );
    assert_absent(SAFE, &["Device::default()"], &[]);
}

#[test]
fn unsafe_code_lives_in_kernels() {
    assert_absent(SAFE, &["unsafe {", "unsafe fn", "unsafe impl"], &[]);
}

#[test]
fn there_is_one_training_loop() {
    // An explanation takes the gradient of an answer; nothing is trained by it.
    assert_absent(&["model"], &[".backward()", "optimizer_step("], &["explain.rs"]);
    assert_absent(
        &["data", "evaluation", "tune", "finetune", "kiln"],
        &[".backward()", "optimizer_step("],
        &[],
    );
    assert_absent(&["train"], &[".backward()"], &["step.rs"]);
}

#[test]
fn the_run_folder_is_written_by_its_module() {
    let words = ["fs::write", "File::create", "OpenOptions"];
    assert_absent(&["train"], &words, &["folder.rs", "checkpoint.rs", "files.rs", "lock.rs", "recovery.rs"]);
    assert_absent(&["evaluation", "tune", "finetune", "kiln", "model", "kernels"], &words, &[]);
}

#[test]
fn every_shipped_configuration_resolves_and_states_its_figures() {
    let mut count = 0;
    for entry in fs::read_dir(root().join("configs")).expect("configs").flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        count += 1;
        let config = ConfigLayers::from_file(&path).and_then(ConfigLayers::resolve).expect("it resolves");
        let input = model::Preprocessing::mnist().input;
        config.network.summary(input, 10).expect("it fits MNIST");
        let text = fs::read_to_string(&path).expect("text");
        for word in ["# Command:", "# Hardware:", "# Time:", "# Test accuracy:"] {
            assert!(text.contains(word), "{}: no `{word}` in the header", path.display());
        }
    }
    assert!(count >= 3, "{count} configurations");
}

/// Every `cargo run` and `kiln` line of the README is one the programs understand.
#[test]
fn every_command_in_the_readme_parses() {
    let text = fs::read_to_string(root().join("README.md")).expect("README");
    let mut seen = 0;
    let mut in_block = false;
    for line in text.lines() {
        if line.starts_with("```") {
            in_block = !in_block;
            continue;
        }
        let line = line.split(" #").next().unwrap_or_default().trim();
        if !in_block || line.is_empty() {
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let parsed = match words.as_slice() {
            ["cargo", "run", "-p", "train", rest @ ..] => {
                train::command::TrainProgram::try_parse_from(arguments("train", rest)).map(drop)
            }
            ["cargo", "run", "-p", "finetune", rest @ ..] => {
                finetune::FinetuneProgram::try_parse_from(arguments("finetune", rest)).map(drop)
            }
            ["kiln", ..] => {
                let output = std::process::Command::new(env!("CARGO_BIN_EXE_kiln"))
                    .args(&words[1..])
                    .arg("--help")
                    .output()
                    .expect("kiln starts");
                assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
                Ok(())
            }
            _ => continue,
        };
        seen += 1;
        if let Err(error) = parsed {
            panic!("{line}\n{error}");
        }
    }
    assert!(seen >= 8, "only {seen} commands found");
}

fn arguments<'a>(program: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    let rest = rest.iter().copied().skip_while(|word| *word == "--");
    std::iter::once(program).chain(rest).collect()
}

#[test]
fn the_default_configuration_is_what_its_file_says() {
    let path = root().join("configs/default.toml");
    let from_file = ConfigLayers::from_file(&path).and_then(ConfigLayers::resolve).expect("it resolves");
    assert_eq!(from_file, ConfigLayers::default().resolve().expect("the defaults"));
}

/// The rooms of each crate (the modules at its root) from the ground up: a file uses its own room and those before it.
/// Cargo keeps the arrows between crates in order.
const ROOMS: &[(&str, &[&str])] = &[
    (
        "data",
        &[
            "text", "findings", "error", "files", "rng", "dataset", "formats", "options", "division",
            "sources", "pictures", "load", "augment", "batches",
        ],
    ),
    (
        "evaluation",
        &["metrics", "metrics_log", "predictions", "baseline", "confidence", "paired_test", "report"],
    ),
    (
        "train",
        &[
            "terminal", "seed", "device", "config", "run", "task", "start", "engine", "progress", "fit",
            "series", "command",
        ],
    ),
    ("tune", &["sweep", "lr_find", "federated"]),
    ("finetune", &["source", "comparison"]),
    ("web", &["session", "bindings"]),
];

/// Crates whose files still stand in a circle. None may be added.
const NOT_TIDIED: &[&str] = &["kernels", "model", "kiln"];

fn read(name: &str) -> arrows::Crate {
    arrows::Crate::read(&root().join("crates").join(name).join("src"))
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    for entry in fs::read_dir(root().join("crates")).expect("crates").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_tidied = !NOT_TIDIED.contains(&name.as_str());
        assert!(
            !is_tidied || ROOMS.iter().any(|(listed, _)| *listed == name),
            "crates/{name} has no rooms: list them in ROOMS"
        );
        let source = read(&name);
        let circles = arrows::circles(&source.arrows());
        assert!(
            is_tidied || !circles.is_empty(),
            "crates/{name} has no circle any more: take it out of NOT_TIDIED, and list its rooms in ROOMS"
        );
        assert!(!is_tidied || circles.is_empty(), "crates/{name}: these files use each other: {circles:#?}");
    }
}

#[test]
fn no_arrow_goes_up_between_rooms() {
    for (name, rooms) in ROOMS {
        let source = read(name);
        let room_of = |file: &str| {
            let room = file.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned();
            // The roots stand above all.
            let is_root = file == "lib.rs" || file == "main.rs";
            let floor = if is_root { Some(rooms.len()) } else { rooms.iter().position(|name| *name == room) };
            floor.unwrap_or_else(|| panic!("crates/{name}/src/{file}: `{room}` is no room in ROOMS"))
        };
        for (file, used) in source.arrows() {
            for other in used {
                assert!(
                    room_of(other) <= room_of(file),
                    "crates/{name}/src: {file} uses {other}, which stands above it"
                );
            }
        }
        for room in *rooms {
            assert!(source.rooms().contains(room), "crates/{name} has no `{room}`: take it out of ROOMS");
        }
    }
}

#[test]
fn a_long_file_says_why_at_its_top() {
    for (name, _) in ROOMS {
        let mut folders = vec![root().join("crates").join(name).join("src")];
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path()) {
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = fs::read_to_string(&path).expect("a source");
                let mut top = text.lines().take_while(|line| line.starts_with("//!"));
                let says_why = top.any(|line| line.contains("Longer than other files"));
                let lines = text.lines().count();
                assert!(lines <= 500 || says_why, "{}: {lines} lines, and no reason", path.display());
            }
        }
    }
}

/// What the reading of arrows sees, on a crate in a folder of its own.
#[test]
fn arrows_are_followed_through_imports_paths_and_reexports() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = [
        ("lib.rs", "mod a;\nmod b;\nmod deep;\npub use deep::Item;\n#[cfg(test)]\nmod only_tests;"),
        ("a.rs", "use crate::Item;\nuse std::fmt as b;\n// crate::b::two\nfn one() { \"crate::b::two\"; }"),
        (
            "b.rs",
            "pub fn two() { self::inner::x(crate::a::one()) }\nmod inner { use super::super::deep as d; \
                  fn x() { d::leaf::Leaf } }",
        ),
        ("deep/mod.rs", "mod leaf;\nmod other;\npub use leaf::*;\n#[cfg(test)]\nmod tests { use crate::b; }"),
        ("deep/leaf.rs", "pub struct Item;\npub struct Leaf<'a>(&'a char);\nconst C: char = '\"';"),
        ("deep/other.rs", "fn f() { let r = r#\"crate::a\"#; super::Leaf }"),
        ("only_tests.rs", "use crate::b;"),
    ];
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    let source = arrows::Crate::read(folder.path());
    let arrows = source.arrows();
    let of = |file: &str| arrows[file].iter().copied().collect::<Vec<_>>();
    assert_eq!(of("a.rs"), ["deep/leaf.rs"]);
    assert_eq!(of("b.rs"), ["a.rs", "deep/leaf.rs", "deep/mod.rs"]);
    assert_eq!(of("deep/other.rs"), ["deep/leaf.rs"]);
    assert!(of("lib.rs").is_empty() && of("deep/mod.rs").is_empty() && of("deep/leaf.rs").is_empty());
    assert!(!arrows.contains_key("only_tests.rs"));
    assert!(arrows::circles(&arrows).is_empty());
    fs::write(folder.path().join("deep/leaf.rs"), "pub struct Item;\npub struct Leaf(crate::b::X);")
        .expect("a file");
    let source = arrows::Crate::read(folder.path());
    let circles = arrows::circles(&source.arrows());
    assert_eq!(circles.len(), 1);
    assert_eq!(circles[0].iter().copied().collect::<Vec<_>>(), ["a.rs", "b.rs", "deep/leaf.rs"]);
}

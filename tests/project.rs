//! What the documentation promises of the project itself: invariants that a search can check, configurations that
//! resolve, commands in the README that exist, and the arrows between files.

#[path = "support/arrows.rs"]
mod arrows;
#[path = "support/code.rs"]
mod code;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use code::Code;
use train::config::ConfigLayers;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace")
}

const SAFE: &[&str] = &["model", "data", "evaluation", "train", "tune", "finetune", "kiln", "web"];

/// The files of the crates for which `applies` holds, as `CRATE/PATH` below `src`. Tests do not count.
fn files_where(crates: &[&str], applies: impl Fn(&Code) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for name in crates {
        let source = read(name);
        let files = source.tokens().filter(|(_, tokens)| applies(&Code::read(tokens)));
        found.extend(files.map(|(path, _)| format!("{name}/{path}")));
    }
    found.sort();
    found
}

#[test]
fn model_does_no_input_or_output() {
    let files = |crates: &[&str], words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        files_where(crates, |code| words.iter().any(|word| code.names(word)))
    };
    let outside = [
        "std::fs",
        "std::net",
        "std::process",
        "std::io::stdin",
        "std::io::stdout",
        "std::io::stderr",
        "print!",
        "println!",
        "eprint!",
        "eprintln!",
        "dbg!",
    ];
    assert_eq!(files(&["model", "kernels"], &outside), [""; 0]);
    // Which kernels run is asked of the environment, once.
    assert_eq!(files(&["model", "kernels"], &["std::env"]), ["kernels/path.rs"]);
}

/// Whatever fractions of three digits and more stand there stand nowhere else.
#[test]
fn mean_and_deviation_live_in_one_module() {
    let model = read("model");
    let (_, tokens) = model.tokens().find(|(path, _)| *path == "preprocessing.rs").expect("the module");
    let code = Code::read(tokens);
    let figures: Vec<&str> =
        code.fractions().filter(|figure| figure.split('.').nth(1).is_some_and(|d| d.len() > 2)).collect();
    assert!(figures.contains(&"0.1307") && figures.len() >= 4, "{figures:?}");
    let found = files_where(SAFE, |code| figures.iter().any(|figure| code.has(figure)));
    assert_eq!(found, ["model/preprocessing.rs"]);
}

#[test]
fn backends_are_named_in_one_module() {
    // What asks a device for something is no name of a backend.
    let makes = |member: &&str| member.starts_with(char::is_lowercase) && *member != "is_autodiff";
    let naming = files_where(SAFE, |code| code.members("Device").iter().any(makes));
    // A model file's probe and the page compute on the processor alone.
    assert_eq!(naming, ["model/model_file.rs", "train/device.rs", "web/session.rs"]);
    let all = [SAFE, &["kernels"]].concat();
    let default = |code: &Code| code.members("Device").contains("default");
    assert_eq!(files_where(&all, default), [""; 0]);
    // Nor by the crate behind one.
    let crates = ["burn_flex", "burn_ndarray", "burn_wgpu", "burn_cuda", "burn_cubecl", "burn_autodiff"];
    let naming = files_where(&all, |code| crates.iter().any(|name| code.names(name)));
    assert_eq!(naming, ["kernels/extension/flex.rs", "kernels/extension/ndarray.rs"]);
}

#[test]
fn unsafe_code_lives_in_kernels() {
    assert_eq!(files_where(SAFE, |code| code.has("unsafe")), [""; 0]);
}

#[test]
fn there_is_one_training_loop() {
    // One step is the business of one module; an explanation takes the gradient of an answer, and nothing is trained by it.
    let gradients = files_where(SAFE, |code| code.calls("backward"));
    assert_eq!(gradients, ["model/explain.rs", "train/engine/step.rs"]);
    let optimisers = files_where(SAFE, |code| code.has("ModuleOptimizer") || code.has("SimpleOptimizer"));
    assert_eq!(optimisers, ["train/engine/optimizer.rs", "train/engine/step.rs"]);
    // Whoever takes steps one after the other: the loop, and the two of which no run comes.
    let steps = |code: &Code| {
        ["train_step", "optimizer_step", "optimize", "lr_step"].iter().any(|name| code.calls(name))
    };
    assert_eq!(
        files_where(SAFE, steps),
        ["train/engine/epoch_loop.rs", "tune/federated.rs", "tune/lr_find.rs"]
    );
    // The loop is plugged into burn-train in one place, and no other strategy of burn-train's is.
    let strategies = files_where(SAFE, |code| code.has("SupervisedLearningStrategy"));
    assert_eq!(strategies, ["train/engine/epoch_loop.rs"]);
    let launches = files_where(SAFE, |code| code.has("SupervisedTraining") || code.has("TrainingStrategy"));
    assert_eq!(launches, ["train/fit/experiment.rs"]);
}

/// What changes files; reading is free.
#[test]
fn the_run_folder_is_written_by_its_module() {
    let changes = |code: &Code| {
        let of_fs = [
            "write",
            "create_dir",
            "create_dir_all",
            "remove_file",
            "remove_dir",
            "remove_dir_all",
            "rename",
            "copy",
            "hard_link",
            "set_permissions",
        ];
        let changes_folder = of_fs.iter().any(|name| code.names(&["std::fs::", name].concat()));
        let of_file = ["create", "create_new", "options"];
        changes_folder
            || code.has("OpenOptions")
            || of_file.iter().any(|name| code.names(&["File::", name].concat()))
    };
    let run = ["train/run/checkpoint.rs", "train/run/files.rs", "train/run/folder.rs", "train/run/lock.rs"];
    assert_eq!(files_where(&["train"], changes), run);
    let others = ["evaluation", "tune", "finetune", "kiln", "model", "kernels", "web"];
    assert_eq!(files_where(&others, changes), [""; 0]);
}

/// What the searches above see, and what they must not mistake.
#[test]
fn code_is_read_with_its_imports() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "use std::fs::{self as files, File};\nuse burn::tensor::Device as D;\n// std::net\n\
                fn f() { files::write(\"std::process\", 0.130_7f32); D\n::flex(); x.backward::<T>(); y != z; println!(); }\n\
                #[cfg(test)]\nmod tests { fn g() { std::env::var(); } }";
    fs::write(folder.path().join("lib.rs"), text).expect("a file");
    let source = arrows::Crate::read(folder.path());
    let code = Code::read(source.tokens().next().expect("a file").1);
    assert!(
        code.names("std::fs::write") && code.names("std::fs") && code.names("File") && code.names("println!")
    );
    assert!(code.members("Device").contains("flex") && code.calls("backward") && code.has("0.1307"));
    assert!(
        !code.names("std::net")
            && !code.names("std::process")
            && !code.names("std::env")
            && !code.names("y!")
    );
    assert_eq!(code.fractions().collect::<Vec<_>>(), ["0.1307"]);
}

/// Whoever returns before its end passes without having tested: what a test lacks it must miss.
#[test]
fn no_test_returns_before_its_end() {
    let mut folders = vec![root().join("tests"), root().join("crates")];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source");
                for (name, body) in tests_in(&text) {
                    seen += 1;
                    assert!(!gives_up(&body), "{}: {name} returns before its end", path.display());
                    assert!(!text.contains("#[ignore"), "{}: a test is ignored", path.display());
                }
            }
        }
    }
    assert!(seen > 400, "only {seen} tests found");
    let gives_up_in = |text: &str| tests_in(text).into_iter().any(|(_, body)| gives_up(&body));
    assert!(gives_up_in("#[test]\nfn a() {\n    let Some(x) = y else { return };\n}\n"));
    assert!(gives_up_in(
        "    #[test]\n    fn a() {\n        if x {\n            return;\n        }\n    }\n"
    ));
    assert!(!gives_up_in("#[test]\nfn a() {\n    check(|x| { return Ok(()); });\n}\nfn b() { return; }\n"));
}

/// The tests of a file: their names and their lines, up to the brace that stands below `fn`.
fn tests_in(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[test]" {
            continue;
        }
        let Some(head) = lines.by_ref().find(|line| line.trim_start().starts_with("fn ")) else { break };
        let indent = head.len() - head.trim_start().len();
        let end = format!("{}}}", " ".repeat(indent));
        let body: Vec<&str> = lines.by_ref().take_while(|line| *line != end).collect();
        found.push((head.trim().to_owned(), body.join("\n")));
    }
    found
}

/// Whether a test's lines hold a `return` without a value: closures of properties return one.
fn gives_up(body: &str) -> bool {
    let code = body.lines().map(|line| line.split("//").next().unwrap_or_default());
    code.into_iter()
        .any(|line| line.contains("return;") || line.contains("return }") || line.trim() == "return")
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

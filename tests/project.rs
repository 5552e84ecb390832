//! What the documentation promises of the project itself: invariants that a search can check, configurations that
//! resolve, commands in the README that exist, and the arrows between files.

#[path = "support/arrows.rs"]
mod arrows;
#[path = "support/code.rs"]
mod code;
#[path = "support/picture.rs"]
mod picture;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clap::Parser;
use code::Code;
use train::config::ConfigLayers;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace")
}

const SAFE: &[&str] = &["model", "data", "evaluation", "train", "tune", "finetune", "kiln", "web"];

/// The files of all crates without their tests, as `CRATE/PATH` below `src`. Read once.
fn code() -> &'static [(String, Code)] {
    static CODE: OnceLock<Vec<(String, Code)>> = OnceLock::new();
    CODE.get_or_init(|| {
        let crates = SAFE.iter().chain(&["kernels"]).map(|name| (name, read(name)));
        let files = crates.flat_map(|(name, source)| {
            let files = source.tokens().map(|(path, tokens)| (format!("{name}/{path}"), Code::read(tokens)));
            files.collect::<Vec<_>>()
        });
        files.collect()
    })
}

/// The files of the crates for which `applies` holds.
fn files_where(crates: &[&str], applies: impl Fn(&Code) -> bool) -> Vec<&'static str> {
    let is_in = |path: &str| path.split_once('/').is_some_and(|(name, _)| crates.contains(&name));
    let found = code().iter().filter(|(path, code)| is_in(path) && applies(code));
    let mut found: Vec<&str> = found.map(|(path, _)| path.as_str()).collect();
    found.sort_unstable();
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
    let (_, tokens) = model.tokens().find(|(path, _)| *path == "input/preprocessing.rs").expect("the module");
    let code = Code::read(tokens);
    let figures: Vec<&str> =
        code.fractions().filter(|figure| figure.split('.').nth(1).is_some_and(|d| d.len() > 2)).collect();
    assert!(figures.contains(&"0.1307") && figures.len() >= 4, "{figures:?}");
    let found = files_where(SAFE, |code| figures.iter().any(|figure| code.has(figure)));
    assert_eq!(found, ["model/input/preprocessing.rs"]);
}

#[test]
fn backends_are_named_in_one_module() {
    // What asks a device for something is no name of a backend.
    let makes = |member: &&str| member.starts_with(char::is_lowercase) && *member != "is_autodiff";
    let naming = files_where(SAFE, |code| code.members("Device").iter().any(makes));
    // A model file's probe, a network without any parameter, and the page compute on the processor alone.
    let on_the_processor =
        ["model/file/model_file.rs", "model/graph/module.rs", "train/device.rs", "web/session.rs"];
    assert_eq!(naming, on_the_processor);
    let all = [SAFE, &["kernels"]].concat();
    let default = |code: &Code| code.members("Device").contains("default");
    assert_eq!(files_where(&all, default), [""; 0]);
    // Nor by the crate behind one.
    let crates = ["burn_flex", "burn_ndarray", "burn_wgpu", "burn_cuda", "burn_cubecl", "burn_autodiff"];
    let naming = files_where(&all, |code| crates.iter().any(|name| code.names(name)));
    assert_eq!(naming, ["model/ops/flex.rs", "model/ops/ndarray.rs"]);
}

#[test]
fn unsafe_code_lives_in_kernels() {
    assert_eq!(files_where(SAFE, |code| code.has("unsafe")), [""; 0]);
}

#[test]
fn there_is_one_training_loop() {
    // One step is the business of one module; an explanation takes the gradient of an answer, and nothing is trained by it. The
    // operators have backward passes of their own.
    let gradients = files_where(SAFE, |code| code.calls("backward"));
    assert_eq!(gradients, ["model/answer/explain.rs", "model/ops/host.rs", "train/engine/step.rs"]);
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
                    let is_ignored = text.lines().any(|line| line.trim().starts_with("#[ignore"));
                    assert!(!is_ignored, "{}: a test is ignored", path.display());
                }
            }
        }
    }
    assert!(seen > 400, "only {seen} tests found");
    let gives_up_in = |text: &str| tests_in(text).into_iter().any(|(_, body)| gives_up(&body));
    for text in GIVE_UP {
        assert!(gives_up_in(text), "{text}");
    }
    assert!(!gives_up_in(GOES_ON), "{GOES_ON}");
}

/// Tests that return before their end.
const GIVE_UP: [&str; 2] = [
    "#[test]\nfn a() {\n    let Some(x) = y else { return };\n}\n",
    "    #[test]\n    fn a() {\n        if x {\n            return;\n        }\n    }\n",
];

/// One that does not: a closure and another function do.
const GOES_ON: &str = "#[test]\nfn a() {\n    check(|x| { return Ok(()); });\n}\nfn b() { return; }\n";

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
fn every_shipped_configuration_resolves() {
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
    }
    assert!(count >= 3, "{count} configurations");
}

/// What `configs/results.json` stores of one recipe, as `scripts/recipe.sh` writes it; accuracies in %.
#[derive(serde::Deserialize)]
struct Measured {
    command: String,
    hardware: String,
    versions: std::collections::BTreeMap<String, String>,
    date: String,
    #[serde(flatten)]
    figures: Figures,
    epochs: usize,
    /// The median first.
    seconds: Vec<f64>,
    images_per_second: Vec<f64>,
    #[serde(default)]
    variants: Vec<Variant>,
}

/// Another form of a recipe, or what it is compared with.
#[derive(serde::Deserialize)]
struct Variant {
    #[serde(flatten)]
    figures: Figures,
}

/// By seed, or where that was not kept their mean and ends.
#[derive(serde::Deserialize)]
struct Figures {
    seeds: Vec<u64>,
    #[serde(default)]
    test_accuracy: Vec<f64>,
    #[serde(default)]
    valid_accuracy: Vec<f64>,
    test_accuracy_mean: Option<f64>,
    test_accuracy_lowest: Option<f64>,
    test_accuracy_highest: Option<f64>,
}

impl Figures {
    fn mean(&self) -> f64 {
        let test = &self.test_accuracy;
        self.test_accuracy_mean.unwrap_or_else(|| test.iter().sum::<f64>() / test.len() as f64)
    }

    /// Every accuracy and deviation that may be stated, with two digits.
    fn stated(&self) -> Vec<String> {
        let (test, mean) = (&self.test_accuracy, self.mean());
        assert!(test.is_empty() || test.len() == self.seeds.len(), "{test:?}");
        let squares: f64 = test.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (squares / (test.len().max(2) - 1) as f64).sqrt();
        let known = test.iter().chain(&self.valid_accuracy).chain(&self.test_accuracy_lowest);
        let known = known.chain(&self.test_accuracy_highest).copied().chain([mean, deviation]);
        known.map(|value| format!("{value:.2}")).collect()
    }
}

impl Measured {
    fn stated(&self) -> Vec<String> {
        self.variants
            .iter()
            .map(|variant| &variant.figures)
            .chain([&self.figures])
            .flat_map(Figures::stated)
            .collect()
    }

    /// Panics where `text` names an accuracy that is not stored.
    fn check_accuracies(&self, place: &str, text: &str) {
        let stated = self.stated();
        for figure in
            numbers(text).filter(|figure| figure.split_once('.').is_some_and(|(_, digits)| digits.len() == 2))
        {
            // Seconds of the fastest recipe have two digits, too.
            let is_time = self.seconds.iter().any(|seconds| format!("{seconds:.2}") == figure);
            assert!(
                is_time || stated.contains(&figure),
                "{place}: {figure} is not in configs/results.json: {stated:?}"
            );
        }
    }
}

/// The numbers in a text, without the commas between thousands.
fn numbers(text: &str) -> impl Iterator<Item = String> {
    let parts = text.split(|c: char| !c.is_ascii_digit() && c != '.' && c != ',');
    let numbers = parts.map(|part| part.trim_matches(['.', ',']).replace(',', ""));
    numbers.filter(|part| part.starts_with(|c: char| c.is_ascii_digit()))
}

fn measured() -> std::collections::BTreeMap<String, Measured> {
    let text = fs::read_to_string(root().join("configs/results.json")).expect("the results");
    serde_json::from_str(&text).expect("their form")
}

#[test]
fn headers_of_recipes_state_what_was_measured() {
    let measured = measured();
    for (name, entry) in &measured {
        let place = format!("configs/{name}.toml");
        let text = fs::read_to_string(root().join(&place)).expect("the recipe of a result");
        let header: Vec<&str> = text.lines().take_while(|line| line.starts_with('#')).collect();
        let said = |word: &str| {
            let start = format!("# {word}: ");
            let line = header.iter().find_map(|line| line.strip_prefix(&start));
            line.unwrap_or_else(|| panic!("{place}: no `{start}`"))
        };
        assert_eq!(said("Command"), entry.command, "{place}");
        assert_eq!(said("Hardware"), entry.hardware, "{place}");
        assert!(entry.versions.contains_key("kiln") && entry.versions.contains_key("burn"), "{place}");
        assert!(entry.date.len() == 10 && entry.date.starts_with("20"), "{place}: {}", entry.date);
        let config = ConfigLayers::from_file(&root().join(&place))
            .and_then(ConfigLayers::resolve)
            .expect("it resolves");
        assert_eq!(config.epochs, entry.epochs, "{place}");

        let accuracy = said("Test accuracy");
        assert!(accuracy.starts_with(&format!("{:.2} %", entry.figures.mean())), "{place}: {accuracy}");
        let seeds = entry.figures.seeds.len();
        let of = if seeds == 1 { "with seed 1".to_owned() } else { format!("over {seeds} seeds") };
        let by_seed: Vec<String> =
            entry.figures.test_accuracy.iter().map(|value| format!("{value:.2}")).collect();
        let lists_all = seeds > 1 && accuracy.contains(&by_seed.join(", ")) && !by_seed.is_empty();
        assert!(accuracy.contains(&of) || lists_all, "{place}: `{of}` is not in {accuracy}");
        entry.check_accuracies(&place, &header.join("\n"));
        let time: Vec<f64> = numbers(said("Time")).map(|number| number.parse().expect("a number")).collect();
        assert_eq!(time.first(), entry.seconds.first(), "{place}: {}", said("Time"));
        if let Some(speed) = entry.images_per_second.first() {
            assert!(time.contains(speed), "{place}: {speed} images/s is not in {}", said("Time"));
        }
    }
    let recipes = fs::read_dir(root().join("configs")).expect("configs").flatten();
    for path in
        recipes.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "toml"))
    {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        assert!(measured.contains_key(&name), "{}: no result in configs/results.json", path.display());
    }
    // The reference model is the first seed of its recipe.
    let figures = fs::read_to_string(root().join("artifacts/reference/figures.json")).expect("the reference");
    let figures: serde_json::Value = serde_json::from_str(&figures).expect("JSON");
    let best = &measured["best"];
    assert_eq!(figures["command"], best.command);
    for (key, stored) in
        [("test_accuracy", &best.figures.test_accuracy), ("valid_accuracy", &best.figures.valid_accuracy)]
    {
        let percent = figures[key].as_f64().expect("a figure") * 100.0;
        assert!((percent - stored[0]).abs() < 1e-9, "{key}: {percent}, {}", stored[0]);
    }
}

/// Rows of tables that begin with a recipe, and the sentences that name one.
#[test]
fn the_readme_states_what_was_measured() {
    let measured = measured();
    let text = fs::read_to_string(root().join("README.md")).expect("README");
    let mut rows = 0;
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let first = cells[0].trim_start_matches('`').trim_start_matches("configs/");
        let name = first.split('`').next().unwrap_or_default().trim_end_matches(".toml");
        let is_recipe = cells[0] == "default" || cells[0].contains(".toml`") && !cells[0].contains(',');
        let name = if cells[0].starts_with("MNIST to Fashion-MNIST") { "transfer" } else { name };
        if !is_recipe && name != "transfer" {
            continue;
        }
        rows += 1;
        let entry = measured.get(name).unwrap_or_else(|| panic!("README, {line}: no result of {name}"));
        entry.check_accuracies("README", line);
        let found: Vec<String> = numbers(line).collect();
        if name == "transfer" {
            continue;
        }
        assert!(found.contains(&entry.epochs.to_string()), "README, {line}: epochs");
        if let [.., seconds, speed] = cells.as_slice()
            && cells.len() == 6
        {
            let seconds: f64 = seconds.parse().expect("seconds");
            let speed: f64 = speed.replace(',', "").parse().expect("images a second");
            assert!(
                entry.seconds.contains(&seconds) && entry.images_per_second.contains(&speed),
                "README, {line}"
            );
        } else {
            let seeds: usize = cells[cells.len() - 1].parse().expect("seeds");
            assert_eq!(seeds, entry.figures.seeds.len(), "README, {line}");
        }
    }
    assert!(rows >= 9, "only {rows} rows found");
    for (words, name) in [("default recipe reaches ", "default"), ("speed run reaches ", "speedrun")] {
        let (_, after) = text.split_once(words).unwrap_or_else(|| panic!("`{words}` is not in the README"));
        let figure = numbers(after).next().expect("a figure");
        assert_eq!(figure, format!("{:.2}", measured[name].figures.mean()), "README: {words}");
    }
    let (_, after) = text.split_once("speed run reaches ").expect("the sentence");
    let seconds = numbers(after).nth(1).expect("seconds");
    assert_eq!(seconds, format!("{:.2}", measured["speedrun"].seconds[0]));
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

/// The toolchain that builds and tests everything is the oldest that is allowed: what it compiles needs no newer one.
#[test]
fn the_oldest_allowed_toolchain_is_the_one_that_is_used() {
    let value = |file: &str, keys: &[&str]| {
        let text = fs::read_to_string(root().join(file)).expect("a file");
        let table: toml::Table = toml::from_str(&text).expect("TOML");
        let value = keys.iter().fold(toml::Value::Table(table), |value, key| value[*key].clone());
        value.as_str().expect("a text").to_owned()
    };
    let oldest = value("Cargo.toml", &["workspace", "package", "rust-version"]);
    assert_eq!(value("rust-toolchain.toml", &["toolchain", "channel"]), format!("{oldest}.0"));
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
        "kernels",
        &[
            "memory",
            "path",
            "buffer",
            "simd",
            "gather",
            "loss",
            "optim",
            "pointwise",
            "pool",
            "dense",
            "norm",
            "conv",
        ],
    ),
    (
        "data",
        &[
            "text", "findings", "error", "files", "rng", "dataset", "formats", "options", "division",
            "sources", "pictures", "load", "augment", "batches",
        ],
    ),
    (
        "model",
        &[
            "numbers",
            "digest",
            "ops",
            "input",
            "graph",
            "networks",
            "weights",
            "confidence",
            "task",
            "file",
            "foreign",
            "answer",
            "export",
        ],
    ),
    (
        "evaluation",
        &[
            "metrics",
            "metrics_log",
            "multi_label",
            "predictions",
            "baseline",
            "confidence",
            "paired_test",
            "report",
        ],
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
    ("kiln", &["table", "pictures", "answer", "commands", "serve"]),
    ("web", &["session", "bindings"]),
];

fn read(name: &str) -> arrows::Crate {
    arrows::Crate::read(&root().join("crates").join(name).join("src"))
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    for entry in fs::read_dir(root().join("crates")).expect("crates").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(
            ROOMS.iter().any(|(listed, _)| *listed == name),
            "crates/{name} has no rooms: list them in ROOMS"
        );
        let source = read(&name);
        let circles = arrows::circles(&source.arrows());
        assert!(circles.is_empty(), "crates/{name}: these files use each other: {circles:#?}");
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

/// `KILN_DRAW=1 cargo test --workspace --test project picture` draws it anew.
#[test]
fn the_picture_of_the_crates_and_their_rooms_is_that_of_the_code() {
    const BEGIN: &str = "<!-- drawn by `just picture` -->\n\n";
    const END: &str = "\n<!-- end of the drawing -->";
    let path = root().join("ARCHITECTURE.md");
    let text = fs::read_to_string(&path).expect("ARCHITECTURE.md");
    let (before, rest) = text.split_once(BEGIN).expect("where the picture begins");
    let (found, after) = rest.split_once(END).expect("where the picture ends");
    let expected = picture::picture(&root(), ROOMS);
    if std::env::var_os("KILN_DRAW").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{expected}{END}{after}")).expect("ARCHITECTURE.md");
    } else {
        assert_eq!(found, expected, "ARCHITECTURE.md shows other arrows than the code has: `just picture`");
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

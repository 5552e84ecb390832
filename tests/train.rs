//! The command `train`, from outside: results, resume, interruption, damage, bad input.

#[path = "support/backends.rs"]
mod backends;
#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Bench, files};

fn bench() -> Bench {
    Bench::new(env!("CARGO_BIN_EXE_train"))
}

/// Everything random is on: augmentation, dropout, the weight average; and a checkpoint often.
const LIVELY: &[&str] = &[
    "--dataset",
    "mnist-sample",
    "--epochs",
    "3",
    "--seed",
    "7",
    "--progress",
    "plain",
    "--json",
    "--set",
    "data.augment.shift=2",
    "--set",
    "data.augment.rotate=10",
    "--set",
    "network.dropout=0.3",
    "--set",
    "network.batch_norm=true",
    "--set",
    "regularization.ema_decay=0.9",
    "--checkpoint-every",
    "4steps",
];

fn lively(name: &str) -> Vec<&str> {
    [LIVELY, &["--name", name]].concat()
}

/// What must not depend on where a run was stopped.
fn fingerprint(result: &Value) -> Vec<Value> {
    [
        "weights_sha256",
        "last_weights_sha256",
        "optimizer_sha256",
        "valid_accuracy",
        "valid_loss",
        "test_accuracy",
        "test_macro_f1",
        "best_epoch",
        "epochs",
    ]
    .iter()
    .map(|key| result[key].clone())
    .collect()
}

/// The figures of `metrics.jsonl` that are not times.
fn metrics(bench: &Bench, name: &str) -> Vec<Vec<Value>> {
    fs::read_to_string(bench.path(&format!("artifacts/{name}/metrics.jsonl")))
        .expect("metrics")
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).expect("a record");
            ["epoch", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "learning_rate"]
                .iter()
                .map(|key| line[key].clone())
                .collect()
        })
        .collect()
}

fn checkpoints(bench: &Bench, name: &str) -> Vec<String> {
    let folder = bench.path(&format!("artifacts/{name}/checkpoints"));
    let mut names: Vec<String> = fs::read_dir(folder)
        .map(|listing| {
            listing
                .flatten()
                .filter(|entry| entry.path().join("manifest.json").exists())
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect()
        })
        .unwrap_or_default();
    names.sort();
    names
}

/// Starts a run and waits until it has committed `count` checkpoints or more.
fn started(bench: &Bench, arguments: &[&str], name: &str, count: usize) -> std::process::Child {
    let mut child = bench.spawn(arguments);
    let deadline = Instant::now() + Duration::from_mins(2);
    while checkpoints(bench, name).len() < count {
        assert!(Instant::now() < deadline, "no checkpoint within two minutes");
        assert!(child.try_wait().expect("a child").is_none(), "the run ended before it was stopped");
        std::thread::yield_now();
    }
    child
}

fn signal(child: &std::process::Child, name: &str) {
    let status =
        std::process::Command::new("kill").args([name, &child.id().to_string()]).status().expect("kill");
    assert!(status.success());
}

#[test]
fn a_run_learns_and_leaves_everything_it_promises() {
    let bench = bench();
    let result = bench.json(&[
        "--dataset",
        "mnist-sample",
        "--epochs",
        "8",
        "--learning-rate",
        "0.003",
        "--backend",
        "flex",
        "--json",
        "--progress",
        "none",
        "--name",
        "one",
    ]);
    assert!(result["test_accuracy"].as_f64().expect("a number") > 0.9, "{result}");
    for key in [
        "run",
        "model",
        "dataset",
        "backend",
        "seed",
        "epochs",
        "parameters",
        "valid_accuracy",
        "test_accuracy",
        "test_macro_f1",
        "train_samples_per_second",
        "seconds",
        "weights_sha256",
    ] {
        assert!(!result[key].is_null(), "{key} is missing from {result}");
    }
    let found = files(&bench.path("artifacts/one"));
    for name in [
        "config.toml",
        "run.json",
        "metrics.jsonl",
        "model.kiln",
        "report/index.html",
        "report/curves.svg",
        "report/curves.png",
        "report/confusion.svg",
        "report/confusion.png",
    ] {
        assert!(found.iter().any(|file| file == name), "{name} is missing from {found:?}");
    }
    assert!(found.iter().any(|file| file.starts_with("tensorboard/events.out.tfevents")), "{found:?}");
    assert_eq!(metrics(&bench, "one").len(), 8);

    // The saved configuration repeats the experiment.
    let again = bench.json(&[
        "--config",
        "artifacts/one/config.toml",
        "--json",
        "--progress",
        "none",
        "--name",
        "two",
    ]);
    assert_eq!(fingerprint(&again), fingerprint(&result));
}

#[test]
fn the_thread_count_does_not_change_a_bit() {
    let bench = bench();
    let run = |threads: &str| {
        let arguments = [
            "--dataset",
            "mnist-sample",
            "--epochs",
            "1",
            "--json",
            "--progress",
            "none",
            "--threads",
            threads,
        ];
        fingerprint(&bench.json(&arguments))
    };
    assert_eq!(run("1"), run("3"));
}

#[test]
fn ctrl_c_saves_and_resume_ends_where_the_uninterrupted_run_ends() {
    let bench = bench();
    let whole = bench.json(&lively("whole"));
    for (name, kind) in [("int", "-INT"), ("term", "-TERM")] {
        let mut child = started(&bench, &lively(name), name, 1);
        signal(&child, kind);
        let status = child.wait().expect("a child");
        assert_eq!(status.code(), Some(130), "{kind}");
        let record = fs::read_to_string(bench.path(&format!("artifacts/{name}/run.json"))).expect("run.json");
        assert!(record.contains("\"interrupted\""), "{record}");
        let folder = format!("artifacts/{name}");
        let resumed = bench.json(&["--resume", &folder, "--json", "--progress", "plain"]);
        assert_eq!(fingerprint(&resumed), fingerprint(&whole), "{kind}");
        assert_eq!(metrics(&bench, name), metrics(&bench, "whole"), "{kind}");
    }
}

#[test]
fn an_interrupted_run_says_how_to_go_on() {
    let bench = bench();
    let child = bench
        .command(&lively("said"))
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("a child");
    while checkpoints(&bench, "said").is_empty() {
        std::thread::yield_now();
    }
    signal(&child, "-INT");
    let output = child.wait_with_output().expect("output");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("--resume artifacts/said"), "{stderr}");
}

#[test]
fn a_damaged_checkpoint_is_reported_and_the_one_before_it_used() {
    let bench = bench();
    let whole = bench.json(&lively("whole"));
    let mut child = started(&bench, &lively("hurt"), "hurt", 2);
    child.kill().expect("kill -9");
    child.wait().expect("a child");
    let newest = checkpoints(&bench, "hurt").pop().expect("a checkpoint");
    let model = bench.path(&format!("artifacts/hurt/checkpoints/{newest}/model.bpk"));
    let mut bytes = fs::read(&model).expect("a record");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&model, bytes).expect("written");

    let ran = bench.run(&["--resume", "artifacts/hurt", "--json", "--progress", "plain"]);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("is damaged") && ran.stderr.contains(&newest), "{}", ran.stderr);
    let resumed: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(fingerprint(&resumed), fingerprint(&whole));
}

#[test]
fn a_run_killed_before_its_first_checkpoint_begins_again() {
    let bench = bench();
    let whole = bench.json(&lively("whole"));
    let mut child = started(&bench, &lively("early"), "early", 1);
    child.kill().expect("kill -9");
    child.wait().expect("a child");
    fs::remove_dir_all(bench.path("artifacts/early/checkpoints")).expect("as if it had written none");
    fs::write(bench.path("artifacts/early/.kiln-half.tmp"), "half").expect("written");
    let resumed = bench.json(&["--resume", "--json", "--progress", "plain"]);
    assert_eq!(fingerprint(&resumed), fingerprint(&whole));
    assert!(resumed["run"].as_str().expect("a folder").ends_with("early"), "{resumed}");
    assert!(!bench.path("artifacts/early/.kiln-half.tmp").exists());
}

/// The path of the kernels is the run's, wherever it goes on.
#[test]
fn a_run_keeps_its_kernels() {
    let bench = bench();
    let portable = [&["--kernels", "portable"], &lively("whole")[..]].concat();
    let whole = bench.json(&portable);
    let history = |name: &str| {
        let record = fs::read_to_string(bench.path(&format!("artifacts/{name}/run.json"))).expect("run.json");
        serde_json::from_str::<Value>(&record).expect("JSON")["history"].clone()
    };
    let mut command = bench.command(&lively("kept"));
    let mut child = command
        .env("KILN_KERNELS", "portable")
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("it starts");
    while checkpoints(&bench, "kept").is_empty() {
        assert!(child.try_wait().expect("a child").is_none(), "the run ended before it was stopped");
        std::thread::yield_now();
    }
    child.kill().expect("kill -9");
    child.wait().expect("a child");
    let resume = ["--resume", "artifacts/kept", "--json", "--progress", "plain"];
    let output = bench.command(&resume).env("KILN_KERNELS", "stock").output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("KILN_KERNELS=stock is not taken"), "{said}");
    let resumed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(fingerprint(&resumed), fingerprint(&whole));
    assert_eq!(history("kept"), history("whole"));
    assert_eq!(history("kept")[0]["kernels"], "portable");

    bench.run(&["--resume", "artifacts/kept", "--kernels", "stock"]).fails(2, &["--kernels", "--resume"]);
    bench.run(&["--kernels", "fast"]).fails(2, &["fast", "auto", "stock", "portable", "avx2", "avx512"]);
    bench.run(&["--set", "kernels=fast"]).fails(2, &["fast", "portable", "avx512"]);
}

/// What is written is for whom the umask says.
#[cfg(unix)]
#[test]
fn files_have_the_mode_that_the_umask_leaves() {
    use std::os::unix::fs::PermissionsExt;
    let bench = bench();
    let program = env!("CARGO_BIN_EXE_train");
    let script = format!(
        "umask 027; exec '{program}' --dataset mnist-sample --limit 300 --epochs 1 --progress none --name private"
    );
    let status =
        std::process::Command::new("bash").args(["-c", &script]).current_dir(bench.path(".")).status();
    assert!(status.expect("bash").success());
    for file in files(&bench.path("artifacts/private")) {
        let path = bench.path("artifacts/private").join(&file);
        let mode = fs::metadata(path).expect("a file").permissions().mode() & 0o777;
        assert_eq!(mode, 0o640, "{file}: {mode:o}");
    }
}

#[test]
fn a_changed_configuration_is_not_resumed() {
    let bench = bench();
    let mut child = started(&bench, &lively("edited"), "edited", 1);
    child.kill().expect("kill -9");
    child.wait().expect("a child");
    let path = bench.path("artifacts/edited/config.toml");
    let text = fs::read_to_string(&path).expect("config").replace("seed = 7", "seed = 8");
    fs::write(&path, text).expect("written");
    bench.run(&["--resume", "artifacts/edited"]).fails(1, &["config.toml", "was changed"]);
}

#[test]
fn a_diverging_run_names_step_rate_and_last_checkpoint() {
    let bench = bench();
    let ran = bench.run(&[
        "--dataset",
        "mnist-sample",
        "--epochs",
        "3",
        "--learning-rate",
        "1e30",
        "--optimizer",
        "sgd",
        "--name",
        "up",
        "--set",
        "schedule.name=constant",
        "--set",
        "schedule.warmup_epochs=1",
        "--progress",
        "none",
    ]);
    ran.fails(1, &["diverged", "step", "learning rate", "lower --learning-rate"]);
    let record = fs::read_to_string(bench.path("artifacts/up/run.json")).expect("run.json");
    assert!(record.contains("\"failed\""), "{record}");
}

#[test]
fn every_optimizer_and_schedule_learns() {
    let bench = bench();
    for (optimizer, schedule) in [
        ("sgd", "step"),
        ("adam", "cosine"),
        ("adamw", "linear"),
        ("rmsprop", "plateau"),
        ("sgd", "one-cycle"),
        ("adam", "constant"),
    ] {
        let schedule = format!("schedule.name={schedule}");
        let result = bench.json(&[
            "--dataset",
            "mnist-sample",
            "--epochs",
            "2",
            "--optimizer",
            optimizer,
            "--set",
            &schedule,
            "--set",
            "schedule.warmup_epochs=0.5",
            "--set",
            "regularization.clip_norm=5",
            "--set",
            "regularization.accumulate=2",
            "--batch-size",
            "32",
            "--json",
            "--progress",
            "none",
        ]);
        let accuracy = result["test_accuracy"].as_f64().expect("a number");
        assert!(accuracy > 0.8, "{optimizer} {schedule}: {accuracy}");
    }
}

#[test]
fn l1_makes_weights_small() {
    let bench = bench();
    let near_zero = |l1: &str, name: &str| {
        let set = format!("regularization.l1={l1}");
        bench.json(&[
            "--dataset",
            "mnist-sample",
            "--epochs",
            "6",
            "--learning-rate",
            "0.003",
            "--batch-size",
            "32",
            "--set",
            &set,
            "--json",
            "--progress",
            "none",
            "--name",
            name,
        ]);
        let bytes = fs::read(bench.path(&format!("artifacts/{name}/model.kiln"))).expect("a model");
        let model = model::decode(&bytes, &burn::tensor::Device::flex()).expect("a model");
        let weights: Vec<f32> = model::named_tensors(&model.network)
            .iter()
            .filter(|(name, _)| name.ends_with("weight"))
            .flat_map(|(_, data)| data.iter::<f32>().collect::<Vec<_>>())
            .collect();
        weights.iter().filter(|weight| weight.abs() < 1e-3).count() as f64 / weights.len() as f64
    };
    let (without, with) = (near_zero("0", "plain"), near_zero("0.002", "sparse"));
    assert!(with > 2.0 * without, "{with} of the weights are near zero with L1, {without} without");
}

#[test]
fn early_stopping_ends_the_run_and_is_resumable() {
    let bench = bench();
    let result = bench.json(&[
        "--dataset",
        "mnist-sample",
        "--epochs",
        "50",
        "--set",
        "early_stopping.patience=1",
        "--set",
        "early_stopping.min_delta=10",
        "--json",
        "--progress",
        "none",
    ]);
    assert_eq!(result["epochs"], 2);
}

#[test]
fn bad_input_is_an_error_that_says_what_to_do() {
    let bench = bench();
    let sample = ["--dataset", "mnist-sample", "--progress", "none"];
    let with = |more: &[&'static str]| [&sample, more].concat();
    bench.run(&with(&["--set", "optimizer.momentun=0.9"])).fails(2, &["momentun"]);
    bench.run(&with(&["--set", "epochs=many"])).fails(2, &["epochs"]);
    bench.run(&with(&["--epochs", "0"])).fails(2, &["epochs", "1 or more"]);
    bench.run(&with(&["--valid-fraction", "1.5"])).fails(2, &["valid_fraction"]);
    bench.run(&with(&["--learning-rate=-1"])).fails(2, &["learning_rate"]);
    bench.run(&with(&["--model", "perceptron"])).fails(2, &["perceptron", "cnn"]);
    bench.run(&with(&["--backend", "gpu"])).fails(2, &["gpu", "flex", "ndarray", "wgpu"]);
    bench.run(&with(&["--threads", "0"])).fails(2, &["threads"]);
    bench.run(&with(&["--config", "none.toml"])).fails(2, &["none.toml"]);
    bench.run(&with(&["--set", "network.dense=[0]"])).fails(2, &["dense.0"]);
    bench.run(&with(&["--name", "../up"])).fails(2, &["--name"]);
    bench.run(&with(&["--limit", "12"])).fails(1, &["--limit 12 leaves no image to validate on"]);
    bench.run(&["--dataset", "nowhere", "--progress", "none"]).fails(1, &["nowhere", "mnist"]);
    bench.run(&["--resume"]).fails(1, &["artifacts", "no unfinished run"]);
    bench.run(&["--resume", "nothing"]).fails(1, &["nothing", "not a run folder"]);
    bench.run(&["--resume", "--epochs", "3"]).fails(2, &["--epochs", "--resume"]);
    bench.run(&["--progress", "tui", "--dataset", "mnist-sample"]).fails(2, &["terminal"]);
    // The shape is wrong for MNIST whatever the images say: known before anything is looked for.
    bench
        .run(&[
            "--dataset",
            "mnist",
            "--data-dir",
            "nowhere",
            "--set",
            "network.blocks=[{channels=8, kernel=40}]",
        ])
        .fails(2, &["blocks.0", "40", "28"]);
    assert!(!bench.path("artifacts").exists(), "no run folder for a run that never began");
}

#[test]
fn an_unwritable_folder_and_a_full_disk_are_errors_with_the_path() {
    let bench = bench();
    fs::write(bench.path("file"), "in the way").expect("written");
    bench
        .run(&["--dataset", "mnist-sample", "--progress", "none", "--out", "file/runs"])
        .fails(1, &["file/runs"]);

    // A limit on the size of files stands in for a full disk: the first epochs' checkpoints fit until the limit is lowered.
    let mut child = started(&bench, &lively("full"), "full", 1);
    child.kill().expect("kill -9");
    child.wait().expect("a child");
    let before = checkpoints(&bench, "full");
    let program = env!("CARGO_BIN_EXE_train");
    let script =
        format!("trap '' XFSZ; ulimit -f 60; exec '{program}' --resume artifacts/full --progress plain");
    let output = std::process::Command::new("bash")
        .args(["-c", &script])
        .current_dir(bench.path("."))
        .output()
        .expect("bash");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("checkpoints/step-") && !stderr.contains("panicked"), "{stderr}");
    assert_eq!(checkpoints(&bench, "full"), before, "the earlier checkpoint stays");
    let resumed = bench.json(&["--resume", "artifacts/full", "--json", "--progress", "plain"]);
    assert_eq!(fingerprint(&resumed), fingerprint(&bench.json(&lively("whole"))));
}

#[test]
fn two_processes_do_not_share_a_run() {
    let bench = bench();
    let mut child = started(&bench, &lively("held"), "held", 1);
    bench.run(&["--resume", "artifacts/held"]).fails(1, &["another process"]);
    fs::remove_file(bench.path("artifacts/held/.lock")).expect("removed");
    bench.run(&["--resume", "artifacts/held"]).fails(1, &["another process"]);
    bench.run(&["--resume"]).fails(1, &["no unfinished run", "another process"]);
    child.kill().expect("kill -9");
    child.wait().expect("a child");
}

/// The same first epoch on both backends of the processor. The graphics adapter's turn is in `counterparts.rs`.
#[test]
fn backends_train_alike() {
    backends::train_alike(&bench(), &[], "ndarray");
}

/// A pseudo-terminal with a program in it.
#[cfg(unix)]
mod terminal {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::OwnedFd;
    use std::process::{Child, Command};
    use std::sync::mpsc::{Receiver, channel};

    use pty::fs::{Mode, OFlags};
    use pty::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use pty::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};

    pub(crate) struct Terminal {
        keyboard: File,
        /// The program's side, held so that its modes can be read after the program's end.
        inside: OwnedFd,
        written: Receiver<Vec<u8>>,
        screen: String,
    }

    impl Terminal {
        pub(crate) fn with(command: &mut Command) -> (Self, Child) {
            let outside = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
            grantpt(&outside).expect("granted");
            unlockpt(&outside).expect("unlocked");
            let name = ptsname(&outside, Vec::new()).expect("a name");
            let inside = pty::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("opened");
            let size = Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
            tcsetwinsize(&inside, size).expect("a size");
            let side = || inside.try_clone().expect("another handle");
            let child = command.stdin(side()).stdout(side()).stderr(side()).spawn().expect("it starts");
            // The command holds handles of its own.
            command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
            command.stderr(std::process::Stdio::null());
            let keyboard = File::from(outside);
            let mut screen = keyboard.try_clone().expect("another handle");
            let (sender, written) = channel();
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                // Without a program there is nothing to read, or an error.
                while let Ok(count @ 1..) = screen.read(&mut bytes) {
                    if sender.send(bytes[..count].to_vec()).is_err() {
                        break;
                    }
                }
            });
            (Self { keyboard, inside, written, screen: String::new() }, child)
        }

        pub(crate) fn modes(&self) -> Termios {
            tcgetattr(&self.inside).expect("modes")
        }

        pub(crate) fn hears_keys_and_signals(&self) -> bool {
            let modes = self.modes().local_modes;
            !modes.contains(LocalModes::ICANON) && modes.contains(LocalModes::ISIG)
        }

        pub(crate) fn press(&mut self, keys: &str) {
            self.keyboard.write_all(keys.as_bytes()).expect("pressed");
        }

        /// Waits until the program has written this.
        pub(crate) fn shows(&mut self, text: &str) {
            while !self.screen.contains(text) {
                let bytes =
                    self.written.recv().unwrap_or_else(|_| panic!("no {text:?} in {:?}", self.screen));
                self.screen.push_str(&String::from_utf8_lossy(&bytes));
            }
        }

        /// All that the program, which has ended, has written.
        pub(crate) fn close(self) -> String {
            let Self { inside, written, mut screen, .. } = self;
            drop(inside);
            for bytes in written {
                screen.push_str(&String::from_utf8_lossy(&bytes));
            }
            screen
        }
    }
}

/// A signal, two of them, an error, and a panic: that is how Burn's dashboard kills a run.
#[cfg(unix)]
#[test]
fn the_terminal_is_given_back_however_the_dashboard_ends() {
    const ENTERED: &str = "\x1b[?1049h";
    const QUICK: &[&str] = &["--limit", "100", "--batch-size", "10", "--epochs", "1000"];
    // A step takes so long that both signals come within it.
    const SLOW: &[&str] = &["--model", "resnet20", "--limit", "300", "--batch-size", "240"];
    const DIVERGES: &[&str] = &["--optimizer", "sgd", "--learning-rate", "1e30"];
    let bench = bench();
    for (name, more, signals, keys, status, words) in [
        ("one", QUICK, &["-INT"][..], "", 130, "--resume"),
        ("two", SLOW, &["-INT", "-TERM"], "", 130, ""),
        ("error", DIVERGES, &[], "", 1, "diverged"),
        ("panic", QUICK, &[], "qk", 101, "killed by user"),
    ] {
        let arguments = ["--dataset", "mnist-sample", "--progress", "tui", "--threads", "1", "--name", name];
        let mut command = bench.command(&[&arguments, more].concat());
        let (mut terminal, mut child) = terminal::Terminal::with(&mut command);
        let before = format!("{:?}", terminal.modes());
        terminal.shows(ENTERED);
        if status != 1 {
            // The first picture is drawn.
            terminal.shows("\x1b[?25l");
            assert!(terminal.hears_keys_and_signals(), "{name}");
        }
        terminal.press(keys);
        for kind in signals {
            signal(&child, kind);
        }
        assert_eq!(child.wait().expect("a child").code(), Some(status), "{name}");
        assert_eq!(format!("{:?}", terminal.modes()), before, "{name}");
        let screen = terminal.close();
        for (on, off) in
            [(ENTERED, "\x1b[?1049l"), ("\x1b[?25l", "\x1b[?25h"), ("\x1b[?1000h", "\x1b[?1000l")]
        {
            assert!(screen.rfind(off) > screen.rfind(on), "{name}: {on:?} without {off:?} in {screen:?}");
        }
        let (_, after) = screen.split_once("\x1b[?1049l").expect("it was left");
        assert!(after.contains(words), "{name}: no {words:?} in {after:?}");
        assert_eq!(after.contains("--resume"), name == "one", "{name}: {after:?}");
    }
}

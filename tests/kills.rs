//! Runs of every kind, killed at random moments and damaged between their processes: whatever is lost is trained again, and
//! every one ends bit for bit where the uninterrupted one ends.
//!
//! `KILN_KILLS=50` spreads so many kills over all kinds (`just kills`); without it the cheapest kinds are killed once each.
//! `KILN_KILL_SEED` gives the seed that a run of this test has printed; the moments are random all the same, as clocks are.

#![allow(clippy::print_stdout, reason = "figures for whoever runs with --nocapture")]

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Bench, files};

/// A kind of run, by the command that begins it but for `--out` and `--name`.
struct Kind {
    name: &'static str,
    command: &'static str,
    /// The file without which it has not begun.
    mark: &'static str,
}

/// Everything random is on, and a checkpoint often.
const KINDS: [Kind; 7] = [
    Kind {
        name: "cnn",
        command: "train --dataset mnist-sample --limit 200 --batch-size 20 --epochs 3 --checkpoint-every 4steps --set \
                  data.augment.shift=2 --set data.augment.rotate=10 --set network.dropout=0.3 --set \
                  network.batch_norm=true --set regularization.ema_decay=0.9",
        mark: "config.toml",
    },
    Kind {
        name: "rnn",
        command: "train --model rnn --dataset mnist-sample --limit 150 --batch-size 20 --epochs 3 --checkpoint-every \
                  3steps --set network.hidden=16 --set network.layers=2 --set network.dropout=0.2 --set \
                  regularization.accumulate=2 --set test=false",
        mark: "config.toml",
    },
    Kind {
        name: "folds",
        command: "train --folds 3 --dataset mnist-sample --limit 120 --batch-size 20 --epochs 2 --checkpoint-every \
                  2steps --set network.dense=[] --set network.dropout=0.2",
        mark: "config.toml",
    },
    Kind { name: "sweep", command: "sweep sweep.toml", mark: "sweep.toml" },
    Kind {
        name: "finetune",
        command: "finetune --from start/model.kiln --dataset mnist-sample --limit 150 --batch-size 20 --epochs 3 \
                  --checkpoint-every 3steps --seed 5 --set data.augment.mixup=0.2",
        mark: "config.toml",
    },
    Kind {
        name: "vit",
        command: "train --set network.name=vit --dataset mnist-sample --limit 120 --batch-size 20 --epochs 2 --checkpoint-every \
                  2steps --set network.width=16 --set network.depth=2 --set network.mlp=32 --set network.dropout=0.1 \
                  --set test=false",
        mark: "config.toml",
    },
    Kind {
        name: "resnet",
        command: "train --model resnet20 --dataset mnist-sample --limit 60 --batch-size 10 --epochs 2 \
                  --checkpoint-every 1steps --set checkpoint.keep=1 --set test=false",
        mark: "config.toml",
    },
];

/// Kinds that are killed where nobody asks for more, the first of them.
const CHEAP: usize = 4;

/// Three trials, of which the best is prolonged.
const SWEEP: &str = "schedule = { name = \"constant\", warmup_epochs = 0.5 }\nbatch_size = 20\n\
    checkpoint = { every = \"2steps\" }\n[data]\ndataset = \"mnist-sample\"\nlimit = 100\n[network]\nname = \"cnn\"\n\
    dense = []\n[sweep]\nstrategy = \"halving\"\ntrials = 3\nepochs = 4\n[sweep.parameters]\n\
    \"optimizer.learning_rate\" = { log_uniform = [1e-4, 1e-2] }\n";

/// Numbers that look random; xorshift64 (Marsaglia, Journal of Statistical Software 8, 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    fn pick<'a, T>(&mut self, among: &'a [T]) -> Option<&'a T> {
        let n = among.len() as u64;
        (n > 0).then(|| &among[self.below(n) as usize])
    }
}

fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// What must not depend on where a run was stopped: no times, no folders.
fn lasting(value: &Value, out: &str) -> Value {
    const TIMES: [&str; 3] = ["seconds", "train_samples_per_second", "samples_per_second"];
    match value {
        Value::Object(map) => map
            .iter()
            // The file holds times, too.
            .filter(|(key, _)| !TIMES.contains(&key.as_str()) && *key != "model_bytes")
            .map(|(key, value)| (key.clone(), lasting(value, out)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(values) => values.iter().map(|value| lasting(value, out)).collect::<Vec<_>>().into(),
        Value::String(text) => text.replace(out, "").into(),
        other => other.clone(),
    }
}

/// A kind of run in the folder `out/run`.
struct Subject<'a> {
    bench: &'a Bench,
    kind: &'a Kind,
    out: String,
}

/// How a run ended: its figures, those of all its epochs, and the weights of its model files.
#[derive(Debug, PartialEq)]
struct End {
    result: Value,
    epochs: BTreeMap<String, Vec<Value>>,
}

impl Subject<'_> {
    fn folder(&self) -> PathBuf {
        self.bench.path(&self.out).join("run")
    }

    /// What goes on with it, or begins it.
    fn command(&self) -> Vec<String> {
        let begun = self.folder().join(self.kind.mark).exists();
        let name = self.kind.command.split(' ').next().unwrap_or_default();
        let text = if begun {
            format!("{name} --resume {}/run", self.out)
        } else {
            format!("{} --out {} --name run", self.kind.command, self.out)
        };
        let mut command: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        command.extend(["--json", "--threads", "1", "--progress", "plain"].map(str::to_owned));
        command
    }

    /// Kills it after so long; gives the time that it took where it has ended before.
    fn killed_after(&self, moment: Duration) -> Option<Duration> {
        let command = self.command();
        let begin = Instant::now();
        let mut child = self.bench.spawn(&command.iter().map(String::as_str).collect::<Vec<_>>());
        while begin.elapsed() < moment {
            if let Some(status) = child.try_wait().expect("a child") {
                assert!(status.success(), "{command:?} failed");
                return Some(begin.elapsed());
            }
            std::thread::yield_now();
        }
        child.kill().expect("kill -9");
        child.wait().expect("a child");
        None
    }

    /// Brings it to its end.
    fn finish(&self) -> End {
        let record = fs::read(self.folder().join("run.json")).ok();
        let record = record.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        let result = match record {
            Some(record) if record["status"] == "finished" => record["result"].clone(),
            _ => self.bench.json(&self.command().iter().map(String::as_str).collect::<Vec<_>>()),
        };
        let metrics = files(&self.folder()).into_iter().filter(|name| name.ends_with("metrics.jsonl"));
        let epochs = metrics.map(|name| {
            let text = fs::read_to_string(self.folder().join(&name)).expect("metrics");
            let line = |line| lasting(&serde_json::from_str(line).expect("a record"), &self.out);
            (name, text.lines().map(line).collect())
        });
        End { result: lasting(&result, &self.out), epochs: epochs.collect() }
    }

    /// The checkpoints of all its runs.
    fn checkpoints(&self) -> Vec<PathBuf> {
        let found = if self.folder().is_dir() { files(&self.folder()) } else { Vec::new() };
        let manifests = found.into_iter().filter(|name| name.ends_with("/manifest.json"));
        manifests.filter_map(|name| Some(self.folder().join(name).parent()?.to_owned())).collect()
    }

    /// Damages one of its checkpoints, or all; gives what was done in words, if there was something to damage.
    fn damage(&self, random: &mut Random) -> Option<String> {
        let all = self.checkpoints();
        let one = random.pick(&all)?.clone();
        let file = one.join(random.pick(&files(&one))?);
        let bytes = fs::read(&file).expect("a file");
        let done = match random.below(6) {
            0 | 1 => {
                let length = random.below(bytes.len().max(1) as u64) as usize;
                fs::write(&file, &bytes[..length]).expect("written");
                format!("{} cut to {length} bytes", file.display())
            }
            2 | 3 => {
                let mut bytes = bytes;
                let bit = random.below(8 * bytes.len() as u64) as usize;
                bytes[bit / 8] ^= 1 << (bit % 8);
                fs::write(&file, bytes).expect("written");
                format!("{} with bit {bit} flipped", file.display())
            }
            4 => {
                fs::remove_file(one.join("manifest.json")).expect("removed");
                format!("{} without manifest", one.display())
            }
            _ => {
                let lost = best_of(&one).filter(|best| best.exists()).unwrap_or(one);
                fs::remove_dir_all(&lost).expect("removed");
                format!("{} removed", lost.display())
            }
        };
        Some(done)
    }
}

/// The folder of the best epoch that a checkpoint knows.
fn best_of(checkpoint: &Path) -> Option<PathBuf> {
    let state: Value = serde_json::from_slice(&fs::read(checkpoint.join("state.json")).ok()?).ok()?;
    Some(checkpoint.parent()?.join(format!("step-{:08}", state["best"]["step"].as_u64()?)))
}

/// A bench with what the kinds start from.
fn bench() -> Bench {
    let bench = Bench::new(env!("CARGO_BIN_EXE_kiln"));
    fs::write(bench.path("sweep.toml"), SWEEP).expect("written");
    bench
}

/// A model for the fine-tuned kind to start from.
fn train_start(bench: &Bench) {
    let command = "train --dataset mnist-sample --limit 300 --epochs 1 --set network.dense=[] --json --progress none \
                   --threads 1 --out . --name start";
    bench.json(&command.split_whitespace().collect::<Vec<_>>());
}

#[derive(Default)]
struct Tally {
    rounds: usize,
    kills: usize,
    damages: usize,
}

#[test]
fn no_kill_and_no_damage_changes_how_a_run_ends() {
    let asked: Option<usize> = setting("KILN_KILLS");
    let seed = setting("KILN_KILL_SEED").unwrap_or_else(|| RandomState::new().hash_one("kills") | 1);
    println!("repeat with KILN_KILL_SEED={seed}");
    let mut random = Random(seed.max(1));
    let kinds = if asked.is_some() { &KINDS[..] } else { &KINDS[..CHEAP] };
    let kills = asked.unwrap_or(CHEAP);
    let bench = bench();
    let mut wholes: BTreeMap<&str, (End, Duration)> = BTreeMap::new();
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    let mut done = 0;
    for (round, kind) in kinds.iter().cycle().enumerate() {
        if done >= kills {
            break;
        }
        let (whole, time) = wholes.entry(kind.name).or_insert_with(|| {
            if kind.name == "finetune" {
                train_start(&bench);
            }
            let subject = Subject { bench: &bench, kind, out: format!("whole-{}", kind.name) };
            let begin = Instant::now();
            (subject.finish(), begin.elapsed())
        });
        let tally = tallies.entry(kind.name).or_default();
        let subject = Subject { bench: &bench, kind, out: format!("round-{round}") };
        let most = if asked.is_some() { 1 + random.below(3) as usize } else { 1 };
        let (mut story, mut hurt) = (Vec::new(), false);
        for _ in 0..most.min(kills - done) {
            let moment = time.mul_f64(0.05 + 0.75 * random.below(1000) as f64 / 1000.0);
            let before = subject.checkpoints();
            if let Some(took) = subject.killed_after(moment) {
                // The machine has more to give than when the whole was timed.
                if story.is_empty() {
                    *time = took;
                }
                break;
            }
            done += 1;
            tally.kills += 1;
            story.push(format!("killed after {moment:?}"));
            // What is damaged may be the only one, and is replaced.
            assert!(
                hurt || before.is_empty() || !subject.checkpoints().is_empty(),
                "{}: a kill lost all checkpoints: {story:?}",
                kind.name
            );
            if random.below(2) == 0
                && let Some(damage) = subject.damage(&mut random)
            {
                tally.damages += 1;
                hurt = true;
                story.push(damage);
            }
        }
        tally.rounds += 1;
        let end = subject.finish();
        assert_eq!(&end, whole, "{}, seed {seed}, round {round}: {story:#?}", kind.name);
        fs::remove_dir_all(bench.path(&subject.out)).expect("removed");
    }
    for (name, Tally { rounds, kills, damages }) in tallies {
        println!(
            "{name:<9} {kills:>3} kills in {rounds:>3} runs, {damages:>3} damaged checkpoints: all ends the same"
        );
    }
}

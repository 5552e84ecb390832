# `just` lists the recipes; `just check` is what continuous integration runs.

default:
    @just --list

# Everything, cheapest first.
check: format lint docs test graphics deny

# The parts with a counterpart outside, in their short form: PyTorch, ONNX's checker and ONNX Runtime read what is exported,
# requests made out of the server's description, a minute of the comparison, the page in headless Chromium.
counterparts: counterparts-setup export-peers serve-schema web-test comparison

# A minute of the comparison with other frameworks that are installed.
comparison:
    target/python/bin/python benches/peers/run.py --quick --kiln target/debug/kiln

# Python for PyTorch and ONNX Runtime, Node and Chromium for the page.
counterparts-setup:
    scripts/setup-counterparts.sh

# Networks are named in a macro, where cargo fmt does not look.
format:
    cargo fmt --all --check
    rustfmt --edition 2024 --check crates/model/src/networks/*.rs

lint:
    cargo clippy --workspace --all-targets -- -D warnings
    cargo clippy -p kiln --test counterparts -- -D warnings

docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# The README's test command.
test:
    cargo test --workspace

# The graphics backend beside Flex; fails without a driver, which `scripts/setup.sh` installs.
graphics:
    cargo test -p kiln --test counterparts graphics

# What `just portability` needs: the standard library for other systems, and compilers of C.
portability-setup:
    scripts/setup-portability.sh

# `cargo check` for wasm32, Windows, aarch64 and CUDA, or for those named; minutes each.
portability *names:
    scripts/portability.sh {{names}}

# Licences and sources; advisories too where their database can be reached.
deny:
    scripts/deny.sh

# The picture of crates and rooms in ARCHITECTURE.md, anew from the code.
picture:
    KILN_DRAW=1 cargo test --workspace --test project the_picture

# The full form of the kill test: runs of every kind are killed 50 times at random moments, their checkpoints damaged, and
# every end is compared bit for bit. It prints a seed that repeats the same kills.
kills count="50" seed="":
    KILN_KILLS={{count}} KILN_KILL_SEED={{seed}} cargo test -p kiln --test kills -- --nocapture

# The long form of the fuzz targets: every parser against damaged input, so many seconds each. Without a seed a fresh one is
# drawn; it is printed, and repeats the same mutations.
fuzz seconds="60" seed=`od -An -N4 -tu4 /dev/urandom | tr -d ' '`:
    @echo "fuzzing; repeat with: just fuzz {{seconds}} {{seed}}"
    KILN_FUZZ_SECONDS={{seconds}} KILN_FUZZ_SEED={{seed}} cargo test -p kiln --test fuzz -- --nocapture

# Real MNIST with the default recipe.
train *arguments:
    cargo run -p train -- {{arguments}}

# The seeds 1, 2, 3 (or more) of a recipe: the lines for its header, stored in configs/results.json.
recipe name seeds="3":
    scripts/recipe.sh {{name}} {{seeds}}

# Fine-tuned beside from-scratch on a few labelled images, three seeds of each pair; with the weights of a ResNet-20 one more.
transfer *weights:
    scripts/transfer.sh {{weights}}

# TensorBoard itself reads an event file of a run (installs tensorboard into a virtual environment).
tensorboard-peer run:
    scripts/python.sh tensorboard
    target/python/bin/python tests/peers/tensorboard_reads.py {{run}}/tensorboard/events*

# scikit-learn's figures for the stored predictions (installs scikit-learn into a virtual environment).
golden-metrics:
    scripts/python.sh scikit-learn
    target/python/bin/python tests/golden/metrics.py

# Training and inference of every network on every backend of this machine.
bench *arguments:
    cargo run -p kiln -- bench {{arguments}}

# Kiln beside PyTorch, Keras, JAX and ONNX Runtime (installs those into a virtual environment).
peers *arguments:
    scripts/python.sh -r benches/peers/requirements.txt
    target/python/bin/python benches/peers/run.py {{arguments}}

# The operators one by one beside Burn's matrix product; items are floating-point operations.
operators *filter:
    cargo bench -p kernels -- {{filter}}

# The kernels' tests under valgrind, on the portable path.
memcheck *filter:
    scripts/memcheck.sh {{filter}}

# Every named network against PyTorch and torchvision with random weights at full size (installs torch).
golden-networks *names:
    scripts/golden-networks.sh {{names}}

# The golden pictures of the resize, anew (installs pillow, torch, torchvision).
golden-resize:
    scripts/python.sh pillow torch torchvision
    target/python/bin/python tests/golden/resize.py

# How well strips of test digits are read: of five digits, and of three to eight.
strips model="artifacts/reference":
    cargo run -p kiln --example digit_strips -- {{model}} mnist test 300 5
    cargo run -p kiln --example digit_strips -- {{model}} mnist test 300 0

# How surely a picture of several digits is told from one digit, whole, broken or with dirt.
several model="artifacts/reference":
    cargo run -p kiln --example several_digits -- {{model}} test 300

# Twelve trials on the built-in sample: table, picture and best.toml.
sweep file="configs/sweeps/first.toml":
    cargo run -p kiln -- sweep {{file}}

# PyTorch, ONNX's checker, ONNX Runtime and NumPy read what `kiln export` writes (installs them).
export-peers:
    scripts/python.sh numpy torch safetensors onnx onnxruntime
    KILN_PYTHON=target/python/bin/python cargo test -p kiln --test counterparts peers -- --nocapture

# How many printed letters the reference model refuses (installs Pillow into a virtual environment).
letters:
    scripts/python.sh pillow
    cargo build --quiet -p kiln
    target/python/bin/python scripts/letters.py target/debug/kiln artifacts/reference
    target/python/bin/python scripts/letters.py target/debug/kiln artifacts/reference 0.95

# The long form of the load tests of `kiln serve`: 60 s each.
serve-load:
    KILN_LOAD_SECONDS=60 cargo test -p kiln --test serve -- --nocapture many_clients overload

# Hostile requests of every kind against a server for so many seconds: memory and answers to others stay in bounds.
attack seconds="20":
    KILN_ATTACK_SECONDS={{seconds}} cargo test -p kiln --test serve -- --nocapture hostile_requests

# schemathesis asks `kiln serve` for so many seconds whatever its OpenAPI document allows and forbids (installs it).
serve-schema seconds="60":
    scripts/serve-schema.sh {{seconds}}

# Throughput and latency of `kiln serve` beside ONNX Runtime in FastAPI (installs them).
serve-bench:
    benches/serve/run.sh

# The page into crates/web/dist, with the given model file (default: the reference model).
web *model:
    scripts/web.sh {{model}}

# The page in headless Chromium; `just web-test measure` prints its figures.
web-test *what: web
    scripts/web-test.sh {{what}}

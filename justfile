# `just` lists the recipes; `just check` is what continuous integration runs.

default:
    @just --list

# Everything, cheapest first.
check: format lint docs test deny

format:
    cargo fmt --all --check

lint:
    cargo clippy --workspace --all-targets -- -D warnings

docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# The README's test command.
test:
    cargo test --workspace

# Licences and sources; advisories too where their database can be reached.
deny:
    scripts/deny.sh

# The full form of the kill test: 50 kills at random moments, every resume compared bit for bit.
kills count="50":
    KILN_KILLS={{count}} cargo test -p train --test train no_kill_loses -- --nocapture

# Real MNIST with the default recipe.
train *arguments:
    cargo run -p train -- {{arguments}}

# Three seeds of a recipe, with the lines for its header.
recipe name:
    scripts/recipe.sh {{name}}

# Fine-tuned against from-scratch on 1,000 labelled Fashion-MNIST images, three seeds.
transfer:
    scripts/transfer.sh

# TensorBoard itself reads an event file of a run (installs tensorboard into a virtual environment).
tensorboard-peer run:
    scripts/python.sh tensorboard
    target/python/bin/python tests/peers/tensorboard_reads.py {{run}}/tensorboard/events*

# scikit-learn's figures for the stored predictions (installs scikit-learn into a virtual environment).
golden-metrics:
    scripts/python.sh scikit-learn
    target/python/bin/python tests/golden/metrics.py

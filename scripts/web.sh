#!/usr/bin/env bash
# Builds the page into crates/web/dist: the program, a model file (default: the reference model), and kiln.html, which
# holds all of it in one file that opens without a server.
#   scripts/web.sh [MODEL]
set -euo pipefail
cd "$(dirname "$0")/.."
model=${1:-artifacts/reference/model.kiln}
dist=crates/web/dist
[ -f "$model" ] || { echo "$model: no such model file" >&2; exit 1; }

scripts/wasm-toolchain.sh
# shellcheck source=/dev/null
source target/wasm-toolchain/env
export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS="-C target-feature=+simd128"
cargo build -p web --profile web --target wasm32-unknown-unknown --target-dir target/wasm "${build_std[@]}"

rm -rf "$dist" && mkdir -p "$dist"
target/tools/bin/wasm-bindgen --target no-modules --no-typescript --out-name kiln --out-dir "$dist" \
    target/wasm/wasm32-unknown-unknown/web/web.wasm
cp crates/web/static/{index.html,style.css,app.js,worker.js,sw.js} "$dist/"
gzip -9n "$dist/kiln_bg.wasm"
gzip -9nc "$model" >"$dist/model.kiln.gz"

# The page in one file: scripts and style in their places, the program and the model packed as text.
packed() { printf '<script type="text/plain" id="%s">' "$1"; base64 -w 0 "$dist/$1.gz"; printf '</script>\n'; }
while IFS= read -r line; do
    case $line in
    *Content-Security-Policy*)
        policy="default-src 'none'; script-src 'unsafe-inline' 'wasm-unsafe-eval' blob:; style-src 'unsafe-inline'"
        policy="$policy; worker-src blob:; img-src data:; base-uri 'none'; form-action 'none'"
        printf '<meta http-equiv="Content-Security-Policy" content="%s">\n' "$policy" ;;
    *'href="style.css"'*) printf '<style>\n%s\n</style>\n' "$(<"$dist/style.css")" ;;
    *'src="app.js"'*)
        packed kiln_bg.wasm
        packed model.kiln
        printf '<script type="text/plain" id="worker.js">\n%s\n%s\n</script>\n' "$(<"$dist/kiln.js")" "$(<"$dist/worker.js")"
        printf '<script>\n%s\n</script>\n' "$(<crates/web/static/embedded.js)"
        printf '<script>\n%s\n</script>\n' "$(<"$dist/app.js")" ;;
    *) printf '%s\n' "$line" ;;
    esac
done <"$dist/index.html" >"$dist/kiln.html"
! grep -q ' src="\|<link[^>]* href="[^d]' "$dist/kiln.html" || { echo "kiln.html names another file" >&2; exit 1; }

# What a visit transfers.
transferred=$(cd "$dist" && cat index.html style.css app.js worker.js sw.js kiln.js ./*.gz | wc -c)
echo "$dist: $transferred bytes; kiln.html: $(wc -c <"$dist/kiln.html") bytes"

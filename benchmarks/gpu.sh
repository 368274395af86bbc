#!/usr/bin/env bash
# What there is to learn from a GPU in twelve minutes, in order of what is missed most if the machine goes away:
#
#   contracts   the contract tests of all models in float32 and under bf16 autocast       at most 2 min
#   sampling    the torch interpreter, with and without CUDA graphs, beside a forward pass        2.5 min
#   steps       a training step of every preset "paper": images/s, share of the bf16 peak         2.5 min
#   recipe      a recipe, trained with the time that is left, and resumed by the next call
#
#   benchmarks/gpu.sh [--dry-run] [STAGE …]
#
#   MINUTES=12      of all stages together
#   OUT=gpu-out     results: STAGE.json, summary.md, and the run in pieces under 16 MiB. The averaged model, and what a resumed run needs too:
#                   cat OUT/model.tar.* | tar -x -C FOLDER        cat OUT/checkpoint.tar.* | tar -x -C FOLDER
#   RUN=gpu-run     folder of the recipe's run, which is resumed if it is there
#   RECIPE=NAME     default pixelcnn-plus-plus-cifar10-paper
#   DATA=FOLDER     with its images: train*.npz and test*.npz, each an array "images" (N, C, H, W) uint8. This writes them from any data set,
#                   in parts that travel:  python benchmarks/gpu.py pack --data cifar10 --to FOLDER. Without: digits of the package.
#   PIECES=N        keep at most so many pieces, those of the model first; default: all
#   PYTHON=PATH     default: the first of .venv/bin/python, python3 and python whose torch finds a GPU
#
# Each stage has a time limit, writes as it goes, and loses only itself if it dies. --dry-run goes through all of it on a CPU, tiny.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
OUT=${OUT:-gpu-out} RUN=${RUN:-gpu-run} MINUTES=${MINUTES:-12} RECIPE=${RECIPE:-pixelcnn-plus-plus-cifar10-paper} DATA=${DATA:-} PIECES=${PIECES:-}
DEVICE=cuda DRY=() STAGES=()
for argument in "$@"; do
  case $argument in
    --dry-run) DEVICE=cpu DRY=(--dry-run) ;;
    contracts | sampling | steps | recipe) STAGES+=("$argument") ;;
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    *) echo "gpu.sh: expected --dry-run, contracts, sampling, steps or recipe, got '$argument'" >&2; exit 2 ;;
  esac
done
[[ $MINUTES =~ ^[1-9][0-9]*$ ]] || { echo "gpu.sh: MINUTES: expected a whole number of at least 1, got '$MINUTES'" >&2; exit 2; }
[[ $PIECES =~ ^[0-9]*$ ]] || { echo "gpu.sh: PIECES: expected a whole number, got '$PIECES'" >&2; exit 2; }
((${#STAGES[@]})) || STAGES=(contracts sampling steps recipe)
mkdir -p "$OUT" || exit 1

found=
for python in ${PYTHON:+"$PYTHON"} .venv/bin/python python3 python; do
  if line=$("$python" benchmarks/gpu.py found --device $DEVICE 2>/dev/null); then found=$python && break; fi
  tried="${tried:-} $python"
done
if [[ -z $found ]]; then
  echo "gpu.sh: none of$tried has a torch that finds a GPU, with numpy, safetensors and pillow; set PYTHON to one that has" >&2
  exit 2
fi
echo "gpu.sh: $line"

begun=$SECONDS limit=$((60 * MINUTES)) status=0
declare -A most=([contracts]=120 [sampling]=150 [steps]=150 [recipe]=100000)
for stage in "${STAGES[@]}"; do
  left=$((limit - (SECONDS - begun) - 10))                       # ten seconds to cut the weights into pieces
  seconds=$((left < most[$stage] ? left : most[$stage]))
  started=$SECONDS
  if ((seconds < 10)); then echo "gpu.sh: no time is left for $stage" >&2; status=1; continue; fi
  for attempt in 1 2 3 4; do                                      # what died is left out the next time
    timeout --kill-after=15 $seconds "$found" benchmarks/gpu.py "$stage" --out "$OUT" --device $DEVICE --seconds $((seconds - 5)) \
      --run "$RUN" --recipe "$RECIPE" --data "$DATA" "${DRY[@]}"
    code=$?
    ((code == 0)) && break
    echo "gpu.sh: $stage ended with $code" >&2
    ((code == 124 || code == 137 || code == 2 || attempt == 4)) && { status=1; break; }
    left=$((limit - (SECONDS - begun) - 10)) seconds=$((most[$stage] - (SECONDS - started)))
    ((seconds > left)) && seconds=$left
    ((seconds < 10)) && { status=1; break; }
  done
done

if [[ -f $RUN/model.safetensors ]]; then
  rm -f "$OUT"/model.tar.* "$OUT"/checkpoint.tar.*
  tar -C "$RUN" -c model.safetensors config.json README.md | split -b 15m -d -a 3 - "$OUT/model.tar."
  tar -C "$RUN" -c run.json metrics.jsonl training.safetensors | split -b 15m -d -a 3 - "$OUT/checkpoint.tar."
  if [[ -n $PIECES ]]; then printf '%s\n' "$OUT"/model.tar.* "$OUT"/checkpoint.tar.* | tail -n +$((10#$PIECES + 1)) | xargs -r rm -f; fi
fi
"$found" benchmarks/gpu.py summary --out "$OUT"
exit $status

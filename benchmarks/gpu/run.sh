#!/usr/bin/env bash
# Everything that needs an NVIDIA GPU, in one command and without an installation: tests, then the
# benchmarks, each one's output in FOLDER. Needs Python with torch (CUDA), timm, pydantic, accelerate.
#
#     benchmarks/gpu/run.sh FOLDER [PYTHON]
#
# A benchmark that fails is told and does not stop the others; the exit code counts failures.
set -u
cd "$(dirname "$0")/../.." || exit 2
folder=${1:?benchmarks/gpu/run.sh FOLDER [PYTHON]}
python=${2:-python3}
export PYTHONPATH=.src
mkdir -p "$folder"
failed=0

measure() {
    local name=$1
    shift
    echo "== $name"
    "$python" "$@" >"$folder/$name.txt" 2>"$folder/$name.err" || {
        failed=$((failed + 1))
        echo "FAILED: $name, see $folder/$name.err"
    }
    tail -n 20 "$folder/$name.txt"
}

nvidia-smi --query-gpu=name,driver_version,clocks.max.sm --format=csv >"$folder/machine.txt"
"$python" -c 'import torch; print(torch.__version__, torch.version.cuda)' >>"$folder/machine.txt"
measure tests -m pytest -q -m "not slow" tests/gpu
measure dfra benchmarks/dfra.py --device cuda
measure step-eager benchmarks/step.py --device cuda --recipe cifar100-vit-s-resnet18
measure step-compiled benchmarks/step.py --device cuda --recipe cifar100-vit-s-resnet18 \
    --set train.compile=true
measure input benchmarks/input.py --device cuda
measure end-to-end benchmarks/end_to_end.py --recipe cifar100-cpu
exit "$failed"

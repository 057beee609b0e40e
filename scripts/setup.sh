#!/usr/bin/env bash
# Makes .venv with everything that is needed, pinned by constraints.txt. Safe to run again.
set -euo pipefail
cd "$(dirname "$0")/.."

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3.11 python3 python3.12 python3.13; do
    if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 &&
      "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "setup: no Python of version 3.11 or later was found; install one or name it: make PYTHON=/path/to/python" >&2
  exit 1
}

# One torch version, two builds: uv picks the CPU build on a machine without a GPU and the fitting CUDA build otherwise.
# Where its index cannot be reached, pip takes what its own configuration offers.
install_torch() {
  local version
  version=$(sed -n 's/^torch==//p' constraints.txt)
  if "$python" -c "import torch, sys; sys.exit(torch.__version__.split('+')[0] != '$version')" 2>/dev/null; then
    return
  fi
  echo "setup: installing torch $version"
  "$python" -m pip install --quiet uv
  UV_HTTP_RETRIES=0 "$python" -m uv pip install --quiet --torch-backend=auto "torch==$version" 2>/dev/null ||
    "$python" -m pip install --quiet "torch==$version"
}

if [ ! -x .venv/bin/python ]; then
  "$(find_python)" -m venv .venv
fi
python=.venv/bin/python
install_torch
extras=dev
if command -v nvidia-smi >/dev/null 2>&1; then extras=dev,gpu; fi
echo "setup: installing dreamset and its dependencies"
"$python" -m pip install --quiet --constraint constraints.txt --editable ".[$extras]"
touch .venv/.installed

#!/usr/bin/env bash
# Makes .venv with everything that is needed, pinned by constraints.txt. Safe to run again, also after an interruption.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "setup: $*" >&2; }

stop() {
  say "$*"
  exit 1
}

require_system() {
  case "$(uname -s)" in
    Linux | Darwin) ;;
    *) stop "this system ($(uname -s)) is not supported; on Windows use WSL: https://learn.microsoft.com/windows/wsl" ;;
  esac
}

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3.11 python3 python3.12 python3.13; do
    if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 &&
      "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  local present
  present=$(python3 --version 2>/dev/null || echo "no python3")
  stop "no Python of version 3.11 or later was found ($present); install one or name it: make PYTHON=/path/to/python"
}

# pip with progress bars in a terminal, and with errors only in a log file
install() {
  local options=(--disable-pip-version-check)
  [ -t 2 ] || options+=(--quiet)
  "$python" -m pip install "${options[@]}" "$@" ||
    stop "the installation failed; if there is no network, set HTTPS_PROXY or PIP_INDEX_URL; \`make setup\` goes on from here"
}

# One torch version, two builds: uv picks the CPU build on a machine without a GPU and the fitting CUDA build otherwise.
# Where its index cannot be reached, pip takes what its own configuration offers.
install_torch() {
  local version
  version=$(sed -n 's/^torch==//p' constraints.txt)
  if "$python" -c "import torch, sys; sys.exit(torch.__version__.split('+')[0] != '$version')" 2>/dev/null; then
    return
  fi
  say "1 of 2: PyTorch $version"
  install uv
  if ! UV_HTTP_RETRIES=0 "$python" -m uv pip install --torch-backend=auto "torch==$version" 2>"$log"; then
    say "the index of PyTorch does not answer; pip takes the build that its own index offers"
    install "torch==$version"
  fi
}

require_system
extras=dev
size="2.7 GB on disk"
if command -v nvidia-smi >/dev/null 2>&1; then
  extras=dev,gpu
  size="about 7 GB on disk, with the CUDA build of PyTorch"
fi
say "installs Dreamset, PyTorch and about 200 packages into .venv: $size, about 4 minutes on a fast connection"
if [ ! -x .venv/bin/python ]; then
  found=$(find_python)
  "$found" -m venv .venv || stop "$found cannot make .venv; on Debian and Ubuntu: sudo apt-get install python3-venv"
fi
python=.venv/bin/python
log=/dev/null
if [ -t 2 ]; then log=/dev/stderr; fi
install_torch
say "2 of 2: dreamset and its other dependencies"
install --constraint constraints.txt --editable ".[$extras]"
touch .venv/.installed
say "finished; \`make demo\` tries the pipeline in two minutes, \`make doctor\` checks this machine"

#!/bin/sh
# pip as cells call it: into the notebook's own folder, see tfgpu_boot/here.py.
exec "${TFGPU_PYTHON:-python3}" -m tfgpu_boot.pip_here "$@"

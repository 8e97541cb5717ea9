"""What runs inside the container. Standard library and ipykernel only; Python 3.6 and up.

The server packs this folder into one archive (:mod:`tfgpu_kernel.bootfile`) that the container's Python runs,
under the name ``tfgpu_boot``; so nothing here imports the rest of the package, and imports within are relative.
"""

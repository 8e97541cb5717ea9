"""Doubles of NVIDIA's driver libraries and container runtime, for machines that have no GPU."""

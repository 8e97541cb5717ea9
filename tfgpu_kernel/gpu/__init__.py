"""The only door to NVML, and how a container is asked for with GPUs."""

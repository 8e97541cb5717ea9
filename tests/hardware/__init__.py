"""Tests that need a real NVIDIA GPU: ``make test-gpu``."""

"""The emulator of csrc/platform.cuh, its build, its own tests, and the planted faults."""

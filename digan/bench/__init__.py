"""What the benchmarks share: the original implementation, run beside ours."""

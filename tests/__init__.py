"""The tests; a package, so that benchmarks and test files can share `tests.op_cases`."""

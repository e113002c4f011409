"""One test file an op; a package, so that the files can share `checks` and `oracles`."""

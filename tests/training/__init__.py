"""Tests of digan.training; a package, so that they can share `stages`."""

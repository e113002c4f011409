"""Tests of digan.nn; a package, so that they can share `original`."""

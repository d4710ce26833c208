"""Tests of the simulator; a package, so that module names may repeat elsewhere."""

"""Tests of the stages between callback and socket."""

"""The daemon as a program."""

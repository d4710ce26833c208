"""What stands in deploy/ is checked like code: loaded, run, and compared with the program."""

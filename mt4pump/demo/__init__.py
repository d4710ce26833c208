"""``mt4pump demo``: a simulated market with its consumers; `programs` says what runs, `process_group` runs it."""

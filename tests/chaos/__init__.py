"""A daemon and its readers under random faults, and a verdict: did every event come once, or was it reported as lost?

``python -m tests.chaos [--seed N] [--events N] [--faults N]``. The modules, in the order of the data:

- `plan`: which fault comes when; pure.
- `pump`: the daemon in a process of its own, with faults on command.
- `reader`: one subscriber in a process of its own, which stores all it receives (`record`) and resumes from it.
- `processes`: starts, kills, stops and restarts those as planned, and asks the daemon for the truth at the end.
- `verdict`: compares what each reader stored with the truth; pure. `report` shows it.
"""

"""The publishing socket: its readers, its interest, its faults on demand."""

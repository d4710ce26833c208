"""The daemon as a process: one instance per data folder, its epoch, signals, systemd, watchdog, standard streams."""

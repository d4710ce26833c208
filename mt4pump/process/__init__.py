"""What all programs of ours share: settings, command lines, log set-up, shutdown, locks, service managers, watchdog."""

"""The daemon as a program: settings to rooms, one instance, signals, reloads, word to systemd."""

"""What all programs of ours share: settings, command lines, shutdown, locks, old files, service managers.

`systemd` pings the service manager's watchdog; the daemon's own hang detector is in `mt4pump.daemon`.
"""

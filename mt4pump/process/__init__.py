"""What all programs of ours share: settings, command lines, shutdown, locks, old files, pings of a service manager's watchdog.

The daemon's own hang detector is in `mt4pump.daemon`.
"""

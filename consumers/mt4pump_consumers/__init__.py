"""The consumers of mt4pump's stream: separate processes that know nothing of the daemon but `mt4pump.client`."""

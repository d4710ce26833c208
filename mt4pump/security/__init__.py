"""Who may connect, and what they may hear: keys, clients' files, permissions, and the gate that judges handshakes."""

from mt4pump.security.authenticator import ZapAuthenticator
from mt4pump.security.permissions import EVERYTHING, NOTHING, Permissions, PermissionsError
from mt4pump.security.plain import PlainGate

__all__ = ["EVERYTHING", "NOTHING", "Permissions", "PermissionsError", "PlainGate", "ZapAuthenticator"]

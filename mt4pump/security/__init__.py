"""Keys, clients' files, permissions, and the thread that authenticates connections."""

from mt4pump.security.authenticator import ZapAuthenticator
from mt4pump.security.permissions import EVERYTHING, NOTHING, Permissions, PermissionsError
from mt4pump.security.zap import PlainAuthenticator

__all__ = ["EVERYTHING", "NOTHING", "Permissions", "PermissionsError", "PlainAuthenticator", "ZapAuthenticator"]

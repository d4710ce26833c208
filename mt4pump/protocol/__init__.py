"""The wire as tables: every field of every message, its type, its unit, its meaning; pure.

One source for the ``describe`` reply, the tables of ``PROTOCOL.md`` and the JSON schemas;
``python -m mt4pump.protocol`` writes the tables and prints the schemas.
"""

from mt4pump.protocol.kinds import ContractOptions, common_fields, fields_of, kinds_for

__all__ = ["ContractOptions", "common_fields", "fields_of", "kinds_for"]

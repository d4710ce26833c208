"""The wire contract: `protocol.toml` describes every field of every message with type, unit and meaning.

`contract` reads it and applies the settings → `documents`: JSON Schema, AsyncAPI. The ``describe`` reply, the tables of
PROTOCOL.md (``python -m tests.protocol`` writes them) and the schemas come from here.
"""

from mt4pump.protocol.contract import ContractOptions, common_fields, contract, fields_of, kinds_for

__all__ = ["ContractOptions", "common_fields", "contract", "fields_of", "kinds_for"]

"""The wire contract: `protocol.toml` describes every field of every message with type, unit and meaning.

`contract` reads it → `kinds` applies the settings → `json_schema` → `asyncapi`. The ``describe`` reply, the tables of
PROTOCOL.md (``python -m tests.protocol`` writes them) and the schemas come from here.
"""

from mt4pump.protocol.contract import contract
from mt4pump.protocol.kinds import ContractOptions, common_fields, fields_of, kinds_for

__all__ = ["ContractOptions", "common_fields", "contract", "fields_of", "kinds_for"]

"""The parameters of the server's plugins: read beside the table of plugins, and compared as its rows are."""

from __future__ import annotations

from collections.abc import Iterator

from mt4pump.complaints import Complaints
from mt4pump.desks.reader import Reader
from mt4pump.errors import ConnectionLost, LayoutError, ManagerError
from mt4pump.manager_api.decode import Decoder, Fields
from mt4pump.manager_api.layout import CON_PLUGIN, PLUGIN_CFG
from mt4pump.tables import DELETE

Parameters = list[Fields]


class PluginParameters:
    """The parameters of each plugin as last told; a plugin is known by its ``file``.

    The API rings for a changed parameter as for a changed plugin, and the plugin's row is then the same as before.
    """

    def __init__(self, reader: Reader, complaints: Complaints, encoding: str) -> None:
        self._reader = reader
        self._complaints = complaints
        self._plugin = Decoder(CON_PLUGIN, encoding)
        self._parameter = Decoder(PLUGIN_CFG, encoding)
        self._plugins: list[Fields] = []
        self._read: dict[str, Parameters] = {}
        self._told: dict[str, Parameters | None] = {}

    def read(self, array: bytes) -> None:
        """Read the parameters of the plugins of ``array``, a ConPlugin table; raises ConnectionLost.

        Those that cannot be read, or not at all with this library (64 bit), are no change; a failure is counted.
        """
        plugins = list(self._plugin.many(array))
        parameters = {fields["file"]: self._read_one(position) for position, fields in enumerate(plugins)}
        # The API knows parameters by position: if plugins came or went meanwhile, they may be those of another one.
        # This read also fails when the session is dying, as its answers are not to be believed then.
        again = self._plugin.many(self._reader.manager.table("plugins"))
        if [fields["file"] for fields in again] != [fields["file"] for fields in plugins]:
            parameters = {}  # the bell for what changed is on its way
        self._plugins = plugins
        self._read = {file: read for file, read in parameters.items() if read is not None}

    def changed(self) -> Iterator[Fields]:
        """Yield the plugins whose parameters are others than last told; those not known before are nobody's news."""
        for fields in self._plugins:
            file = fields["file"]
            if file in self._read and self._told.setdefault(file, self._read[file]) != self._read[file]:
                yield fields

    def with_parameters(self, fields: Fields) -> Fields:
        """Return a plugin's ``fields`` as they are told: with its parameters, None where they are not known."""
        file = fields["file"]
        if fields["action"] == DELETE:
            self._told.pop(file, None)
            return {**fields, "parameters": None}
        self._told[file] = self._read.get(file)
        return {**fields, "parameters": self._told[file]}

    def _read_one(self, position: int) -> Parameters | None:
        try:
            array = self._reader.manager.plugin_parameters(position)
            return None if array is None else list(self._parameter.many(array))
        except ConnectionLost:
            raise
        except ManagerError as error:
            self._complaints.add("read_error", error)
        except LayoutError as error:
            self._complaints.add("bad_record", error)
        return None

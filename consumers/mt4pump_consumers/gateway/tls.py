"""TLS by certificate files, which may change while the gateway runs."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

log = logging.getLogger(__name__)


class Tls:
    """The certificate; new connections get the new one when its files change."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self._seen = self._stamp()
        self._trouble = ""
        self.context = self._load()

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(*self._files)
        return context

    def _stamp(self) -> list[int]:
        return [file.stat().st_mtime_ns for file in self._files]

    def reload(self) -> None:
        """Take over changed files; files that are no pair leave the old ones in use."""
        try:
            stamp = self._stamp()
            if stamp != self._seen:
                self._load()  # files that are no pair would take the key from the context that is in use
                self.context.load_cert_chain(*self._files)
                self._seen = stamp  # only now: files that could not be read for a moment are read again
                log.info("certificate %s was read again", self._files[0])
            self._trouble = ""
        except OSError as error:  # ssl.SSLError is one
            if self._trouble != str(error):
                log.warning("certificate %s cannot be used (%s); the one before stays", self._files[0], error)
            self._trouble = str(error)

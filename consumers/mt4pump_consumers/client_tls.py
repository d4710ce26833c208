"""Which authorities the programs trust that ask servers over HTTPS: the monitor's webhook, the archive's ClickHouse."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import httpx

from mt4pump.process.program import StartError

FILE_VARIABLE, FOLDER_VARIABLE = "SSL_CERT_FILE", "SSL_CERT_DIR"


def trusted_servers() -> ssl.SSLContext:
    """Return what checks a server's certificate, by the variables that httpx reads; raises StartError.

    They are read here, not by httpx: one version ignores a file that is missing, another raises, and of a folder that
    is missing OpenSSL says nothing until every server is refused.
    """
    file, folder = os.environ.get(FILE_VARIABLE), os.environ.get(FOLDER_VARIABLE)
    if not file and folder:
        if not Path(folder).is_dir():
            text = f"{FOLDER_VARIABLE} {folder} cannot be used (no such folder)"
            raise StartError(f"{text}: name a folder of PEM certificates, or unset it")
        return ssl.create_default_context(capath=folder)
    if not file:
        return httpx.create_ssl_context()
    try:
        return ssl.create_default_context(cafile=file)
    except OSError as error:
        # The text of an SSLError names a line of CPython's source.
        reason = "it holds no certificate that can be read" if isinstance(error, ssl.SSLError) else error.strerror
        text = f"{FILE_VARIABLE} {file} cannot be used ({reason})"
        raise StartError(f"{text}: name a PEM file of certificates, or unset it") from error

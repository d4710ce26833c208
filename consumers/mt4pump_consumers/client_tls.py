"""The authorities that programs trust which send requests over HTTPS: monitor (webhook) and archive (ClickHouse)."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import httpx

from mt4pump.process.program import StartError

FILE_VARIABLE, FOLDER_VARIABLE = "SSL_CERT_FILE", "SSL_CERT_DIR"


def trusted_servers(*, is_encrypted: bool) -> ssl.SSLContext:
    """Return what checks a server's certificate, by the variables that httpx reads; raises StartError.

    They are read here, not by httpx: one version ignores a file that is missing, another raises, and of a folder that
    is missing OpenSSL says nothing until every server is refused. Without encryption there is nothing to check: the
    variables are not read then, and no server is trusted.
    """
    if not is_encrypted:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # given none, httpx would make one of the variables
    file, folders = os.environ.get(FILE_VARIABLE), os.environ.get(FOLDER_VARIABLE)
    if not file and folders:
        if not any(Path(folder).is_dir() for folder in folders.split(os.pathsep) if folder):
            text = f"{FOLDER_VARIABLE} {folders} cannot be used (no such folder): name a folder of PEM certificates"
            raise StartError(f"{text} with the names that openssl rehash makes, or use {FILE_VARIABLE}")
        return ssl.create_default_context(capath=folders)
    if not file:
        return httpx.create_ssl_context()
    try:
        return ssl.create_default_context(cafile=file)
    except OSError as error:
        # The text of an SSLError names a line of CPython's source.
        reason = "it holds no certificate that can be read" if isinstance(error, ssl.SSLError) else error.strerror
        text = f"{FILE_VARIABLE} {file} cannot be used ({reason})"
        raise StartError(f"{text}: name a PEM file of certificates, or unset it") from error

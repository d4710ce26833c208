"""NSSM 2.24, the last release, takes the parameters of a service as 2.24-101 does (`test_service`)."""

from __future__ import annotations

from tests.wine.machine import Machine
from tests.wine.test_service import Service


def test_it_takes_all_parameters_and_an_installation_may_be_repeated(windows: Machine) -> None:
    service = Service(windows, windows.nssm_release())
    try:
        assert "mt4pump-metrics: installed" in service.must("install", "metrics")
        assert "mt4pump-metrics: was installed" in service.must("install", "metrics"), "again, with the same result"
        parameters = service.result("get", "mt4pump-metrics", "AppParameters")
        settings = r'"C:\mt4 pump\metrics\mt4pump-metrics.toml"'
        assert parameters == f"-X utf8 -u -m mt4pump_consumers.metrics --config {settings}"
    finally:
        assert "mt4pump-metrics: removed" in service.must("remove", "metrics")

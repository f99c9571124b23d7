"""The run: cases -> world -> records -> checks -> one result, told as a stream of events while it goes on."""

from siglip_verify.run.whole import check, run, run_case
from siglip_verify.run.settings import Settings, SettingsError, settings

__all__ = ["Settings", "SettingsError", "check", "run", "run_case", "settings"]

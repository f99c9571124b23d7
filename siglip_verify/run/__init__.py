"""The run: cases -> world -> records -> checks -> one result, told as a stream of events while it goes on."""

from siglip_verify.run.messages import count_messages
from siglip_verify.run.settings import Settings, SettingsError, settings
from siglip_verify.run.whole import check, run, run_case

__all__ = ["Settings", "SettingsError", "check", "count_messages", "run", "run_case", "settings"]

"""The caretaker of the house: its dependencies and its records, looked at and repaired."""

from adapters.house_care.care import HouseCare
from adapters.house_care.house import Dependencies, house_care
from adapters.house_care.record_care import RecordCare

__all__ = ["Dependencies", "HouseCare", "RecordCare", "house_care"]

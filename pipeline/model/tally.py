"""What a requirement has spent of its bounds: reds by gate, reviews, fixes."""

from dataclasses import dataclass, field

from pipeline.model.failures import Failure


@dataclass
class Tally:
    """Counts that outlive rounds. Gates are named as in `Failure.gate`.

    `repeated` are gates whose latest red said the same as the one before, `given_up` those whose
    fixes came to an end, with the reason; a human's answer for a gate clears what stands of it.
    """

    reds: dict[str, int] = field(default_factory=dict)
    signatures: dict[str, str] = field(default_factory=dict)
    repeated: dict[str, bool] = field(default_factory=dict)
    given_up: dict[str, str] = field(default_factory=dict)
    reviews: int = 0
    fixes: int = 0
    counted: dict[str, bool] = field(default_factory=dict)
    """Gates that were counted since the last report: red on two commits of a round is red once."""

    def count(self, failure: Failure) -> None:
        """Count a red, and see whether its owner hears the same words again."""
        if not failure.kind.is_red:
            return
        gate, owners = failure.gate, ",".join(failure.owners)
        said = f"{owners} {failure.signature}" if failure.signature else ""
        if gate not in self.counted:
            self.reds[gate] = self.reds.get(gate, 0) + 1
            self.repeated[gate] = bool(said) and self.signatures.get(gate) == said
        self.signatures[gate] = said
        self.counted[gate] = True

    def close_round(self) -> None:
        """All that is red was reported: what is red from now on counts again."""
        self.counted.clear()

    def reset_streak(self, gate: str) -> None:
        """The gate is green: a later red is not one in a row."""
        for said in (self.signatures, self.repeated, self.given_up):
            said.pop(gate, None)

    def reset(self, gate: str) -> None:
        """A human answers for the gate: count its reds from zero."""
        self.reset_streak(gate)
        for counts in (self.reds, self.counted):
            counts.pop(gate, None)

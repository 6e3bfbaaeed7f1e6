"""What a run would do, counted contact by contact. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from outreach.email.compiled import BoundEmail
from outreach.template.placeholders import BoundTemplate
from outreach.template.segments import segments
from outreach.template.sms import is_sms_too_long
from outreach.vocabulary import MissingVariablePolicy


@dataclass(slots=True)
class SmsEstimate:
    """Totals of an SMS campaign; `add` one contact after the other.

    A suppressed contact counts as that alone. One that the policy skips, or whose text is too long,
    is not sent to and has no segments.
    """

    template: BoundTemplate
    policy: MissingVariablePolicy
    to_send: int = 0
    suppressed: int = 0
    missing_variables: int = 0
    missing_by_variable: Counter[str] = field(default_factory=Counter)
    skipped: int = 0
    too_long: int = 0
    segments_min: int = 0
    segments_max: int = 0
    segments_total: int = 0

    def add(self, values: Sequence[str | None], *, suppressed: bool) -> None:
        """One contact, with its values in column order."""
        if suppressed:
            self.suppressed += 1
            return
        missing = self.template.missing(values)
        if missing:
            self.missing_variables += 1
            self.missing_by_variable.update(missing)
            if self.policy is MissingVariablePolicy.SKIP:
                self.skipped += 1
                return
        text = self.template.render(values)
        if is_sms_too_long(text):
            self.too_long += 1
            return
        count = segments(text).segments
        self.segments_min = count if self.to_send == 0 else min(self.segments_min, count)
        self.segments_max = max(self.segments_max, count)
        self.segments_total += count
        self.to_send += 1

    @property
    def segments_mean(self) -> float:
        """Segments a message; 0 when nothing would be sent."""
        return self.segments_total / self.to_send if self.to_send else 0.0


@dataclass(slots=True)
class EmailEstimate:
    """Totals of an email campaign; `add` one contact after the other.

    A suppressed contact counts as that alone; one that the policy skips is not sent to.
    """

    template: BoundEmail
    policy: MissingVariablePolicy
    to_send: int = 0
    suppressed: int = 0
    missing_variables: int = 0
    missing_by_variable: Counter[str] = field(default_factory=Counter)
    skipped: int = 0

    def add(self, values: Sequence[str | None], *, suppressed: bool) -> None:
        """One contact, with its values in column order."""
        if suppressed:
            self.suppressed += 1
            return
        missing = self.template.missing(values)
        if missing:
            self.missing_variables += 1
            self.missing_by_variable.update(missing)
            if self.policy is MissingVariablePolicy.SKIP:
                self.skipped += 1
                return
        self.to_send += 1

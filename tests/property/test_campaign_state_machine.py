"""Random sequences of everything that can happen to campaigns, against the real database and a model written here.

The model knows the product's rules by itself: after every step the service's statuses, counts, allowed actions,
messages and who holds a channel are what it says. Calls that this version does not serve yet are left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from outreach.errors import OutreachError
from outreach.internal.v1 import delivery_pb2 as pb
from outreach.v1 import campaign_pb2, campaign_pb2_grpc, channel_pb2, message_pb2
from outreach.v1.failure_reason_pb2 import FAILURE_REASON_ACCOUNT_PROBLEM
from outreach.vocabulary import (
    CampaignAction,
    CampaignStatus,
    Channel,
    FailureReason,
    MessageStatus,
    Outcome,
)
from tests.campaign_service import Service, Tenant, campaign_service, recipient
from tests.email_campaigns import email_content

S, C, R, A = MessageStatus, CampaignStatus, FailureReason, CampaignAction

CONTACTS_MAX = 4
CAMPAIGNS_MAX = 4
POINTLESS = {
    R.INVALID_RECIPIENT,
    R.CONTENT_REJECTED,
    R.MISSING_VARIABLE,
    R.PREVIOUSLY_BOUNCED,
    R.UNCONFIRMED,
}


def served(method: str) -> bool:
    """Whether this version's servicer has the method."""
    from services.campaign.rpc.campaigns import CampaignServicer

    base = getattr(campaign_pb2_grpc.CampaignServiceServicer, method)
    return getattr(CampaignServicer, method) is not base


STOP, RETRY, DELETE = map(served, ("StopCampaign", "RetryMessages", "DeleteCampaign"))


@dataclass
class Message:
    """A contact's message, by the rules."""

    recipient: str
    status: MessageStatus = S.WAITING
    reason: FailureReason | None = None
    attempt: int = 0
    unknown: bool = False

    def learn(self, channel: Channel, outcome: Outcome, reason: FailureReason) -> None:
        """What a report about the latest attempt makes of it."""
        target = self._target(channel, outcome)
        if target is None:
            if outcome is Outcome.UNKNOWN and self.status is S.SENDING:
                self.unknown = True
            return
        self.status = target
        self.reason = reason if target is S.FAILED else None
        self.unknown = False

    def _target(self, channel: Channel, outcome: Outcome) -> MessageStatus | None:
        email = channel is Channel.EMAIL
        failed = outcome in (Outcome.FAILED, Outcome.REJECTED)
        gave_up = self.status is S.FAILED and self.reason is R.UNCONFIRMED
        if outcome is Outcome.DELIVERED:
            later = self.status in (S.SENDING, S.SENT, S.RETRYING, S.ASSUMED_DELIVERED)
            return S.DELIVERED if later or gave_up else None
        if failed:
            open_ = self.status in (S.SENDING, S.SENT, S.RETRYING, S.ASSUMED_DELIVERED)
            bounced = email and self.status is S.DELIVERED
            return S.FAILED if open_ or bounced or gave_up else None
        if outcome is Outcome.ACCEPTED:
            if gave_up and not email:
                return S.ASSUMED_DELIVERED
            return S.SENT if self.status is S.SENDING else None
        if outcome is Outcome.DEFERRED:
            return S.RETRYING if email and self.status in (S.SENDING, S.SENT) else None
        if outcome is Outcome.OPTED_OUT:
            return S.OPTED_OUT if self.status in (S.SENDING, S.SENT, S.RETRYING) else None
        if outcome is Outcome.HANDED_BACK:
            return S.QUEUED if self.status is S.SENDING else None
        return None


@dataclass
class Model:
    """A campaign, by the rules."""

    id: str
    channel: Channel
    valid: bool = True
    run: int = 0
    stopped: bool = False
    failed: bool = False
    messages: dict[int, Message] = field(default_factory=dict)

    def count(self, *statuses: MessageStatus) -> int:
        return sum(1 for each in self.messages.values() if each.status in statuses)

    @property
    def status(self) -> CampaignStatus:
        if self.run == 0:
            return C.READY if self.messages and self.valid else C.CREATED
        if self.count(S.QUEUED, S.SENDING, S.SENT):
            return C.IN_PROGRESS
        if self.failed:
            return C.FAILED
        if self.count(S.RETRYING):
            return C.ACTIVE_RETRIES
        return C.COMPLETE_WITH_ERRORS if self.count(S.FAILED) else C.COMPLETE

    @property
    def actions(self) -> set[CampaignAction]:
        status, found = self.status, {A.EXPORT}
        if status in (C.CREATED, C.READY):
            found |= {A.UPDATE, A.DELETE}
        if status is C.CREATED and not self.messages:
            found.add(A.IMPORT_CONTACTS)
        if status is C.READY:
            found.add(A.RUN)
        if status is C.IN_PROGRESS and not self.stopped:
            found.add(A.STOP)
        if status in (C.COMPLETE, C.COMPLETE_WITH_ERRORS, C.FAILED):
            found.add(A.DELETE)
            if status is C.COMPLETE_WITH_ERRORS or self.count(S.CANCELLED):
                found.add(A.RETRY)
        return found

    def open_run(self) -> None:
        self.run += 1
        self.stopped = self.failed = False


PICK = st.integers(0, CAMPAIGNS_MAX - 1)
NUMBER = st.integers(1, CONTACTS_MAX)
REASON = st.sampled_from([R.UNREACHABLE, R.INVALID_RECIPIENT, R.OTHER])


class Campaigns(RuleBasedStateMachine):
    """One organisation with both channels."""

    def __init__(self, runner: asyncio.Runner, service: Service) -> None:
        super().__init__()
        self._runner = runner
        self._service = service
        self.models: list[Model] = []
        self.deleted: list[Model] = []
        self.suppressed: set[tuple[Channel, str]] = set()
        self.instance = uuid4()
        self.tenant: Tenant

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    def ask(self, method: str, request: Any, *reasons: str) -> Any:
        """The answer; with `reasons` the refusal for one of them."""
        try:
            answer = self.do(self.tenant.call(getattr(self.tenant.campaigns, method), request))
        except OutreachError as error:
            answer = error
        if isinstance(answer, OutreachError):
            assert answer.reason in reasons, (method, answer, reasons)
        else:
            assert not reasons, (method, "was not refused", reasons)
        return answer

    def model(self, pick: int) -> Model:
        return self.models[pick % len(self.models)]

    def refusals(self, model: Model, action: CampaignAction) -> list[str]:
        return [] if action in model.actions else ["ACTION_NOT_ALLOWED"]

    def holder(self, channel: Channel) -> Model | None:
        holders = [m for m in self.models if m.channel is channel and m.status is C.IN_PROGRESS]
        assert len(holders) <= 1
        return holders[0] if holders else None

    @initialize()
    def begin(self) -> None:
        self.tenant = self.do(self._service.tenant(channels=tuple(Channel)))
        for channel in Channel:
            self._create(channel)

    def _create(self, channel: Channel) -> None:
        fields: dict[str, Any] = {}
        if channel is Channel.EMAIL:
            wire = channel_pb2.CHANNEL_EMAIL
            fields = {"sms": None, "channel": wire, "email": email_content()}
        created = self.do(self.tenant.create(**fields))
        self.models.append(Model(created.id, channel))

    @precondition(lambda self: len(self.models) < CAMPAIGNS_MAX)
    @rule(channel=st.sampled_from(Channel))
    def create(self, channel: Channel) -> None:
        self._create(channel)

    @rule(pick=PICK, valid=st.booleans())
    def edit(self, pick: int, valid: bool) -> None:
        model = self.model(pick)
        campaign = campaign_pb2.Campaign(id=model.id)
        if model.channel is Channel.SMS:
            campaign.sms.body, path = ("Hello {{name}}" if valid else ""), "sms.body"
        else:
            campaign.email.subject, path = ("Hi {{name}}" if valid else ""), "email.subject"
        request = campaign_pb2.UpdateCampaignRequest(
            campaign=campaign, update_mask=FieldMask(paths=[path])
        )
        reasons = self.refusals(model, A.UPDATE)
        self.ask("UpdateCampaign", request, *reasons)
        if not reasons:
            model.valid = valid

    @rule(pick=PICK, contacts=NUMBER)
    def import_contacts(self, pick: int, contacts: int) -> None:
        model = self.model(pick)
        if A.IMPORT_CONTACTS not in model.actions:
            return
        names = [[f"Name {each}"] for each in range(contacts)]
        self.do(self._service.put_contacts(self.tenant, model.id, names))
        model.messages = {
            each: Message(recipient(each, model.channel)) for each in range(1, contacts + 1)
        }

    def _version(self) -> str:
        version: str = self.do(self.tenant.disclaimer_version())
        return version

    @rule(pick=PICK)
    def run(self, pick: int) -> None:
        model = self.model(pick)
        request = campaign_pb2.RunCampaignRequest(
            id=model.id, accepted_disclaimer_version=self._version()
        )
        holder = self.holder(model.channel)
        reasons = self.refusals(model, A.RUN)
        if not reasons and holder is not None:
            reasons = ["CHANNEL_BUSY"]
        answer = self.ask("RunCampaign", request, *reasons)
        if reasons == ["CHANNEL_BUSY"] and holder is not None:
            assert holder.id in answer.metadata.values()
        if not reasons:
            model.open_run()
            for message in model.messages.values():
                message.status = S.QUEUED

    @precondition(lambda self: STOP)
    @rule(pick=PICK)
    def stop(self, pick: int) -> None:
        model = self.model(pick)
        reasons = self.refusals(model, A.STOP)
        self.ask("StopCampaign", campaign_pb2.StopCampaignRequest(id=model.id), *reasons)
        model.stopped = model.stopped or not reasons

    @precondition(lambda self: RETRY)
    @rule(pick=PICK, numbers=st.sets(NUMBER, min_size=1), force=st.booleans())
    def retry_numbers(self, pick: int, numbers: set[int], force: bool) -> None:
        model = self.model(pick)
        chosen = sorted(numbers & model.messages.keys())
        if not chosen:
            return
        messages = [model.messages[each] for each in chosen]
        bad = [
            each
            for each in messages
            if each.status not in (S.FAILED, S.CANCELLED)
            or (each.reason in POINTLESS and not force)
        ]
        request = campaign_pb2.RetryMessagesRequest(
            campaign_id=model.id, force=force, numbers=campaign_pb2.MessageNumbers(numbers=chosen)
        )
        self._retry(model, request, messages, ["MESSAGE_NOT_RETRYABLE"] if bad else [])

    @precondition(lambda self: RETRY)
    @rule(
        pick=PICK,
        statuses=st.sets(st.sampled_from([S.FAILED, S.CANCELLED])),
        reasons=st.sets(REASON),
        force=st.booleans(),
    )
    def retry_filter(
        self,
        pick: int,
        statuses: set[MessageStatus],
        reasons: set[FailureReason],
        force: bool,
    ) -> None:
        model = self.model(pick)
        wanted = statuses or {S.FAILED}
        if S.FAILED not in wanted:
            reasons = set()  # only failed ones have any: a filter by reason would be refused
        matching = [
            each
            for each in model.messages.values()
            if each.status in wanted
            and (each.status is S.CANCELLED or not reasons or each.reason in reasons)
        ]
        retried = [each for each in matching if force or each.reason not in POINTLESS]
        request = campaign_pb2.RetryMessagesRequest(
            campaign_id=model.id,
            force=force,
            filter=campaign_pb2.RetryFilter(
                statuses=[message_pb2.MessageStatus.ValueType(each) for each in sorted(statuses)],
                failure_reasons=sorted(reasons),  # type: ignore[arg-type] # the same numbers
            ),
        )
        answer = self._retry(model, request, retried, [] if retried else ["NOTHING_TO_RETRY"])
        if answer is not None:
            assert answer.not_retryable == len(matching) - len(retried)

    def _retry(self, model: Model, request: Any, retried: list[Message], refused: list[str]) -> Any:
        request.accepted_disclaimer_version = self._version()
        reasons = self.refusals(model, A.RETRY)
        if not reasons:
            # Which of several refusals comes first is not promised.
            reasons = refused + (["CHANNEL_BUSY"] if self.holder(model.channel) else [])
        answer = self.ask("RetryMessages", request, *reasons)
        if reasons:
            return None
        assert answer.retried == len(retried)
        model.open_run()
        for message in retried:
            message.status, message.reason = S.QUEUED, None
        return answer

    @precondition(lambda self: DELETE and len(self.models) > 1)
    @rule(pick=PICK)
    def delete(self, pick: int) -> None:
        model = self.model(pick)
        reasons = self.refusals(model, A.DELETE)
        self.ask("DeleteCampaign", campaign_pb2.DeleteCampaignRequest(id=model.id), *reasons)
        if not reasons:
            self.models.remove(model)
            self.deleted.append(model)

    @rule(channel=st.sampled_from(Channel), limit=NUMBER)
    def claim(self, channel: Channel, limit: int) -> None:
        model = self.holder(channel) or next(m for m in self.models)
        claims = self._service.parts.delivery.claims
        claimed = self.do(
            claims.claim(self.instance, UUID(model.id), model.run, 1, CONTACTS_MAX, limit)
        )
        expected = []
        if model.status is C.IN_PROGRESS and not model.stopped and not model.failed:
            queued = [n for n, each in sorted(model.messages.items()) if each.status is S.QUEUED]
            for number in queued[:limit]:
                message = model.messages[number]
                if (model.channel, message.recipient) in self.suppressed:
                    message.status = S.OPTED_OUT
                else:
                    message.status = S.SENDING
                    message.attempt += 1
                    expected.append((number, message.attempt))
        assert [(each.number, each.attempt) for each in claimed.messages] == expected

    def _apply(self, **batch: Any) -> None:
        reports = self._service.parts.delivery.reports
        self.do(reports.apply([pb.ReportBatch(sequence=1, **batch)]))

    @rule(
        pick=PICK,
        number=NUMBER,
        outcome=st.sampled_from(Outcome),
        reason=REASON,
        lag=st.sampled_from([0, 0, 0, 0, 1, -1]),
        times=st.integers(1, 2),
    )
    def report(
        self,
        pick: int,
        number: int,
        outcome: Outcome,
        reason: FailureReason,
        lag: int,
        times: int,
    ) -> None:
        """In any order, late, repeated, about an earlier attempt or one that there never was."""
        model = self.model(pick)
        message = model.messages.get(number)
        attempt = (message.attempt if message else 1) - lag
        told = pb.Report(
            number=number,
            attempt=attempt,
            outcome=pb.Outcome.ValueType(outcome),
            failure_reason=int(reason),  # type: ignore[arg-type] # the same numbers
        )
        part = pb.CampaignReports(campaign_id=model.id, reports=[told])
        for _ in range(times):
            self._apply(campaigns=[part])
            if message is not None and message.attempt == attempt:
                message.learn(model.channel, outcome, reason)
        if message is not None and outcome is Outcome.OPTED_OUT:
            self.suppressed.add((model.channel, message.recipient))

    @precondition(lambda self: self.deleted)
    @rule(number=NUMBER, outcome=st.sampled_from(Outcome))
    def report_of_a_deleted_one(self, number: int, outcome: Outcome) -> None:
        told = pb.Report(number=number, attempt=1, outcome=pb.Outcome.ValueType(outcome))
        part = pb.CampaignReports(campaign_id=self.deleted[-1].id, reports=[told])
        self._apply(campaigns=[part])

    @rule(channel=st.sampled_from(Channel), stale=st.booleans())
    def fail_campaign(self, channel: Channel, stale: bool) -> None:
        """The provider refuses the account; a report of an earlier run means nothing."""
        model = self.holder(channel)
        if model is None:
            return
        failure = pb.CampaignFailureReport(
            campaign_id=model.id,
            run=model.run - stale,
            failure_reason=FAILURE_REASON_ACCOUNT_PROBLEM,
            provider_code="401",
        )
        self._apply(campaign_failures=[failure])
        model.failed = model.failed or not stale

    @rule(channel=st.sampled_from(Channel), number=NUMBER, out=st.booleans())
    def opt(self, channel: Channel, number: int, out: bool) -> None:
        who, time = recipient(number, channel), Timestamp()
        time.GetCurrentTime()
        action = pb.OPT_OUT_ACTION_ADD if out else pb.OPT_OUT_ACTION_REMOVE
        opt_out = pb.OptOut(
            organisation_id=str(self.tenant.organisation_id),
            channel=channel_pb2.Channel.ValueType(channel),
            recipient=who,
            action=action,
            time=time,
            source="reply",
        )
        self._apply(opt_outs=[opt_out])
        if out:
            self.suppressed.add((channel, who))
        else:
            self.suppressed.discard((channel, who))

    @rule()
    def instance_ends(self) -> None:
        """A sender is gone: what it had claimed and not begun is queued again."""
        self._apply(ended_instances=[pb.EndedInstance(instance_id=str(self.instance))])
        self.instance = uuid4()
        for model in self.models:
            for message in model.messages.values():
                # What may have gone out is no instance's any more.
                if message.status is S.SENDING and not message.unknown:
                    message.status = S.QUEUED

    def _sweep(self, sweep: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
        sweepers = self._service.parts.sweepers
        sweepers._timers = replace(
            sweepers._timers,
            assumed_delivered_after_seconds=0.0,
            unconfirmed_after_seconds=0.0,
            email_timed_out_after_seconds=0.0,
        )
        self.do(sweep(sweepers))

    def _each(self, *statuses: MessageStatus) -> Iterator[tuple[Model, Message]]:
        for model in self.models:
            for message in model.messages.values():
                if message.status in statuses:
                    yield model, message

    @rule()
    def timer_of_receipts(self) -> None:
        self._sweep(lambda sweepers: sweepers.assume_delivered())
        for model, message in self._each(S.SENT):
            if model.channel is Channel.SMS:
                message.status = S.ASSUMED_DELIVERED

    @rule()
    def timer_of_deferrals(self) -> None:
        self._sweep(lambda sweepers: sweepers.time_out_emails())
        for model, message in self._each(S.SENT, S.RETRYING):
            if model.channel is Channel.EMAIL:
                message.status, message.reason = S.FAILED, R.TIMED_OUT

    @rule()
    def timer_of_unknown_ones(self) -> None:
        self._sweep(lambda sweepers: sweepers.give_up_unknown())
        for _, message in self._each(S.SENDING):
            if message.unknown:
                message.status, message.reason, message.unknown = S.FAILED, R.UNCONFIRMED, False

    @rule()
    def cancel_queued(self) -> None:
        self._sweep(lambda sweepers: sweepers.cancel_queued())
        for model, message in self._each(S.QUEUED):
            if model.stopped or model.failed:
                message.status = S.CANCELLED

    @invariant()
    def agrees(self) -> None:
        if hasattr(self, "tenant"):
            self.do(self._check())

    async def _check(self) -> None:
        for model in self.models:
            campaign = await self.tenant.get(model.id)
            assert C(campaign.status) is model.status, (model, campaign)
            assert {A(each) for each in campaign.allowed_actions} == model.actions, model
            assert campaign.run == model.run
            assert campaign.HasField("stop_time") == model.stopped
            for status in MessageStatus:
                assert getattr(campaign.counts, status.name.lower()) == model.count(status), model
            assert campaign.counts.total == len(model.messages)
            await self._check_messages(model)
        for model in self.deleted:
            with pytest.raises(OutreachError) as info:
                await self.tenant.get(model.id)
            assert info.value.reason == "CAMPAIGN_NOT_FOUND"
        held = await self._service.pool.fetch(
            "SELECT id, channel FROM campaign WHERE organisation_id = $1 AND holds_channel",
            self.tenant.organisation_id,
        )
        holders = [(channel, self.holder(channel)) for channel in Channel]
        assert {(row["channel"], str(row["id"])) for row in held} == {
            (channel, holder.id) for channel, holder in holders if holder is not None
        }

    async def _check_messages(self, model: Model) -> None:
        request = message_pb2.ListMessagesRequest(campaign_id=model.id)
        answer = await self.tenant.call(self.tenant.messages.ListMessages, request)
        told = {
            each.number: (each.status, each.failure_reason, each.attempt, each.retryable)
            for each in answer.messages
        }
        assert told == {
            number: (each.status, each.reason or 0, each.attempt, _retryable(each))
            for number, each in model.messages.items()
        }


def _retryable(message: Message) -> bool:
    if message.status is S.FAILED:
        return message.reason not in POINTLESS
    return message.status is S.CANCELLED


def test_every_sequence_of_actions_and_events(database_dsn: str) -> None:
    async def opened() -> tuple[AsyncExitStack, Service]:
        stack = AsyncExitStack()
        return stack, await stack.enter_async_context(campaign_service(database_dsn))

    with asyncio.Runner() as runner:
        stack, service = runner.run(opened())
        try:
            run_state_machine_as_test(
                lambda: Campaigns(runner, service),  # type: ignore[arg-type] # any factory will do
                settings=settings(
                    max_examples=30,
                    stateful_step_count=40,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(stack.aclose())

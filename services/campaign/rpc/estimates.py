"""Previews and estimates as the public protos."""

from google.protobuf.duration_pb2 import Duration

from outreach.v1 import campaign_pb2
from services.campaign.rpc.convert import size_to_proto
from services.campaign.rpc.email_protos import warning_to_proto
from services.campaign.store.organisations import ChannelTerms
from services.campaign.usecases.estimate_campaign import EmailTotals, SmsTotals
from services.campaign.usecases.preview_campaign import SmsPreview
from services.campaign.usecases.preview_email import EmailPreview


def preview_to_proto(preview: SmsPreview | EmailPreview) -> campaign_pb2.PreviewCampaignResponse:
    """A message as one recipient would get it."""
    message = campaign_pb2.PreviewCampaignResponse(missing_variables=preview.missing_variables)
    if isinstance(preview, SmsPreview):
        sms = campaign_pb2.SmsPreview(text=preview.text, size=size_to_proto(preview.size))
        message.sms.CopyFrom(sms)
        return message
    email = preview.email
    message.email.subject = email.subject
    message.email.preheader = email.preheader
    message.email.html = email.html
    message.email.text = email.text
    message.email.size.html_bytes = email.html_bytes
    message.email.size.text_bytes = email.text_bytes
    message.email.warnings.extend(map(warning_to_proto, preview.warnings))
    return message


def estimate_to_proto(totals: SmsTotals | EmailTotals) -> campaign_pb2.EstimateCampaignResponse:
    """What a run would do."""
    counted = totals.counted
    message = campaign_pb2.EstimateCampaignResponse(
        to_send=counted.to_send,
        suppressed=counted.suppressed,
        missing_variables=counted.missing_variables,
        missing_by_variable=counted.missing_by_variable,
        skipped=counted.skipped,
    )
    if isinstance(totals, EmailTotals):
        _add_email(message.email, totals)
    else:
        message.too_long = totals.counted.too_long
        _add_sms(message.sms, totals)
    return message


def _add_email(message: campaign_pb2.EmailEstimate, totals: EmailTotals) -> None:
    message.template.html_bytes = totals.report.html_bytes
    message.template.text_bytes = totals.report.text_bytes
    message.attachments_bytes = totals.attachments_bytes
    sending_time = _sending_time(totals.counted.to_send, totals.terms)
    if sending_time is not None:
        message.sending_time.CopyFrom(sending_time)


def _add_sms(message: campaign_pb2.SmsEstimate, totals: SmsTotals) -> None:
    counted, terms = totals.counted, totals.terms
    message.template.CopyFrom(size_to_proto(totals.template))
    message.segments_min = counted.segments_min
    message.segments_mean = counted.segments_mean
    message.segments_max = counted.segments_max
    message.segments_total = counted.segments_total
    if terms is not None and terms.price_per_segment_micros is not None:
        message.cost.currency_code = terms.currency_code or ""
        message.cost.amount_micros = counted.segments_total * terms.price_per_segment_micros
    sending_time = _sending_time(counted.segments_total, terms)
    if sending_time is not None:
        message.sending_time.CopyFrom(sending_time)


def _sending_time(segments: int, terms: ChannelTerms | None) -> Duration | None:
    """None: no pace is set. An email counts as one segment."""
    if terms is None or terms.segments_per_second_max is None:
        return None
    duration = Duration()
    duration.FromMilliseconds(round(segments / terms.segments_per_second_max * 1000))
    return duration

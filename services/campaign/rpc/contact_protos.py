"""ContactService's requests as commands, and what it found as the public protos."""

from collections.abc import Sequence

from outreach.v1 import campaign_pb2, contact_pb2
from services.campaign.contacts.errors import ContactProblem
from services.campaign.contacts.importer import ImportCounts
from services.campaign.contacts.mapping import ColumnMapping, ColumnRole
from services.campaign.rpc.fields import Fields
from services.campaign.store.contacts import Upload
from services.campaign.usecases.import_contacts import ImportCommand
from services.campaign.usecases.upload_contacts import UploadCommand

#: Longer than any file system's.
FILE_NAME_CHARACTERS_MAX = 1_024
#: Longer ones are no mapping of a file within the limits, whatever they say.
MAPPING_ENTRIES_MAX = 1_000


def header_of(header: contact_pb2.UploadHeader) -> UploadCommand:
    """The first frame of an upload."""
    fields = Fields()
    command = UploadCommand(
        campaign_id=fields.uuid("header.campaign_id", header.campaign_id),
        file_name=fields.text("header.file_name", header.file_name, FILE_NAME_CHARACTERS_MAX),
        has_header=header.has_header if header.HasField("has_header") else None,
        mapping=(
            _mapping_of(fields, "header.mapping.columns", header.mapping.columns)
            if header.HasField("mapping")
            else None
        ),
        size_bytes=header.size_bytes,
    )
    fields.check()
    return command


def import_of(fields: Fields, request: contact_pb2.ImportContactsRequest) -> ImportCommand:
    """What to import, and how."""
    return ImportCommand(
        campaign_id=fields.uuid("campaign_id", request.campaign_id),
        upload_id=fields.uuid("upload_id", request.upload_id),
        mapping=(
            _mapping_of(fields, "mapping.columns", request.mapping.columns)
            if request.HasField("mapping")
            else None
        ),
        keep_duplicates=request.keep_duplicates,
        has_header=request.has_header if request.HasField("has_header") else None,
    )


def upload_to_proto(upload: Upload) -> contact_pb2.ContactUpload:
    """What was found in a file."""
    layout = upload.layout
    return contact_pb2.ContactUpload(
        id=str(upload.id),
        campaign_id=str(upload.campaign_id),
        columns=[
            contact_pb2.UploadColumn(
                name=column.name,
                suggested_role=campaign_pb2.ColumnRole.ValueType(column.suggestion.role),
                suggested_variable_name=column.suggestion.variable_name,
            )
            for column in layout.columns
        ],
        sample_rows=[contact_pb2.SampleRow(values=row) for row in layout.sample_rows],
        encoding=layout.encoding,
        encoding_guessed=layout.encoding_guessed,
        delimiter=layout.delimiter,
        has_header=layout.has_header,
        size_bytes=upload.size_bytes,
    )


def progress_to_proto(counts: ImportCounts, bytes_total: int) -> contact_pb2.ImportProgress:
    """How far an import is."""
    return contact_pb2.ImportProgress(
        bytes_read=counts.bytes_read,
        bytes_total=bytes_total,
        rows=counts.rows,
        imported=counts.imported,
        invalid=counts.invalid,
        duplicates=counts.duplicates,
    )


def problem_to_proto(problem: ContactProblem) -> contact_pb2.ContactProblem:
    """One row that gave no contact."""
    return contact_pb2.ContactProblem(
        row=problem.row_number,
        column=problem.column_name,
        reason=problem.reason.value,
        description=problem.detail,
    )


def _mapping_of(
    fields: Fields, path: str, columns: Sequence[campaign_pb2.ContactColumn]
) -> tuple[ColumnMapping, ...]:
    if len(columns) > MAPPING_ENTRIES_MAX:
        fields.refuse(path, "FIELD_TOO_LONG", f"At most {MAPPING_ENTRIES_MAX:,} columns.")
        return ()
    return tuple(
        ColumnMapping(
            name=column.name,
            role=fields.choice(f"{path}[{index}].role", column.role, ColumnRole, None),
            variable_name=column.variable_name,
        )
        for index, column in enumerate(columns)
    )

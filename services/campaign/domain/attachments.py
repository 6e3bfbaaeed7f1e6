"""What a file may be called that is attached to an email, and what it is called a kind of. Pure.

Whether its content is what the name says is in `services.campaign.domain.executables`.
"""

import re
import unicodedata
from collections.abc import Mapping
from types import MappingProxyType

from outreach.errors import Violation

FILE_NAME_CHARACTERS_MAX = 200
#: No rule of the product, which knows none of the count: a list of them has to fit into one frame.
ATTACHMENTS_MAX = 2_000
CONTENT_TYPE_UNKNOWN = "application/octet-stream"

_BLOCKED_BY_OUTLOOK = """
    ade adp apk app appcontent-ms application appref-ms appx asp aspx asx bas bat bgi cab cdxml cer
    chm cmd cnt com cpl crt csh der diagcab exe fxp gadget grp hlp hpj hta htc img inf ins iso isp
    its jar jnlp js jse ksh library-ms lnk mad maf mag mam maq mar mas mat mau mav maw mcf mda mdb
    mde mdt mdw mdz mht mhtml msc msh msh1 msh1xml msh2 msh2xml mshxml msi msp mst msu ops osd pcd
    pif pl plg prf prg printerexport ps1 ps1xml ps2 ps2xml psc1 psc2 psd1 psdm1 pssc pst py pyc pyo
    pyw pyz pyzw reg scf scr sct search-ms settingcontent-ms shb shs theme tmp udl url vb vbe vbp
    vbs vhd vhdx vsmacros vsw webpnp website ws wsb wsc wsf wsh xbap xll xnk
"""
#: What Outlook keeps from its users, complete: Microsoft, "Blocked attachments in Outlook",
#: https://support.microsoft.com/office/434752e1-02d3-4e90-9124-8b81e49a8519, as of September 2026.
#: Documents with macros (.docm, .xlsm, .pptm) and archives are not in it, and so are allowed.
BLOCKED_EXTENSIONS = frozenset(_BLOCKED_BY_OUTLOOK.split())

#: Media types by extension; our own table, as that of a machine depends on what is installed there.
CONTENT_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "7z": "application/x-7z-compressed",
        "aac": "audio/aac",
        "avif": "image/avif",
        "bmp": "image/bmp",
        "css": "text/css",
        "csv": "text/csv",
        "doc": "application/msword",
        "docm": "application/vnd.ms-word.document.macroEnabled.12",
        "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "dotx": "application/vnd.openxmlformats-officedocument.wordprocessingml.template",
        "epub": "application/epub+zip",
        "gif": "image/gif",
        "gz": "application/gzip",
        "heic": "image/heic",
        "htm": "text/html",
        "html": "text/html",
        "ics": "text/calendar",
        "jpeg": "image/jpeg",
        "jpg": "image/jpeg",
        "json": "application/json",
        "key": "application/vnd.apple.keynote",
        "m4a": "audio/mp4",
        "md": "text/markdown",
        "mov": "video/quicktime",
        "mp3": "audio/mpeg",
        "mp4": "video/mp4",
        "mpeg": "video/mpeg",
        "mpg": "video/mpeg",
        "numbers": "application/vnd.apple.numbers",
        "odp": "application/vnd.oasis.opendocument.presentation",
        "ods": "application/vnd.oasis.opendocument.spreadsheet",
        "odt": "application/vnd.oasis.opendocument.text",
        "ogg": "audio/ogg",
        "otf": "font/otf",
        "pages": "application/vnd.apple.pages",
        "pdf": "application/pdf",
        "png": "image/png",
        "potx": "application/vnd.openxmlformats-officedocument.presentationml.template",
        "ppsx": "application/vnd.openxmlformats-officedocument.presentationml.slideshow",
        "ppt": "application/vnd.ms-powerpoint",
        "pptm": "application/vnd.ms-powerpoint.presentation.macroEnabled.12",
        "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        "rtf": "application/rtf",
        "svg": "image/svg+xml",
        "tar": "application/x-tar",
        "tif": "image/tiff",
        "tiff": "image/tiff",
        "tsv": "text/tab-separated-values",
        "ttf": "font/ttf",
        "txt": "text/plain",
        "vcf": "text/vcard",
        "wav": "audio/wav",
        "webm": "video/webm",
        "webp": "image/webp",
        "woff2": "font/woff2",
        "xls": "application/vnd.ms-excel",
        "xlsb": "application/vnd.ms-excel.sheet.binary.macroEnabled.12",
        "xlsm": "application/vnd.ms-excel.sheet.macroEnabled.12",
        "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "xltx": "application/vnd.openxmlformats-officedocument.spreadsheetml.template",
        "xml": "application/xml",
        "zip": "application/zip",
    }
)

# `:` separates a drive from a path, and on NTFS a file from a stream of it.
_PATH = re.compile(r"[/\\:]")
# C0, DEL, C1; line and paragraph separators; what turns the direction of text ("exe.pdf" for
# "fdp.exe"); what can't be seen at all. The joiners U+200C and U+200D are letters' and emojis'.
_UNSEEN = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb]"
)
# What text is shown without (Unicode's Default_Ignorable_Code_Point). In a name some of it has its
# place, as in emojis; an extension with it is shown as the one without it.
_NOT_SHOWN = re.compile(
    "[\\xad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u200b-\\u200f\\u202a-\\u202e\\u2060-\\u206f"
    "\\u3164\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff0-\\ufff8\\U0001bca0-\\U0001bca3\\U0001d173-\\U0001d17a\\U000e0000-\\U000e0fff]"
)
# RFC 6838, 4.2; without parameters, which SendGrid does not take (`;`).
_RESTRICTED_NAME = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
_CONTENT_TYPE = re.compile(f"{_RESTRICTED_NAME}/{_RESTRICTED_NAME}")
# RFC 2045, 6.4: these can't be sent in base64, so they can't be a file's.
_COMPOSITE_TYPES = ("message/", "multipart/")


def extension_of(name: str) -> str:
    """The extension by which the recipient's system will open the file, in lower case; may be empty.

    Windows drops dots and spaces at the end of a name. Look-alikes (full-width letters, and what
    is not shown between letters) count as what they look like.
    """
    shown = _NOT_SHOWN.sub("", name)
    seen = unicodedata.normalize("NFKC", shown).casefold().rstrip(". \t")
    return seen.rpartition(".")[2].strip() if "." in seen else ""


def is_blocked_name(name: str) -> bool:
    """Whether mail programs keep a file of this name from their users.

    Only the last extension counts: `report.pdf.exe` is a program, `setup.exe.txt` is a text.
    """
    extension = extension_of(name)
    # Windows takes a class id for an extension, and does not show it.
    is_class_id = extension.startswith("{") and extension.endswith("}")
    return extension in BLOCKED_EXTENSIONS or is_class_id


def check_file_name(field: str, name: str) -> list[Violation]:
    """What is wrong with a name; ATTACHMENT_TYPE_BLOCKED alone when it is that of a blocked type."""
    if not name:
        return [Violation(field, "FIELD_REQUIRED", "Give the file a name.")]
    if len(name) > FILE_NAME_CHARACTERS_MAX:
        text = f"At most {FILE_NAME_CHARACTERS_MAX} characters; this has {len(name):,}."
        return [Violation(field, "FIELD_TOO_LONG", text)]
    if is_blocked_name(name):
        text = (
            f"Mail programs keep .{extension_of(name)} files from their users; send a link to it."
        )
        return [Violation(field, "ATTACHMENT_TYPE_BLOCKED", text)]
    violations = []
    if _PATH.search(name):
        text = "The name of a file, without a path: no `/`, `\\` and `:`."
        violations.append(Violation(field, "FIELD_INVALID", text))
    if _UNSEEN.search(name):
        text = "No control characters, and none that are not seen or turn the direction of text."
        violations.append(Violation(field, "FIELD_INVALID", text))
    if name.strip() != name or name.endswith("."):
        text = "No space at the beginning, and no space or dot at the end."
        violations.append(Violation(field, "FIELD_INVALID", text))
    return violations


def check_content_type(field: str, content_type: str) -> list[Violation]:
    """What is wrong with a media type that was given; an empty one is none."""
    if content_type and _CONTENT_TYPE.fullmatch(content_type) is None:
        text = "Give a media type without parameters, as in application/pdf."
        return [Violation(field, "FIELD_INVALID", text)]
    if content_type.lower().startswith(_COMPOSITE_TYPES):
        text = "A file can't be of this type; leave it out, or say application/octet-stream."
        return [Violation(field, "FIELD_INVALID", text)]
    return []


def content_type_of(name: str) -> str:
    """The media type that goes with the name."""
    return CONTENT_TYPES.get(extension_of(name), CONTENT_TYPE_UNKNOWN)

"""The account document: its fields, limits, defaults, equality and normal forms.

One description for all who need it: the loader refuses what `violations` names, diff compares with
`equal`, the sandbox fills in `default_of`, editors get `json_schema`. The models below are that
description; everything else here is read off them. They are stricter than the platform, which
stores unknown keys and repairs types: a mistyped key there is a silent no-op, here an error.
A declaration's `null` means "make sure that it is absent", so a field takes `null` wherever it may
be absent.

Source: docs/platform.md 7 (fields), 3.3 to 3.7 and 3.11 (who writes what), 5 (rules).
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType, NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Final,
    Literal,
    TypeAlias,
    Union,
    get_args,
    get_origin,
)
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidationInfo,
    WrapValidator,
    field_validator,
)
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import ErrorDetails, PydanticCustomError, core_schema

from reconciler.core.values import ABSENT, FieldPath, JsonObject, JsonValue, MaybeJson

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

DocumentPath: TypeAlias = tuple[str | int, ...]
"""A place in a document; unlike a `FieldPath` it may lead into a list."""

# --- values ---------------------------------------------------------------------------------------

_URI = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})*")
_URL_TEXT = r"[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2}"
_PORT = "0*(?:[0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_CLIENT_URL = (
    rf"^[Hh][Tt][Tt][Pp][Ss]?://(?:(?:{_URL_TEXT}|[:@])*@)?"
    rf"(?:(?:{_URL_TEXT})+|\[[0-9A-Fa-f:.]+\])(?::(?:{_PORT})?)?"
    rf"(?:[/?#](?:{_URL_TEXT}|[:@/?#\[\]])*)?$"
)
_FORBIDDEN_URL = (
    r"^[^/]*//(?:[^/?#]*@)?"
    r"(?:[Ll][Oo][Cc][Aa][Ll][Hh][Oo][Ss][Tt]|127\.0\.0\.1|0\.0\.0\.0)(?::[0-9]*)?(?:[/?#]|$)"
)


_PCRE_ALONE = re.compile(
    r"\\\\"  # a backslash that the next character has nothing to do with
    r"|(?P<group>\(\?(?:<(?=[A-Za-z_])|\||'\w+'))"
    r"|(?P<setting>\(\?[imsxJU-]+\)|\(\*[A-Z_0-9]+(?::\w*)?\))"
    r"|(?P<item>\\Q.*?(?:\\E|\Z)|\\[pP](?:\{\^?\w+\}|[A-Z])|\\[hHKNRvVX]|\\[gk](?:\{\w+\}|<\w+>|'\w+'|\d+)"
    r"|\(\?(?:R|[+-]?\d+|&\w+|P>\w+)\))",
    re.DOTALL,
)
"""What PCRE knows and Python doesn't: beginnings of groups, settings, things that match."""


def _without_pcre(found: re.Match[str]) -> str:
    return {"group": "(", "setting": "", "item": r"\w"}.get(found.lastgroup or "", found[0])


@lru_cache(maxsize=1024)
def compiles(pattern: str) -> bool:
    """Whether `pattern` is a regular expression.

    The platform compiles with PCRE, which Python doesn't have. What `re` refuses is nearly always
    a slip that PCRE refuses as well (an open bracket, nothing to repeat), and that is what this is
    for: a pattern that doesn't compile there is only found when a call goes wrong.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # [[:alnum:]] is a "possible nested set" to Python only
        try:
            re.compile(_PCRE_ALONE.sub(_without_pcre, pattern))
        except (re.error, OverflowError, RecursionError):
            return False
    return True


def _check_pattern(text: str) -> str:
    if not compiles(text):
        raise PydanticCustomError("error", "Must be a regular expression that compiles.")
    return text


def _check_pattern_key(text: str) -> str:
    if not text:
        raise PydanticCustomError(
            "minLength", "A pattern has at least 1 character.", {"target": 1, "key": True}
        )
    return text


def _check_number_key(text: str) -> str:
    if not (text.isascii() and text.isdigit()):
        raise PydanticCustomError(
            "additionalProperties", "The keys here are digits only.", {"key": True}
        )
    return text


def _check_zone(text: str) -> str:
    if text == "inherit":
        raise PydanticCustomError(
            "error", 'Name a zone: the platform replaces "inherit" by one when it saves.'
        )
    return text


def _check_client_url(text: str) -> str:
    """Source: docs/platform.md 5.3. The list of hosts is the platform's default one."""
    try:
        is_uri = _URI.fullmatch(text) is not None
        _ = urlsplit(text).port  # a port out of range shows only here
    except ValueError:
        is_uri = False
    if not is_uri:
        raise PydanticCustomError("wrong_format", "Must be a URI.")
    if not re.fullmatch(_CLIENT_URL, text) or re.search(_FORBIDDEN_URL, text):
        raise PydanticCustomError("error", "invalid client URL")
    return text


def _keep(value: object, check: Callable[[object], object]) -> object:
    """Check `value`, but leave an integer an integer: `5` must not come back as `5.0`."""
    check(value)
    return value


Number = Annotated[float, Field(allow_inf_nan=False), WrapValidator(_keep)]
Octaves = Annotated[float, Field(allow_inf_nan=False, ge=-1, le=1), WrapValidator(_keep)]
Semitones = Annotated[float, Field(allow_inf_nan=False, ge=-14, le=14), WrapValidator(_keep)]
Factor = Annotated[float, Field(allow_inf_nan=False, ge=1), WrapValidator(_keep)]
Natural = Annotated[int, Field(ge=0)]
Digit = Literal["1", "2", "3", "4", "5", "6", "7", "8", "9", "0", "*", "#"]
WebUrl = Annotated[str, Field(pattern="^https?://")]
Pattern = Annotated[
    str, AfterValidator(_check_pattern), Field(json_schema_extra={"format": "regex"})
]
ClientUrl = Annotated[
    str,
    AfterValidator(_check_client_url),
    Field(
        json_schema_extra={
            "format": "uri",
            "pattern": _CLIENT_URL,
            "not": {"pattern": _FORBIDDEN_URL},
        }
    ),
]
AnyObject = dict[str, object]
"""A JSON object that nothing is known about."""


class Part(BaseModel):
    """A JSON object of the document. On the platform unknown keys would be stored: it is open."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


class ClosedPart(Part):
    """A JSON object in which the platform, too, refuses unknown keys."""


# --- call_recording: 7.2 --------------------------------------------------------------------------


class Recording(ClosedPart):
    """How the calls of one scope, direction and network are recorded."""

    enabled: bool | None = Field(None, description="Whether these calls are recorded.")
    format: Literal["mp3", "wav"] | None = Field(None, description="File format of recordings.")
    record_min_sec: int | None = Field(
        None, description="Shortest recording that is kept, in seconds."
    )
    record_on_answer: bool | None = Field(
        None, description="Begin at the moment the call is answered."
    )
    record_on_bridge: bool | None = Field(
        None, description="Begin at the moment both sides are connected."
    )
    record_sample_rate: int | None = Field(None, description="Sampling rate, in hertz.")
    time_limit: Annotated[int, Field(ge=5, le=10800)] | None = Field(
        None, description="Longest recording, in seconds: 5 to 10800 (three hours)."
    )
    url: ClientUrl | None = Field(
        None,
        description=(
            "Where the finished file is uploaded: http or https. "
            "User part and query count as secret and are masked in every output."
        ),
    )


class RecordingByNetwork(ClosedPart):
    """Recording by where the other side of the call is."""

    any: Recording | None = Field(None, description="Calls to and from anywhere.")
    onnet: Recording | None = Field(None, description="Calls that stay on the platform.")
    offnet: Recording | None = Field(None, description="Calls that cross a carrier.")


class RecordingByDirection(ClosedPart):
    """Recording by the direction of the call."""

    any: RecordingByNetwork | None = Field(None, description="Calls of both directions.")
    inbound: RecordingByNetwork | None = Field(None, description="Calls that come in.")
    outbound: RecordingByNetwork | None = Field(None, description="Calls that go out.")


class CallRecording(ClosedPart):
    """Recording by what the call is seen from."""

    account: RecordingByDirection | None = Field(
        None, description="Calls that enter or leave the account as a whole."
    )
    endpoint: RecordingByDirection | None = Field(
        None, description="Calls of each single device of the account."
    )


# --- small objects: 7.1 ---------------------------------------------------------------------------


class Restriction(Part):
    """What happens to calls to numbers of one class."""

    action: Literal["inherit", "deny"] | None = Field(
        None, description="`deny` blocks these calls; `inherit` leaves it to the level above."
    )


class Switch(Part):
    """A feature that is on or off."""

    enabled: bool | None = Field(None, description="Whether the feature is on.")


class CallerIdOptions(Part):
    """What called parties are told about the caller."""

    outbound_privacy: Literal["full", "name", "number", "none"] | None = Field(
        None, description="What is hidden on calls that go out; `full` hides name and number."
    )
    show_rate: bool | None = Field(None, description="Show the call's rate to the caller.")


class MusicOnHold(Part):
    """What waiting callers hear."""

    media_id: Annotated[str, Field(max_length=2048)] | None = Field(
        None, description="Id of a media document, or a URL; at most 2048 characters."
    )


class Preflow(ClosedPart):
    """A callflow that comes before all others."""

    always: str | None = Field(None, description="Id of the callflow to run before each other.")


class Ringtones(Part):
    """Alert-Info headers, by which phones choose a ring tone."""

    internal: Annotated[str, Field(max_length=256)] | None = Field(
        None, description="For calls from inside the account; at most 256 characters."
    )
    external: Annotated[str, Field(max_length=256)] | None = Field(
        None, description="For calls from outside the account; at most 256 characters."
    )


class Topup(Part):
    """Buying credit automatically."""

    threshold: Number | None = Field(
        None, description="Balance below which credit is bought, in units of the currency."
    )


# --- caller_id, dial_plan, formatters: 7.3 --------------------------------------------------------

CallerIdText = Annotated[str, Field(max_length=35)]


class CallerId(Part):
    """A name and a number to show."""

    name: CallerIdText | None = Field(None, description="Name shown; at most 35 characters.")
    number: CallerIdText | None = Field(
        None, description="Number shown; at most 35 characters, taken as written."
    )


class AssertedCallerId(CallerId):
    """The identity vouched for towards carriers (P-Asserted-Identity)."""

    realm: str | None = Field(None, description="SIP realm of the asserted identity.")


class EmergencyCallerId(CallerId):
    """The caller id of emergency calls."""

    number: CallerIdText | None = Field(
        None,
        description=(
            "Number that emergency services see, and by which they find the place to send help "
            "to; at most 35 characters, never rewritten."
        ),
    )


class CallerIds(Part):
    """Caller id by occasion."""

    internal: CallerId | None = Field(None, description="On calls within the account.")
    external: CallerId | None = Field(None, description="On calls to the outside.")
    emergency: EmergencyCallerId | None = Field(None, description="On calls for help.")
    asserted: AssertedCallerId | None = Field(None, description="Vouched for towards carriers.")


class DialRule(Part):
    """How a number that matches is rewritten."""

    description: str | None = Field(None, description="What the rule is for.")
    prefix: str | None = Field(None, description="Put before the captured digits.")
    suffix: str | None = Field(None, description="Put after the captured digits.")


class DialPlan(Part):
    """Rewriting of dialled numbers. Each other key is a regular expression on the number."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, DialRule | None]

    system: list[str] | None = Field(None, description="Ids of the system's dial plans to apply.")


class FormatterOptions(Part):
    """One rewriting of a header field of a request."""

    direction: Literal["inbound", "outbound", "both"] | None = Field(
        None, description="Requests of which direction are rewritten."
    )
    match_invite_format: bool | None = Field(
        None, description="Write the user part the way the outgoing INVITE does."
    )
    prefix: str | None = Field(None, description="Put before what matched.")
    regex: Pattern | None = Field(
        None, description="Regular expression on the value; a capture group is what is kept."
    )
    strip: bool | None = Field(None, description="Take the field out of the request.")
    suffix: str | None = Field(None, description="Put after what matched.")
    value: str | None = Field(None, description="Fixed text that replaces the value.")


def _without_nulls(item: object) -> object:
    """Make `null` wrong in an object of a list: a list is sent whole, so it would be stored.

    `ABSENT` has no JSON type, so that each field refuses it in its own words.
    """
    if isinstance(item, dict):
        return {key: ABSENT if value is None else value for key, value in item.items()}
    return item


ListedOptions = Annotated[
    FormatterOptions,
    BeforeValidator(_without_nulls),
    Field(json_schema_extra={"additionalProperties": {"not": {"type": "null"}}}),
]


def _shape(value: object) -> str | None:
    if isinstance(value, list):
        return "list"
    return "object" if isinstance(value, dict | FormatterOptions) else None


Formatter = Annotated[
    Annotated[FormatterOptions, Tag("object")] | Annotated[list[ListedOptions], Tag("list")],
    Discriminator(
        _shape,
        custom_error_type="not_one_schema_valid",
        custom_error_message="Must be one object of options, or a list of them.",
    ),
]

# --- metaflows: 7.4 -------------------------------------------------------------------------------


class NoData(Part):
    """A module that takes no data."""


class AudioLevelData(Part):
    """`audio_level`: change how loud a leg is."""

    action: Literal["start", "stop"] | None = Field(None, description="Begin or end it.")
    mode: Literal["read", "write"] | None = Field(
        None, description="What the leg hears (`read`) or says (`write`)."
    )
    level: Annotated[int, Field(ge=-4, le=4)] | None = Field(
        None, description="Level, in the steps of the media server: -4 to 4."
    )


class CallflowData(Part):
    """`callflow`: send the call through a callflow."""

    id: str | None = Field(None, description="Id of the callflow.")
    captures: str | None = Field(None, description="What the pattern captured.")
    collected: str | None = Field(None, description="Digits that were collected.")
    flow: AnyObject | None = Field(None, description="A callflow written out in place.")


class HoldData(Part):
    """`hold`: put the other side on hold."""

    moh_aleg: str | None = Field(None, description="Hold music for the calling leg: media id.")
    moh_bleg: str | None = Field(None, description="Hold music for the called leg: media id.")
    unhold_key: str | None = Field("1", description="Key that ends the hold.")


class HoldControlData(Part):
    """`hold_control`: hold, unhold or toggle."""

    action: Literal["hold", "unhold", "toggle"] | None = Field(
        "toggle", description="What to do with the hold."
    )


class InterceptData(Part):
    """`intercept`: fetch a call from another phone."""

    target_id: str | None = Field(None, description="Id of the device or user, or a number.")
    target_type: Literal["device", "user", "number"] | None = Field(
        None, description="What `target_id` names."
    )
    auto_answer: bool | None = Field(False, description="Let the phone pick up by itself.")
    can_call_self: bool | None = Field(True, description="Ring the caller's own devices too.")
    unbridged_only: bool | None = Field(True, description="Take unanswered calls only.")


class MoveData(Part):
    """`move`: carry on with the call on another phone."""

    device_id: str | None = Field(None, description="Id of the device to move to.")
    owner_id: str | None = Field(None, description="Id of the user whose devices ring.")
    auto_answer: bool | None = Field(False, description="Let the phone pick up by itself.")
    can_call_self: bool | None = Field(True, description="Ring the caller's own devices too.")
    dial_strategy: str | None = Field("simultaneous", description="Order in which devices ring.")


class PivotData(Part):
    """`pivot`: ask a web server what to do."""

    voice_url: WebUrl = Field(description="URL that answers what to do: http or https.")
    cdr_url: WebUrl | None = Field(None, description="URL that gets the call's record.")
    method: Literal["get", "post", "GET", "POST"] | None = Field(
        "get", description="HTTP method of the request."
    )
    req_format: Literal["kazoo", "twiml"] | None = Field(
        "kazoo", description="Language of request and answer."
    )
    debug: bool | None = Field(False, description="Store requests and answers for debugging.")


class PlayData(Part):
    """`play`: play a recording into the call."""

    id: str | None = Field(None, description="Id of the media document.")
    leg: Literal["self", "peer", "both"] | None = Field("both", description="Who hears it.")


class RecordCallData(Part):
    """`record_call`: control the recording of the call."""

    action: Literal["mask", "unmask", "start", "stop", "toggle"] | None = Field(
        "toggle", description="What to do with the recording."
    )
    format: Literal["mp3", "wav"] | None = Field(None, description="File format.")
    label: str | None = Field(None, description="Label stored with the recording.")
    media_name: str | None = Field(None, description="File name of the recording.")
    method: Literal["put", "post"] | None = Field(None, description="HTTP method of the upload.")
    origin: str | None = Field(None, description="What set the recording off, for reports.")
    record_min_sec: int | None = Field(
        None, description="Shortest recording that is kept, in seconds."
    )
    record_on_answer: bool | None = Field(False, description="Begin when answered.")
    record_on_bridge: bool | None = Field(False, description="Begin when both are connected.")
    record_sample_rate: int | None = Field(None, description="Sampling rate, in hertz.")
    time_limit: int | None = Field(None, description="Longest recording, in seconds.")
    url: str | None = Field(None, description="Where the finished file is uploaded.")


def _json_type(value: object) -> str | None:
    if isinstance(value, str):
        return "string"
    return "integer" if isinstance(value, int) and not isinstance(value, bool) else None


Participant = Annotated[
    Annotated[str, Tag("string")] | Annotated[int, Tag("integer")],
    Discriminator(
        _json_type,
        custom_error_type="type",
        custom_error_message="Must be a string or an integer.",
    ),
]


class RelateData(Part):
    """`relate`: set what two people in a conference hear of each other."""

    conference_id: str = Field(description="Id of the conference.")
    participant_id: Participant = Field(description="Number of the participant.")
    other_participant: Participant = Field(description="Number of the other participant.")
    relationship: Literal["deaf", "clear", "mute"] | None = Field(
        "clear", description="What holds between them."
    )


Spoken = Literal[
    "account_number",
    "currency",
    "current_date",
    "current_date_time",
    "current_time",
    "email_address",
    "ip_address",
    "items",
    "messages",
    "name_phonetic",
    "name_spelled",
    "number",
    "persons",
    "postal_address",
    "short_date_time",
    "telephone_extension",
    "telephone_number",
    "time_measurement",
    "url",
]


class SayData(Part):
    """`say`: speak with recorded prompts."""

    text: str | None = Field(None, description="What to say.")
    language: str | None = Field(None, description="Language of the prompts.")
    gender: Literal["feminine", "masculine", "neuter"] | None = Field(
        None, description="Gender of the voice or the grammar."
    )
    method: Literal["pronounced", "iterated", "counted"] | None = Field(
        None, description="How to pronounce it."
    )
    type: Spoken | None = Field(None, description="What the text is: a number, a date, …")


class SoundTouchData(Part):
    """`sound_touch`: change pitch and speed of a voice."""

    action: Literal["start", "stop"] | None = Field(None, description="Begin or end it.")
    adjust_in_octaves: Octaves | None = Field(
        0, description="Shift of the pitch, in octaves: -1 to 1."
    )
    adjust_in_semitones: Semitones | None = Field(
        0, description="Shift of the pitch, in semitones: -14 to 14."
    )
    hook_dtmf: bool | None = Field(False, description="Let keys change the pitch.")
    pitch: Factor | None = Field(1.0, description="Pitch, as a factor: 1 or more.")
    rate: Factor | None = Field(1.0, description="Playback rate, as a factor: 1 or more.")
    tempo: Factor | None = Field(1.0, description="Tempo, as a factor: 1 or more.")
    sending_leg: bool | None = Field(False, description="Change the leg that pressed the keys.")


class TransferData(Part):
    """`transfer`: hand the call to someone else."""

    target: str | None = Field(None, description="Number or extension to transfer to.")
    captures: list[str] | None = Field(
        default_factory=lambda: ["no_match"], description="What the pattern captured."
    )
    leg: str | None = Field(None, description="Leg that is transferred.")
    timeout: int | None = Field(None, description="How long the target rings, in seconds.")
    transfer_type: Literal["attended", "blind"] | None = Field(
        "blind", description="With or without talking to the target first."
    )


class TtsData(Part):
    """`tts`: speak with a synthetic voice."""

    text: str | None = Field(None, description="What to say.")
    engine: str | None = Field("flite", description="Speech engine.")
    voice: str | None = Field("female", description="Voice.")
    leg: str | None = Field("self", description="Who hears it.")
    language: str | None = Field(None, description="Language of the voice.")
    terminators: list[Digit] | None = Field(
        default_factory=lambda: list(get_args(Digit)), description="Keys that stop it."
    )


MODULES: Final[Mapping[str, type[BaseModel]]] = MappingProxyType(
    {
        "audio_level": AudioLevelData,
        "break": NoData,
        "callflow": CallflowData,
        "hangup": NoData,
        "hold": HoldData,
        "hold_control": HoldControlData,
        "intercept": InterceptData,
        "move": MoveData,
        "pivot": PivotData,
        "play": PlayData,
        "record_call": RecordCallData,
        "relate": RelateData,
        "resume": NoData,
        "say": SayData,
        "sound_touch": SoundTouchData,
        "transfer": TransferData,
        "tts": TtsData,
    }
)
"""Module of a metaflow -> model of its `data`, whose field defaults the platform writes.

Source: docs/platform.md 7.4.
"""


class MetaflowNode(Part):
    """What a key sequence does, and what may be pressed next."""

    module: Annotated[str, Field(min_length=1, max_length=64)] = Field(
        description="Name of the action; 1 to 64 characters."
    )
    data: AnyObject | None = Field(
        default_factory=dict,
        validate_default=True,
        description="Settings of the action; what is allowed depends on `module`.",
    )
    children: dict[str, MetaflowNode | None] | None = Field(
        None, description="Actions that may follow, by what is pressed next."
    )

    @field_validator("data", mode="after")
    @classmethod
    def _fits_module(cls, data: AnyObject | None, info: ValidationInfo) -> AnyObject | None:
        """Check `data` by its module's model, absent data as the `{}` that the platform writes."""
        model = MODULES.get(info.data.get("module", ""))
        if model is not None:
            model.model_validate(data or {})
        return data


NodesByNumber = dict[Annotated[str, AfterValidator(_check_number_key)], MetaflowNode | None]
NodesByPattern = dict[Annotated[str, AfterValidator(_check_pattern_key)], MetaflowNode | None]


class Metaflows(Part):
    """Features that are reached by pressing keys during a call."""

    binding_digit: Digit | None = Field(
        "*", description="Key that opens a sequence; a string, so it needs quotes in YAML."
    )
    digit_timeout: Natural | None = Field(
        None, description="Longest pause between two keys, in milliseconds."
    )
    listen_on: Literal["both", "self", "peer"] | None = Field(
        None, description="Whose keys count: the account's side, the other one, or both."
    )
    numbers: NodesByNumber | None = Field(
        None,
        description="Actions by the exact digits pressed.",
        json_schema_extra={"propertyNames": {"pattern": "^[0-9]+$"}},
    )
    patterns: NodesByPattern | None = Field(
        None,
        description="Actions by regular expressions on the digits pressed.",
        json_schema_extra={"propertyNames": {"minLength": 1, "format": "regex"}},
    )


# --- notifications, voicemail: 7.5 ----------------------------------------------------------------


class LowBalance(Part):
    """Mail when the credit runs low."""

    enabled: bool | None = Field(None, description="Whether the mail is sent.")
    threshold: Number | None = Field(
        None, description="Balance below which it is sent, in units of the currency."
    )
    last_notification: int | None = Field(
        None,
        description="When it was last sent, in Gregorian seconds. Written by the platform.",
    )
    sent_low_balance: bool | None = Field(
        None, description="Whether it was sent for the present low. Written by the platform."
    )


class FirstOccurrence(Part):
    """Mail at the first registration and the first call."""

    sent_initial_call: bool | None = Field(
        False, description="Whether the first call was reported. Written by the platform."
    )
    sent_initial_registration: bool | None = Field(
        False, description="Whether the first registration was reported. Written by the platform."
    )


class Notifications(Part):
    """Mails of the platform about the account."""

    first_occurrence: FirstOccurrence | None = Field(
        None, description="First registration and first call."
    )
    low_balance: LowBalance | None = Field(None, description="Credit that runs low.")


class Callback(Part):
    """A call that tells of a new voicemail."""

    number: str | None = Field(None, description="Number that is called.")
    attempts: int | None = Field(None, description="How many unanswered calls before giving up.")
    interval_s: int | None = Field(None, description="Pause between attempts, in seconds.")
    timeout_s: int | None = Field(None, description="How long each attempt rings, in seconds.")
    schedule: list[int] | None = Field(
        None, description="Pause before each attempt, in seconds; goes before `interval_s`."
    )
    disabled: bool | None = Field(None, description="Whether these calls are switched off.")


class VoicemailNotify(Part):
    """How a new voicemail is announced."""

    callback: Callback | None = Field(None, description="By calling a number.")


class Voicemail(Part):
    """Voicemail of the whole account."""

    notify: VoicemailNotify | None = Field(None, description="How new messages are announced.")


# --- the document: 7.1 ----------------------------------------------------------------------------

_NO_DEFAULT: Final = ""
"""Default of the fields that are never absent on the platform, nor always the same there."""


class Account(Part):
    """The settings of one account, as the platform's API has them."""

    name: Annotated[str, Field(min_length=1, max_length=128)] = Field(
        description="Display name; 1 to 128 characters, unique on the whole platform."
    )
    realm: Annotated[str, Field(min_length=4, max_length=253, pattern="^[A-Za-z0-9_.-]+$")] = Field(
        _NO_DEFAULT,
        description=(
            "SIP domain that the phones register to; 4 to 253 letters, digits, `_`, `.` and `-`, "
            "unique on the whole platform. Made up by the platform if not given."
        ),
    )
    enabled: bool = Field(True, description="Whether the account may be used at all.")
    timezone: Annotated[str, Field(min_length=5, max_length=32), AfterValidator(_check_zone)] = (
        Field(
            _NO_DEFAULT,
            description="Time zone by its tz name, such as `Etc/UTC`; 5 to 32 characters.",
        )
    )
    language: str | None = Field(None, description="Language of prompts, such as `en-us`.")
    org: str | None = Field(None, description="Legal name of the company.")
    flags: list[str] | None = Field(
        None, description="Labels for other applications; their order means nothing."
    )
    call_recording: CallRecording | None = Field(None, description="Which calls are recorded.")
    call_restriction: dict[str, Restriction | None] | None = Field(
        default_factory=dict,
        description="What may be dialled, by the platform's classes of numbers.",
    )
    call_waiting: Switch | None = Field(None, description="A second call while in one.")
    caller_id: CallerIds | None = Field(None, description="Names and numbers shown to others.")
    caller_id_options: CallerIdOptions | None = Field(
        None, description="How much others are shown."
    )
    dial_plan: DialPlan | None = Field(None, description="Rewriting of dialled numbers.")
    do_not_disturb: Switch | None = Field(None, description="Whether phones stay silent.")
    formatters: dict[str, Formatter | None] | None = Field(
        None, description="Rewriting of requests, by the name of the header field."
    )
    metaflows: Metaflows | None = Field(
        None, description="Features reached by pressing keys during a call."
    )
    music_on_hold: MusicOnHold | None = Field(
        default_factory=MusicOnHold, description="What waiting callers hear."
    )
    notifications: Notifications | None = Field(None, description="Mails about the account.")
    preflow: Preflow | None = Field(
        default_factory=Preflow, description="A callflow that comes before all others."
    )
    ringtones: Ringtones | None = Field(
        default_factory=Ringtones, description="Ring tones, by where the call comes from."
    )
    topup: Topup | None = Field(None, description="Buying credit automatically.")
    voicemail: Voicemail | None = Field(None, description="Voicemail of the whole account.")
    zones: AnyObject | None = Field(
        None, description="Media zones by preference; `home` is the first choice."
    )


# --- who writes what ------------------------------------------------------------------------------

_COMPUTED: Final = "The platform computes it; it can't be set."
READ_ONLY: Final[Mapping[str, str]] = MappingProxyType(
    {
        "_read_only": "The platform puts it into answers; it is no part of the account.",
        "api_key": "It is a secret that the platform makes; it can't be set here.",
        "billing_mode": "The platform computes it from who asks; it can't be set.",
        "created": "The platform sets it once, when the account is made.",
        "descendants_count": "The platform counts; a value sent would only be wrong.",
        "id": "The platform chooses it; sent at a creation it could destroy another account.",
        "is_reseller": "Use `reseller`, beside `settings`: it is no part of the document.",
        "notification_preference": "The platform copies it from the reseller at creation.",
        "reseller_id": "The platform derives it from the tree; use `parent` and `reseller`.",
        "superduper_admin": "Only the platform's operator can set it.",
        "trial_time_left": _COMPUTED,
        "wnm_allow_additions": "Only the platform's operator can set it.",
    }
)
"""Top-level field of an answer -> why it can't be declared. Source: docs/platform.md 3.3."""

OPTION_NAMES: Final = frozenset(
    {
        "accept",
        "accept_charges",
        "action",
        "auth_token",
        "authorization",
        "end_key",
        "include_api_key",
        "jsonp",
        "page_size",
        "paginate",
        "pretty_print",
        "send_email_on_creation",
        "start_key",
        "verb",
    }
)
"""Never legal at the top level: the platform takes them as options of the request.

`{"verb": "delete"}` in a document deletes the account. Source: docs/platform.md 1.3.
"""

SERVER_WRITTEN: Final[frozenset[FieldPath]] = frozenset(
    {
        ("notifications", "first_occurrence", "sent_initial_call"),
        ("notifications", "first_occurrence", "sent_initial_registration"),
        ("notifications", "low_balance", "bill_early_task_timestamp"),
        ("notifications", "low_balance", "last_notification"),
        ("notifications", "low_balance", "sent_low_balance"),
    }
)
"""Fields that the platform changes by itself: never drift. Source: docs/platform.md 3.11."""

NEVER_ABSENT: Final = frozenset({"name", "realm", "timezone", "enabled"})
"""Fields that every account has: `null` for them is refused. Source: docs/platform.md 3.7."""


# --- violations -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Violation:
    """One place in a document that breaks a rule. `value` may be a secret; `message` never is.

    `path` is the document's; `rule` is the platform's name (docs/platform.md 5.1); `target` is the
    limit, the values or the type allowed.
    """

    path: DocumentPath
    rule: str
    target: MaybeJson
    value: MaybeJson
    message: str


_TYPES: Final = {
    "bool_type": ("boolean", "Must be true or false."),
    "dict_type": ("object", "Must be an object."),
    "finite_number": ("number", "Must be a finite number."),
    "float_type": ("number", "Must be a number."),
    "int_type": ("integer", "Must be an integer."),
    "list_type": ("array", "Must be a list."),
    "literal_error": ("string", "Must be a string."),
    "model_type": ("object", "Must be an object."),
    "string_type": ("string", "Must be a string."),
}
_LIMITS: Final = {
    "greater_than_equal": ("minimum", "ge", "Must be at least {}."),
    "less_than_equal": ("maximum", "le", "Must be at most {}."),
    "string_pattern_mismatch": ("pattern", "pattern", "Must match {}."),
    "string_too_long": ("maxLength", "max_length", "Length must be at most {}, in characters."),
    "string_too_short": ("minLength", "min_length", "Length must be at least {}, in characters."),
}
_OTHERS: Final = {
    "missing": ("required", "Is required."),
    "recursion_depth_exceeded": ("error", "Must not be nested this deeply."),
    "recursion_loop": ("error", "Must not be nested this deeply."),
    "string_unicode": ("wrong_format", "Must be valid Unicode text."),
}
_QUOTED = re.compile(r"'([^']*)'")
_UNKNOWN: Final = "There is no such field."


def violations(document: JsonObject, *, extra_fields: bool = False) -> list[Violation]:
    """All that is wrong with `document`, ordered by place; of one value the first rule broken.

    Nothing is converted: `"5"` is no number. With `extra_fields`, unknown keys pass wherever the
    platform would store them, but never those that it would take for something else.
    """
    try:
        Account.__pydantic_validator__.validate_python(document)
    except ValidationError as failure:
        errors = failure.errors(include_url=False)
    else:
        return []
    if extra_fields:
        errors = [error for error in errors if not _may_be_extra(error)]
    found = [_violation(document, error) for error in errors]
    return sorted(found, key=lambda violation: (_sort_key(violation.path), violation.rule))


def _violation(document: JsonObject, error: ErrorDetails) -> Violation:
    kind, context, path = error["type"], error.get("ctx", {}), _document_path(error)
    value = _value_at(document, path)
    if kind == "extra_forbidden":
        return Violation(path, "additionalProperties", ABSENT, value, _why_unknown(path))
    if kind == "literal_error" and isinstance(value, str):
        allowed: list[JsonValue] = list(_QUOTED.findall(context["expected"]))
        return Violation(path, "enum", allowed, value, f"Must be one of {context['expected']}.")
    if kind in _TYPES:
        target, message = _TYPES[kind]
        return Violation(path, "type", target, value, message)
    if kind in _LIMITS:
        rule, limit, text = _LIMITS[kind]
        return Violation(path, rule, context[limit], value, text.format(context[limit]))
    rule, message = _OTHERS.get(kind, (kind, error["msg"]))  # else it is one of our own checks
    return Violation(path, rule, context.get("target", ABSENT), value, message)


def _value_at(document: JsonObject, path: DocumentPath) -> MaybeJson:
    value: MaybeJson = document
    for part in path:
        if isinstance(value, dict) and isinstance(part, str):
            value = value.get(part, ABSENT)
        elif isinstance(value, list) and isinstance(part, int):
            value = value[part]
        else:
            return ABSENT
    return value


def _document_path(error: ErrorDetails) -> DocumentPath:
    """Take from pydantic's path what is no place in the document."""
    path = error["loc"]
    if path[:1] == ("formatters",):
        path = path[:2] + path[3:]  # without the name of the branch that `_shape` chose
    if error.get("ctx", {}).get("key"):  # pydantic writes "[key]" behind a key that is wrong
        path = path[:-1]
    return path


def may_be_extra(violation: Violation) -> bool:
    """Whether it is about a key that is only unknown to us, and would pass with `extra_fields`."""
    return violation.message == _UNKNOWN and _is_open(violation.path)


def _may_be_extra(error: ErrorDetails) -> bool:
    """Whether the error is a key that is only unknown to us, and would be stored untouched."""
    return error["type"] == "extra_forbidden" and _is_open(error["loc"])


def _is_open(path: DocumentPath) -> bool:
    """Whether the platform would store an unknown key there."""
    if len(path) == 1:
        return not _is_reserved(str(path[0]))
    return path[0] not in _CLOSED


def _is_reserved(field: str) -> bool:
    return field in OPTION_NAMES or field in READ_ONLY or field.startswith(("_", "pvt_"))


def _why_unknown(path: DocumentPath) -> str:
    field = str(path[0])
    if len(path) > 1 or not _is_reserved(field):
        return _UNKNOWN
    if field in OPTION_NAMES:
        return "The platform would take it as an option of the request, not as a field."
    return READ_ONLY.get(field, "Names that begin with _ or pvt_ are the platform's own.")


def _sort_key(path: DocumentPath) -> tuple[tuple[int, str], ...]:
    return tuple((part, "") if isinstance(part, int) else (-1, part) for part in path)


def unknown_modules(document: JsonObject) -> list[DocumentPath]:
    """Where metaflows name a module that is not in `MODULES`: a vendor may have added it."""
    found = [
        (*path, "module")
        for path, node in _metaflow_nodes(document.get("metaflows"))
        if isinstance(module := node.get("module"), str) and module not in MODULES
    ]
    return sorted(found, key=_sort_key)


def broken_patterns(document: JsonObject) -> list[DocumentPath]:
    """Keys that should be regular expressions, and don't compile: the platform keeps them."""
    found = [
        (*path, key)
        for path in (("dial_plan",), ("metaflows", "patterns"))
        if isinstance(keys := _value_at(document, path), dict)
        for key in keys
        if not compiles(key)
    ]
    return sorted(found, key=_sort_key)


def _metaflow_nodes(metaflows: MaybeJson) -> Iterator[tuple[DocumentPath, JsonObject]]:
    """Each node with its path. Without recursion: nothing limits how deep a document is."""
    if not isinstance(metaflows, dict):
        return
    maps: list[tuple[DocumentPath, MaybeJson]] = [
        (("metaflows", key), metaflows.get(key)) for key in ("numbers", "patterns")
    ]
    while maps:
        path, nodes = maps.pop()
        for key, node in nodes.items() if isinstance(nodes, dict) else ():
            if isinstance(node, dict):
                yield (*path, key), node
                maps.append(((*path, key, "children"), node.get("children")))


# --- reading the models ---------------------------------------------------------------------------


def _step(annotation: object, part: str | int) -> list[object]:
    """List what may stand below a value of this type at `part`, as types."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _step(arguments[0], part)
    if origin is Union or origin is UnionType:
        return [below for member in arguments for below in _step(member, part)]
    if origin is dict and isinstance(part, str):
        return [arguments[1]]
    if origin is list and isinstance(part, int):
        return [arguments[0]]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _step_into_model(annotation, part)
    return []


def _step_into_model(model: type[BaseModel], part: str | int) -> list[object]:
    field = model.model_fields.get(part) if isinstance(part, str) else None
    if field is not None:
        return [field.annotation]
    return [DialRule] if model is DialPlan else []


def _models_in(annotation: object) -> list[type[BaseModel]]:
    """Name the models among the types that `annotation` allows, not those inside lists and maps."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in {Annotated, Union, UnionType}:
        return [model for member in get_args(annotation) for model in _models_in(member)]
    return []


@lru_cache(maxsize=4096)
def _model_at(path: DocumentPath) -> type[BaseModel] | None:
    places: list[object] = [Account]
    for part in path:
        places = [below for place in places for below in _step(place, part)]
    return next((model for place in places for model in _models_in(place)), None)


_CLOSED: Final = frozenset(
    name
    for name, field in Account.model_fields.items()
    if any(issubclass(model, ClosedPart) for model in _models_in(field.annotation))
)
"""Top-level fields that are closed all the way down."""


def known_keys(path: DocumentPath) -> tuple[str, ...]:
    """Name the keys that are known in the object at `path`; none in maps and unknown places."""
    model = _model_at(path)
    return tuple(model.model_fields) if model else ()


def default_of(path: FieldPath) -> MaybeJson:
    """Tell what the platform writes when this field is absent and the object around it is there.

    Not told for `realm` and `timezone` (docs/platform.md 3.5: random, or from elsewhere), nor
    inside a metaflow's `data` (see `MODULES`). Each call returns a value of its own.
    """
    model = _model_at(path[:-1]) if path else None
    field = model.model_fields.get(path[-1]) if model else None
    if field is None:
        return ABSENT
    default: object = field.get_default(call_default_factory=True)
    if isinstance(default, bool | str) and default != _NO_DEFAULT:
        return default
    return {} if isinstance(default, dict | BaseModel) else ABSENT


class SchemaWriter(GenerateJsonSchema):
    """Write JSON Schemas that leave out what says nothing to a reader."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002 - pydantic's signature
        """Leave out titles that are made of the fields' names."""
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Leave out titles that are the classes' names."""
        written = super().model_schema(schema)
        written.pop("title", None)
        return written

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Leave out defaults that mean absence, and those that are made of other defaults."""
        written = super().default_schema(schema)
        default = written.get("default")
        if default in (None, _NO_DEFAULT) or isinstance(default, list | dict):
            written.pop("default", None)
        return written


def json_schema(zones: Iterable[str]) -> JsonObject:
    """Write the JSON Schema (2020-12) of a declared account document.

    It refuses what `violations` names, but for what no schema can: whether a regular expression
    compiles and an IPv6 address is one, and that `5.0` is no integer.
    """
    models: list[type[BaseModel]] = [Account, *dict.fromkeys(MODULES.values())]
    references, written = models_json_schema(
        [(model, "validation") for model in models],
        schema_generator=SchemaWriter,
    )
    definitions = written["$defs"]
    definitions["MetaflowNode"]["allOf"] = [
        {
            "if": is_module(module),
            "then": _node_of(model, references[model, "validation"]),
        }
        for module, model in MODULES.items()
    ]
    definitions["Account"]["properties"]["timezone"]["enum"] = [
        zone for zone in zones if not violations({"name": "x", "timezone": zone})
    ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **definitions.pop("Account"),
        "$defs": definitions,
    }


def is_module(module: str) -> JsonObject:
    """Write a JSON Schema that only a node of this module satisfies."""
    return {"properties": {"module": {"const": module}}, "required": ["module"]}


def required_data(model: type[BaseModel]) -> list[str]:
    """Name what `data` of this kind must have."""
    return [name for name, field in model.model_fields.items() if field.is_required()]


def _node_of(model: type[BaseModel], reference: JsonSchemaValue) -> JsonObject:
    if required_data(model):
        return {"properties": {"data": reference}, "required": ["data"]}
    return {"properties": {"data": {"anyOf": [reference, {"type": "null"}]}}}


# --- equality and normal forms --------------------------------------------------------------------

_SETTLED: Final = frozenset({str, int, bool, float, NoneType})
_FLAGS: Final = ("flags",)

_Pair: TypeAlias = tuple[FieldPath | None, JsonValue, JsonValue]
"""Two values to compare, and where they stand; no path inside lists."""


def equal(path: FieldPath, left: JsonValue, right: JsonValue) -> bool:
    """Whether the platform holds two values of the field at `path` for the same.

    Numbers by value, and `True` is no number; strings exactly; mappings by key; lists in order,
    but `flags` as a set. Called for every leaf of every account: scalars are settled first.
    """
    if type(left) is type(right) and type(left) in _SETTLED:
        return left == right
    pairs: list[_Pair] = [(path, left, right)]
    while pairs:  # no recursion: nothing limits how deep a live document is
        below = _parts_to_compare(*pairs.pop())
        if below is None:
            return False
        pairs += below
    return True


def _parts_to_compare(
    path: FieldPath | None, left: JsonValue, right: JsonValue
) -> list[_Pair] | None:
    """List the pairs that must be equal for these two to be; None if these two differ anyway."""
    if isinstance(left, dict) and isinstance(right, dict):
        if left.keys() != right.keys():
            return None
        return [(None if path is None else (*path, k), left[k], right[k]) for k in left]
    if isinstance(left, list) and isinstance(right, list):
        if path == _FLAGS:
            left, right = _as_set(left), _as_set(right)
        if len(left) != len(right):
            return None
        return [(None, one, other) for one, other in zip(left, right, strict=True)]
    return [] if isinstance(left, bool) is isinstance(right, bool) and left == right else None


def _as_set(flags: list[JsonValue]) -> list[JsonValue]:
    """Put flags in order, each once. What is no string is no flag either, and stays where it is."""
    texts = [flag for flag in flags if isinstance(flag, str)]
    return [*sorted(set(texts))] if len(texts) == len(flags) else flags


_VANISHING: Final = re.compile("[^A-Za-z0-9]+")


def normal_realm(realm: str) -> str:
    """Return the form in which realms are unique: no blanks, lower case.

    Source: docs/platform.md 5.4.
    """
    return realm.replace(" ", "").lower()


def normal_name(name: str) -> str:
    """Return the form in which names are unique: ASCII letters and digits alone, lower case.

    Other letters vanish, so different names can have the same form, the empty one included.
    Source: docs/platform.md 5.4.
    """
    return _VANISHING.sub("", name).lower()

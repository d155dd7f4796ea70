"""The values of series that group rules take together, as JSON for the gathered topic; not a CloudEvent."""

from collections.abc import Sequence

from pydantic import TypeAdapter, ValidationError

from vqmon.core.alerts.regression.groups.detector import MemberValue
from vqmon.errors import WireError

_VALUES: TypeAdapter[tuple[MemberValue, ...]] = TypeAdapter(tuple[MemberValue, ...])


def encode_member_values(values: Sequence[MemberValue]) -> bytes:
    """Values as one line of JSON: an array of arrays, each with the fields in their order."""
    return _VALUES.dump_json(tuple(values))


def parse_member_values(document: bytes) -> Sequence[MemberValue]:
    """The values in a record; raises WireError."""
    try:
        return _VALUES.validate_json(document)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        raise WireError(f"{'.'.join(map(str, problem['loc'])) or 'document'}: {problem['msg']}") from None

"""Values of series for group rules, as they are gathered."""

import pytest

from tests import factories
from vqmon.core.alerts.regression.groups.detector import MemberValue
from vqmon.errors import WireError
from vqmon.transport.wire.member_values import encode_member_values, parse_member_values

VALUE = MemberValue("regression", "news/1080p", "lite", {"scorer-fault": ""}, 1767225600.0, -1.25)
ALERT = MemberValue.of_alert(factories.alert(), scorer="lite")._replace(groups={"g": "encoder=a"})


def test_values_come_back_the_same_and_are_small() -> None:
    """A hundred bytes for a segment, where its outcome has thousands; an alert travels whole."""
    assert list(parse_member_values(encode_member_values([VALUE, ALERT]))) == [VALUE, ALERT]
    assert len(encode_member_values([VALUE])) <= 100


def test_what_is_no_list_of_values_is_refused() -> None:
    with pytest.raises(WireError, match="1"):
        parse_member_values(encode_member_values([VALUE])[:-1] + b',["regression"]]')

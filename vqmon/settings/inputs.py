"""The section of decisions about inputs: which streams, when to switch, and the webhook that is called."""

from dataclasses import fields
from pathlib import Path

from pydantic import Field, model_validator

from vqmon.core.alerts.reactions.input_switching import InputRule
from vqmon.settings.sections import HTTP_ADDRESS, Network, PositiveFloat, Section


class InputHookSettings(Section):
    """When the input of a stream is to be switched, and which webhook is called."""

    # where decisions are sent by POST
    url: str = Field(pattern=HTTP_ADDRESS)
    # the key that signs now, and then those that are on their way out
    secret_files: tuple[Path, ...] = ()
    # names of environment variables with such keys, after those of the files
    secret_variables: tuple[str, ...] = ()
    # globs of the stream ids of primary inputs
    streams: tuple[str, ...] = Field(default=("*",), min_length=1)
    # globs of names of renditions, of both inputs; the best of them is the score of the input
    renditions: tuple[str, ...] = Field(default=("*",), min_length=1)
    # stream id of the backup input, with {stream}; "" = its scores are not known
    backup: str = ""
    # whose score, as name or name@version; "" = the first scorer's
    scorer: str = ""
    # switch when the score is below, 0..100
    below: float = Field(default=40.0, ge=0, le=100)
    # return when it is at least so much
    above: float = Field(default=55.0, ge=0, le=100)
    # for how long it must be below
    for_seconds: PositiveFloat = 10.0
    # for how long it must be above
    return_seconds: PositiveFloat = 60.0
    # no return earlier than this after a switch
    min_hold_seconds: float = Field(default=60.0, ge=0, le=86_400)
    # no switch earlier than this after a return
    cool_down_seconds: float = Field(default=120.0, ge=0, le=86_400)
    # no switch unless the backup's score is so much better
    better_by: float = Field(default=10.0, ge=0, le=100)
    # scores that are older count as unknown
    stale_seconds: float = Field(default=30.0, ge=1, le=600)
    # whether a segment that cannot be fetched or decoded counts as score 0
    unscored_is_bad: bool = True
    # decisions are recorded and counted, not sent
    dry_run: bool = False
    # after this an undelivered decision is given up
    give_up_seconds: float = Field(default=30.0, ge=1, le=600)

    @model_validator(mode="after")
    def _is_rule(self) -> "InputHookSettings":
        # raises for values that contradict each other
        self.rule("hook")
        if not (self.dry_run or self.secret_files or self.secret_variables):
            raise ValueError(
                "secret_files: name the file of the key that signs requests, or its variable in secret_variables; "
                "only with dry_run nothing is sent"
            )
        return self

    def rule(self, name: str) -> InputRule:
        """The rule of this hook."""
        return InputRule(
            name=name,
            is_dry_run=self.dry_run,
            **{key.name: getattr(self, key.name) for key in fields(InputRule) if key.name in type(self).model_fields},
        )


class InputSettings(Section):
    """Decisions about the inputs of streams, sent to what switches them."""

    hooks: dict[str, InputHookSettings] = Field(default_factory=dict)
    max_age_seconds: PositiveFloat = 60.0
    timeout_seconds: float = Field(default=3.0, gt=0, le=60)
    source: str = "vqmon"
    allowed_networks: tuple[Network, ...] = ()
    ca_file: Path | None = None

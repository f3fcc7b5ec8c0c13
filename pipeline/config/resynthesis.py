"""How resynthesised speech is scored."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, ValidationInfo, WithJsonSchema

from pipeline.config.named import OWN, is_file_name
from pipeline.config.section import Count, Section, Text, validate_part

if TYPE_CHECKING:
    from pipeline.config.variant import Config


def _as_config(judge: Any, info: ValidationInfo) -> Any:
    """The config of another variant as one; a text as it is."""
    from pipeline.config.variant import Config  # which has this section

    if isinstance(judge, dict):
        return validate_part(Config, judge, info)
    if isinstance(judge, Config) or (isinstance(judge, str) and not is_file_name(judge)):
        return judge
    raise ValueError(f"takes '{OWN}', a config's file or the folder of a Whisper model")


class Resynthesis(Section):
    """Scores of resynthesised test speech."""

    utterances_per_split: Count = 20
    """Utterances of each test split that are resynthesised and scored."""
    audio_examples: Count = 3
    """How many of them MLflow shows as audio."""
    judge: Annotated[
        "Config | Text", BeforeValidator(_as_config), WithJsonSchema({"type": "string"})
    ] = OWN
    """Whose recogniser tells how intelligible the speech of all variants is, beside the variant's own:
    the config file of another variant, found as `ssl.finetuned_by` is, such as `continuous.yaml`; or
    a folder with a Whisper model. `own` has none: each variant is heard by its own recogniser alone."""
    language: Text | None = None
    """The language that a judging Whisper model is told, such as `en`; `None` lets it find out."""

    measures: tuple[Literal["dnsmos", "similarity", "crepe"], ...] = ()
    """What models of the extra `judges` (`pip install 'dkm-pipeline[judges]'`) say of the speech
    besides: `dnsmos`, its quality; `similarity`, how alike the speakers of speech and recording are;
    `crepe`, F0 by a neural tracker."""

    @property
    def has_judge(self) -> bool:
        """Whether a recogniser hears the speech of all variants."""
        return self.judge != OWN

    @property
    def is_judged(self) -> bool:
        """Whether anything is the judge of all variants' speech."""
        return self.has_judge or bool(self.measures)

    @property
    def judging_config(self) -> "Config | None":
        """The config of the variant that judges, if one does."""
        return None if isinstance(self.judge, str) else self.judge

    @property
    def judging_folder(self) -> str | None:
        """The folder of the Whisper model that judges, if one does."""
        return self.judge if isinstance(self.judge, str) and self.has_judge else None

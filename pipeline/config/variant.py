"""One variant of the comparison: all sections, and how they agree."""

from typing import Annotated, Any, Self

from pydantic import (
    BeforeValidator,
    Field,
    SerializeAsAny,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from pipeline.config.asr import Asr, AsrEvaluation
from pipeline.config.cluster import Cluster, Tracking
from pipeline.config.corpus import Corpus
from pipeline.config.evaluation import Purity
from pipeline.config.features import FAMILIES, Features, PretrainedSsl
from pipeline.config.lm import UnitLm
from pipeline.config.named import FINETUNED_BY, JUDGE, OWN, is_file_name
from pipeline.config.quantizer import Codebook, Quantizer, in_own_section
from pipeline.config.resynthesis import SpeechScores
from pipeline.config.resynthesis_loss import ResynthesisLoss
from pipeline.config.section import Name, Section, Storage, Text, validate_part
from pipeline.config.token_asr import TokenAsr
from pipeline.config.training import Pretraining, Training
from pipeline.config.vocoder import Vocoder

# The longest frame of any SSL model (w2v-BERT's), and what lies between two.
FRAME_SECONDS, HOP_SECONDS = 0.035, 0.02


class Ssl(PretrainedSsl):
    """The self-supervised model: a transformers checkpoint by hub name or folder."""

    finetuned_by: Annotated[
        "Config | None", WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "null"}]})
    ] = None
    """The config file of another variant: take `ssl.model` as that one's training has fine-tuned it.
    The file lies beside this config, or beside one that it extends, or is shipped. `--set` changes both
    configs."""


def _judge(judge: Any, info: ValidationInfo) -> Any:
    """The config of another variant as one; a text as it is."""
    if isinstance(judge, dict):
        return validate_part(Config, judge, info)
    if isinstance(judge, Config) or (isinstance(judge, str) and not is_file_name(judge)):
        return judge
    raise ValueError(f"takes '{OWN}', a config's file or the folder of a Whisper model")


class Resynthesis(SpeechScores):
    """Scores of resynthesised test speech."""

    judge: Annotated[
        "Config | Text", BeforeValidator(_judge), WithJsonSchema({"type": "string"})
    ] = OWN
    """Whose recogniser tells how intelligible the speech of all variants is, beside the variant's own:
    the config file of another variant, found as `ssl.finetuned_by` is, such as `continuous.yaml`; or
    a folder with a Whisper model. `own` has none: each variant is heard by its own recogniser alone."""

    @property
    def has_judge(self) -> bool:
        """Whether a recogniser hears the speech of all variants."""
        return self.judge != OWN

    @property
    def is_judged(self) -> bool:
        """Whether anything is the judge of all variants' speech."""
        return self.has_judge or bool(self.measures)

    @property
    def judge_name(self) -> str:
        """The judging variant or folder, or `own`."""
        return self.judge if isinstance(self.judge, str) else self.judge.variant

    @property
    def judging_config(self) -> "Config | None":
        """The config of the variant that judges, if one does."""
        return None if isinstance(self.judge, str) else self.judge

    @property
    def judging_folder(self) -> str | None:
        """The folder of the Whisper model that judges, if one does."""
        return self.judge if isinstance(self.judge, str) and self.has_judge else None


class Config(Section):
    """One variant of the comparison, from corpus to scores."""

    variant: Name
    """The name of the variant in tables and in MLflow; the config file's name by default."""
    storage: Storage = "runs"
    """Where all outputs go: a folder, or `s3://bucket/prefix`."""
    corpus: Corpus
    """Where recordings, texts and alignments are; `corpus.kind` names the format."""
    ssl: Ssl = Field(default_factory=Ssl)  # built on use: it looks for its folder
    features: Features = Features()
    codebook: Codebook = Codebook()
    quantizer: Annotated[SerializeAsAny[Quantizer], BeforeValidator(in_own_section)] = Quantizer()
    asr: Asr = Asr()
    training: Training = Training()
    resynthesis_loss: ResynthesisLoss = ResynthesisLoss()
    token_asr: TokenAsr = TokenAsr()
    asr_evaluation: AsrEvaluation = AsrEvaluation()
    purity: Purity = Purity()
    unit_lm: UnitLm = UnitLm()
    vocoder: Vocoder = Vocoder()
    resynthesis: Resynthesis = Field(default_factory=Resynthesis)  # which is complete below
    pretraining: Pretraining = Pretraining()
    tracking: Tracking = Tracking()
    cluster: Cluster = Cluster()
    extra_stages: tuple[Text, ...] = ()
    """Modules of additional stages, such as `my_package.my_stage`."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.codebook.layer not in self.features.layers:
            raise ValueError(
                f"codebook.layer {self.codebook.layer} is not among features.layers "
                f"{list(self.features.layers)}: add it there, or fit another layer"
            )
        self._check_ssl()
        self._check_finetuned()
        self._check_judge()
        self._check_speeds()
        if not self.quantizer.passes_gradient:
            self._check_before_quantizer()
        self._check_resynthesis_loss()
        nearest = any(phase.quantizer == "nearest" for phase in self.training.phases)
        if nearest and not self.quantizer.has_units:
            raise ValueError(
                f"quantizer.kind '{self.quantizer.kind}' has no units, so no training phase can "
                "take the nearest: leave training.phases[].quantizer out"
            )
        if self.cluster.sharding == "fsdp" and self.quantizer.sigma.learned:
            raise ValueError(
                "cluster.sharding 'fsdp' gives each worker a part of every learned parameter, and "
                "a learned sigma is one number: set quantizer.sigma.learned to false, or "
                "cluster.sharding to 'ddp'"
            )
        self._check_tokens()
        self._check_recognisers()
        if self.features.sample_frames_per_second is not None and self.training.reads_features:
            raise ValueError(
                "features.sample_frames_per_second stores a sample of each utterance, and a "
                "training phase with ssl 'frozen' reads all its frames: make the phase 'finetuned', "
                "which reads audio, or store all frames"
            )
        return self

    def _check_tokens(self) -> None:
        """What is asked of stored units must be possible with them."""
        if self.unit_lm.enabled and not self.corpus.has_audio:
            raise ValueError(
                "unit_lm.enabled asks for a language model of the units that the joint training makes, "
                f"and corpus.kind '{self.corpus.kind}' has units of others, of which none is trained: "
                "set unit_lm.enabled to false"
            )
        if self.has_token_asr and not self.quantizer.has_units:
            raise ValueError(
                f"token_asr reads units, and quantizer.kind '{self.quantizer.kind}' has none: set "
                "token_asr.enabled to false, or use another kind"
            )
        if self.has_token_asr and self.asr_evaluation.assignment == "soft":
            raise ValueError(
                "asr_evaluation.assignment 'soft' mixes units of audio, and token_asr reads stored ones: "
                "set it to 'hard', or token_asr.enabled to false"
            )

    def _check_recognisers(self) -> None:
        """What a weight of 0 leaves untrained must not decide anything."""
        joint = {"asr": self.asr} if self.corpus.has_audio else {}
        from_tokens = {"token_asr.asr": self.token_asr.asr} if self.has_token_asr else {}
        evaluation = self.asr_evaluation
        for key, asr in {**joint, **from_tokens}.items():
            if self.training.select == "wer" and not asr.ctc_weight:
                raise ValueError(
                    f"training.select 'wer' reads what CTC writes, which {key}.ctc_weight 0 does not "
                    "train: raise the weight, or select by 'loss'"
                )
        # Resynthesised speech is heard by the joint training's model in any case.
        searched = {**joint, **from_tokens} if self.speaks else from_tokens or joint
        for key, asr in searched.items():
            if asr.ctc_weight in (0, 1) and evaluation.ctc_weight != asr.ctc_weight:
                untrained = "attention decoder" if asr.ctc_weight else "CTC"
                raise ValueError(
                    f"asr_evaluation.ctc_weight {evaluation.ctc_weight:g} lets the {untrained} score "
                    f"texts, which {key}.ctc_weight {asr.ctc_weight:g} does not train: set "
                    f"asr_evaluation.ctc_weight to {asr.ctc_weight:g}, or change {key}.ctc_weight"
                )
        chooses_tau = evaluation.assignment == "soft" and evaluation.soft_tau is None
        if chooses_tau and self.quantizer.has_units and not self.asr.ctc_weight:
            raise ValueError(
                "asr_evaluation.soft_tau null takes the temperature with which CTC writes the fewest "
                "errors, and asr.ctc_weight 0 trains no CTC: name a temperature, or raise the weight"
            )

    def _check_resynthesis_loss(self) -> None:
        """A loss of the units needs units that learn."""
        learns = self.quantizer.has_units and self.quantizer.passes_gradient
        if (weight := self.resynthesis_loss.weight) and not learns:
            raise ValueError(
                f"resynthesis_loss.weight {weight:g} trains units, and "
                f"quantizer.kind '{self.quantizer.kind}' has none that learn: set the weight to 0, or "
                "use kind 'dkm'"
            )

    def _check_speeds(self) -> None:
        """Copies at other speeds need recordings, and names that no split has."""
        if self.speed_copies and not self.corpus.has_audio:
            raise ValueError(
                "training.speeds plays recordings slower or faster, and this corpus has units alone: "
                "leave it out"
            )
        if taken := self.speed_copies.keys() & set(self.corpus.splits.names):
            raise ValueError(
                f"corpus.splits names {sorted(taken)}, as training.speeds calls a copy of the training "
                "split: rename the split in the corpus, or leave that speed out"
            )

    def _check_ssl(self) -> None:
        """What the folder of an SSL model says must suit the sections that use it."""
        family = self.ssl.description().get("model_type", FAMILIES[0])
        if family not in FAMILIES:
            raise ValueError(
                f"ssl.model '{self.ssl.model}' is a '{family}' model; name one of "
                f"{', '.join(FAMILIES)}"
            )
        most, hop = self.ssl.num_layers, self.ssl.hop
        if most is not None and self.features.layers[-1] > most:
            raise ValueError(
                f"features.layers {list(self.features.layers)} cannot be stored: ssl.model "
                f"'{self.ssl.model}' has the layers 0 to {most}"
            )
        pool = self.features.pool
        mistake = self.vocoder.hop_mistake(pool * hop) if self.speaks and hop is not None else None
        if mistake:
            raise ValueError(
                f"{mistake}; a frame of ssl.model '{self.ssl.model}' is {hop}"
                + (f", and features.pool is {pool}" if pool > 1 else "")
            )
        least_seconds, fastest = FRAME_SECONDS + HOP_SECONDS * (pool - 1), self.training.speeds[-1]
        if pool * fastest > 1 and self.corpus.min_seconds / fastest < least_seconds:
            played = f" when they are played at {fastest:g} times their speed" * (fastest > 1)
            raise ValueError(
                f"corpus.min_seconds {self.corpus.min_seconds:g} lets in utterances that are too "
                f"short for features.pool {pool}{played}: a frame takes {least_seconds:g} s. Raise it"
            )

    def _check_finetuned(self) -> None:
        """An SSL model that another config fine-tunes must be the one that this config means."""
        other = self.ssl.finetuned_by
        if other is None:
            return
        named = f"ssl.finetuned_by names the variant '{other.variant}'"
        if not other.training.finetunes_ssl:
            raise ValueError(
                f"{named}, whose training.phases all leave the SSL model frozen: name one that "
                "fine-tunes it, such as continuous_full.yaml"
            )
        _require_same(named, self, other, tuple(_starting_point(self)))
        if self.features.layers[-1] > max(other.used_layers):
            raise ValueError(
                f"{named}, which keeps the SSL model's layers up to {max(other.used_layers)}, and "
                f"features.layers {list(self.features.layers)} go beyond: let it learn "
                "quantizer.layer_weights, so that it keeps all"
            )

    def _check_judge(self) -> None:
        """What the judge learned from must be what this config's speech was learned from."""
        judge = self.resynthesis.judging_config
        if judge is None:
            return
        named = f"resynthesis.judge names the variant '{judge.variant}'"
        _require_same(named, self, judge, ("storage", "corpus", "training.seeds"))

    def _check_before_quantizer(self) -> None:
        """Nothing may learn that no gradient reaches."""
        kind = self.quantizer.kind
        if self.quantizer.layer_weights == "learned":
            raise ValueError(
                f"quantizer.kind '{kind}' passes no gradient, so quantizer.layer_weights cannot "
                "be 'learned': set it to 'fixed', or use kind 'dkm'"
            )
        if self.training.finetunes_ssl:
            raise ValueError(
                f"quantizer.kind '{kind}' passes no gradient, so a training phase with "
                "ssl 'finetuned' would train nothing: set it to 'frozen', or use kind 'dkm'"
            )

    @property
    def used_layers(self) -> tuple[int, ...]:
        """The hidden layers that training reads: all stored ones, or the codebook's alone."""
        learned = self.quantizer.layer_weights == "learned"
        return self.features.layers if learned else (self.codebook.layer,)

    @property
    def speed_copies(self) -> dict[str, float]:
        """The speed of each copy of the training split, by its name as a split: `train_sp0.9`."""
        train = self.corpus.splits.train
        return {f"{train}_sp{speed:g}": speed for speed in self.training.speeds if speed != 1}

    @property
    def feature_splits(self) -> tuple[str, ...]:
        """The splits whose features are stored: the copies' too where a phase reads features."""
        copies = self.speed_copies if self.training.reads_features else ()
        return (self.corpus.splits.train, self.corpus.splits.valid, *copies)

    @property
    def token_splits(self) -> tuple[str, ...]:
        """The splits whose units are stored: the copies' too where a training reads units."""
        copies = self.speed_copies if self.has_token_asr else ()
        return (*self.corpus.splits.names, *copies)

    def recorded(self, split: str) -> tuple[str, float]:
        """The split of the corpus that `split`, perhaps a copy, is played from, and its speed."""
        speed = self.speed_copies.get(split)
        return (split, 1.0) if speed is None else (self.corpus.splits.train, speed)

    @property
    def has_token_asr(self) -> bool:
        """Whether ASR is trained and evaluated from stored tokens."""
        return self.token_asr.enabled or not self.corpus.has_audio

    @property
    def for_token_asr(self) -> Self:
        """The config of a training from stored tokens: its `asr` and `training`, no resynthesis."""
        training = self.training.model_copy(update={"phases": self.token_asr.phases})
        own = {"asr": self.token_asr.asr, "training": training}
        return self.model_copy(update={**own, "resynthesis_loss": ResynthesisLoss()})

    @property
    def speaks(self) -> bool:
        """Whether a vocoder is trained, and its speech scored."""
        return self.vocoder.enabled and self.quantizer.has_units

    @property
    def finetuners(self) -> tuple["Config", ...]:
        """The config whose training this one's SSL model comes from, then that one's, and so on."""
        other = self.ssl.finetuned_by
        return () if other is None else (other, *other.finetuners)

    @property
    def named_by_key(self) -> tuple[tuple[str, "Config"], ...]:
        """The configs that this one names, and those that they name, each with the key."""
        named = ((FINETUNED_BY, self.ssl.finetuned_by), (JUDGE, self.resynthesis.judging_config))
        found = [(key, other) for key, other in named if other is not None]
        return tuple(pair for each in found for pair in (each, *each[1].named_by_key))

    def document(
        self, left_out: set[str], *, exclude_defaults: bool = False, whole: bool = False
    ) -> dict[str, Any]:
        """The settings as JSON values, without some sections.

        Other configs are there by their names, or if `whole` with all their settings but these sections.
        """

        def of(other: Config) -> Any:
            return other.document(left_out, whole=True) if whole else other.variant

        document = self.model_dump(mode="json", exclude=left_out, exclude_defaults=exclude_defaults)
        if (finetuner := self.ssl.finetuned_by) is not None:
            document["ssl"]["finetuned_by"] = of(finetuner)
        if (judge := self.resynthesis.judging_config) is not None:
            document["resynthesis"]["judge"] = of(judge)
        return document

    @property
    def trainers(self) -> tuple["Config", ...]:
        """The other configs whose trainings this one needs."""
        judge = self.resynthesis.judging_config if self.speaks else None
        return (*self.finetuners, *(() if judge is None else (judge, *judge.finetuners)))


def _starting_point(config: Config) -> dict[str, Any]:
    """What a config and the one that fine-tunes its SSL model have in common, by key."""
    return {
        "storage": config.storage,
        "corpus": config.corpus,
        "ssl": config.ssl.model_copy(update={"finetuned_by": None}),
        "features.layers": config.features.layers,
        "training.seeds": config.training.seeds,
    }


def _require_same(named: str, config: Config, other: Config, keys: tuple[str, ...]) -> None:
    own, others = _starting_point(config), _starting_point(other)
    if differing := [key for key in keys if own[key] != others[key]]:
        raise ValueError(
            f"{named}, which has another {' and another '.join(differing)}: let both extend one file"
        )


# These could not know `Config` before.
Ssl.model_rebuild()
Resynthesis.model_rebuild()

"""params.yaml as frozen, typed models: no defaults here, unknown keys refused, units in the names."""

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from azeros.errors import ParamsError

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(gt=0)]
Word = Annotated[str, Field(min_length=1)]
# Names become stage names (`sift@name`) and folders, so they keep to what DVC and file systems both take.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]

Split = Literal["train", "validation", "test"]
Splits = Annotated[list[Split], Field(min_length=1)]
Dtype = Literal["float32", "bfloat16", "float16"]
Mode = Literal["sift_s", "sift_sp", "sit_sp", "sift_ssp", "sit_ssp"]
# Targets from the transcript alone; the last two are what the paper's ablations compare the first with.
TranscriptMode = Literal["sift_s", "sit_s", "tsit_s"]


class Section(BaseModel):
    """A block of params.yaml: frozen, every key wanted, no other key taken, no value converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Pretrained(Section):
    """A model to start from: a folder, or a hub id with the revision that pins it."""

    path: Word
    revision: Word | None


class Foundation(Section):
    """The frozen models; without a paralinguistic encoder there is only a stage 1."""

    llm: Pretrained
    speech_encoder: Pretrained
    paraling_encoder: Pretrained | None


class TinyCorpus(Section):
    """Speech synthesised from the grammar at `path`."""

    recipe: Literal["tiny"]
    path: Path
    num_train: Count  # utterances
    num_validation: Count
    num_test: Count


class FolderCorpus(Section):
    """A folder of recordings with transcripts."""

    recipe: Literal["folder"]
    path: Path
    language: Word


class CutsCorpus(Section):
    """lhotse manifests made elsewhere."""

    recipe: Literal["cuts"]
    path: Path
    replace_prefix: dict[Word, str]  # beginning of the paths in them -> where that is here


class SharCorpus(Section):
    """lhotse Shar in a folder or in object storage."""

    recipe: Literal["shar"]
    path: Word  # or a URL: https://host/corpus, s3://bucket/corpus


class PlainCorpus(Section):
    """A published corpus that leaves nothing to choose."""

    recipe: Literal["ravdess", "tess"]
    path: Path


class SplitCorpus(Section):
    """A published corpus with splits of its own, of which some are taken."""

    recipe: Literal["aishell1", "cs_dialogue", "meld", "voxceleb2"]
    path: Path
    splits: Splits


class IemocapCorpus(Section):
    """IEMOCAP."""

    recipe: Literal["iemocap"]
    path: Path
    keep_undecided: bool  # utterances on whose emotion the annotators did not agree, without an emotion
    merge_excited: bool  # excited counts as happy, as in the benchmarks with four classes
    test_session: Annotated[int, Field(ge=1, le=5)] | None  # the session left out of training


class CremaDCorpus(Section):
    """CREMA-D."""

    recipe: Literal["crema_d"]
    path: Path
    emotion: Literal["intended", "voice", "face", "multimodal"]  # what was acted, or what listeners heard


class DailyTalkCorpus(Section):
    """DailyTalk."""

    recipe: Literal["dailytalk"]
    path: Path
    assume_gender: bool  # take speaker 0 for a man and 1 for a woman; the corpus itself does not say


class CommonVoiceCorpus(Section):
    """Common Voice: a release, or one language of it."""

    recipe: Literal["commonvoice"]
    path: Path
    languages: Annotated[list[Word], Field(min_length=1)] | None  # its folders' names; null: all there are
    splits: Splits


class EmotionTalkCorpus(Section):
    """EmotionTalk."""

    recipe: Literal["emotiontalk"]
    path: Path
    emotion: Literal["audio", "text", "video", "multimodal"]  # what the annotators were shown
    speakers: Path | None  # table with the columns speaker and gender; null: gender by the captions
    splits: Splits


class WenetSpeechCorpus(Section):
    """WenetSpeech: long recordings, or already cut ones."""

    recipe: Literal["wenetspeech"]
    path: Path
    subsets: Annotated[
        list[Literal["S", "M", "L", "W", "DEV", "TEST_NET", "TEST_MEETING"]], Field(min_length=1)
    ]


class GigaSpeechCorpus(Section):
    """GigaSpeech: long recordings, or the cut ones of its Hugging Face release."""

    recipe: Literal["gigaspeech"]
    path: Path
    subsets: Annotated[list[Literal["XS", "S", "M", "L", "XL", "DEV", "TEST"]], Field(min_length=1)]
    punctuation: bool  # keep it, as , . ? ! in place of tags


Corpus = Annotated[
    TinyCorpus
    | FolderCorpus
    | CutsCorpus
    | SharCorpus
    | PlainCorpus
    | SplitCorpus
    | IemocapCorpus
    | CremaDCorpus
    | DailyTalkCorpus
    | CommonVoiceCorpus
    | EmotionTalkCorpus
    | WenetSpeechCorpus
    | GigaSpeechCorpus,
    Field(discriminator="recipe"),
]


class Prepare(Section):
    """Settings of the prepare stage."""

    max_rejected_share: Share


class SiftSet(Section):
    """One set of targets: which cuts, and how the language model is asked."""

    corpus: Name
    split: Split
    mode: Mode | TranscriptMode


class Server(Section):
    """A server with OpenAI's interface."""

    base_url: Annotated[str, Field(pattern=r"^https?://[^\s/]+(/\S*)?$")]  # up to and with /v1
    api_key_variable: Word | None  # environment variable that holds the key; null: the server wants none
    max_concurrency: Count  # requests at a time
    max_tries: Count  # of a request that fails
    timeout_s: Seconds  # of one try


class LocalBackend(Section):
    """The language model runs in the stage's own process."""

    kind: Literal["local"]
    batch_size: Count


class OpenAIBackend(Server):
    """The language model runs behind a server."""

    kind: Literal["openai"]
    model: Word  # its name there


Backend = Annotated[LocalBackend | OpenAIBackend, Field(discriminator="kind")]


class Unusable(Section):
    """Responses that are rejected, and counted; each filter can be off."""

    empty: bool
    max_repeats: Count | None  # of the piece that a response repeats at its end
    refusals: list[Word]  # how they begin


class Sift(Section):
    """Settings of the sift stage."""

    sets: dict[Name, SiftSet]
    max_new_tokens: Count
    backend: Backend
    unusable: Unusable
    instructions: dict[Word, Word]  # language -> what the sit_* modes append
    transcription: dict[Word, Word]  # language -> what tsit_s appends, whose target is the transcript itself
    system_message: Word  # of the *_ssp modes


class Filter(Section):
    """What may become a target or a training row."""

    min_duration_s: Seconds
    max_duration_s: Seconds
    max_chars_per_s: Weight

    @model_validator(mode="after")
    def _durations_in_order(self) -> Self:
        if self.min_duration_s >= self.max_duration_s:
            raise ValueError("min_duration_s must be below max_duration_s")
        return self


class Schedule(Section):
    """Learning rate over the steps (spec/AZEROS.md section 5: Eden2)."""

    base_lr: Weight
    eden_steps: Count  # after about so many steps the rate falls off
    warmup_steps: Count  # from half the rate to all of it
    decay_share: Share  # of the steps, at the end, over which the rate goes to zero; the paper has none


class Average(Section):
    """The mean of the projectors over the last steps takes the place of the last ones."""

    period_steps: Count  # between two that go into the mean
    last_steps: Count


class Validation(Section):
    """What is measured on the validation splits of a stage's corpora while it trains."""

    every_steps: Count
    num_cuts: Count  # the first of each corpus
    num_answers: Annotated[int, Field(ge=0)]  # of them, whose answers are kept
    patience: Count | None  # validations in a row without a narrower gap after which training stops


class Lora(Section):
    """Low-rank matrices that are trained in the language model's own layers."""

    rank: Count
    alpha: Count  # alpha / rank scales what they add
    modules: Annotated[list[Word], Field(min_length=1)]  # names of the layers: q_proj, v_proj, ...


class TrainStage(Section):
    """Settings of one training stage."""

    start_from: Name | None  # an earlier training stage, or none: fresh projectors
    sets: Annotated[dict[Name, Weight], Field(min_length=1)]
    num_steps: Count
    batch_size: Count  # utterances of a step, over all processes
    max_batch_s: Seconds | None  # and seconds of audio at most
    micro_batch_size: Count | None  # utterances that a process takes at a time
    llm_dtype: Dtype  # of the frozen language model; encoders and projectors are float32
    activation_checkpointing: bool  # of the language model: less memory, one more forward pass a step
    optimizer: Literal["adam", "muon"]
    max_gradient_norm: Annotated[float, Field(gt=0)] | None
    max_loss_growth: (
        Annotated[float, Field(gt=1)] | None
    )  # beyond so many times the lowest loss training stops
    schedule: Schedule
    log_every_steps: Count
    checkpoint_every_steps: Count
    encoder_outputs: Literal[
        "stored", "live"
    ]  # once for each recording, kept in .work; or for each batch anew
    max_unreadable_share: Share  # of the recordings, which are left out
    validation: Validation | None
    average: Average | None
    lora: Lora | None
    spec_augment: bool  # mask and warp features, as the paper does; what is stored cannot be augmented

    @model_validator(mode="after")
    def _augments_what_is_encoded_anew(self) -> Self:
        if self.spec_augment and self.encoder_outputs == "stored":
            raise ValueError("spec_augment: what is stored cannot be augmented; write encoder_outputs: live")
        return self

    @model_validator(mode="after")
    def _validates_where_it_logs(self) -> Self:
        if self.validation and self.validation.every_steps % self.log_every_steps:
            raise ValueError("validation: every_steps must be a multiple of log_every_steps")
        return self

    @model_validator(mode="after")
    def _averages_whole_periods(self) -> Self:
        if self.average:
            period, last = self.average.period_steps, self.average.last_steps
            if last > self.num_steps or last % period or self.num_steps % period:
                raise ValueError(
                    "average: num_steps and last_steps must be multiples of period_steps, last_steps the smaller"
                )
            if self.validation and self.validation.patience:
                raise ValueError("average: which steps are the last must be known; write patience: null")
        return self


class FirstStage(TrainStage):
    """Settings of stage 1, which has no second slot yet."""

    mode: TranscriptMode  # of its sets
    tagged_share: Share  # of the rows whose audio stands in the tags of stage 2; the paper has none


class Train(Section):
    """The two training stages."""

    foreign_targets: (
        bool  # may another language model, or the same by other prompts, have written the targets
    )
    launcher: Word | None  # program that starts `azeros train` in several processes, with its options
    shard_llm: bool  # each of them keeps a part of the frozen language model
    stage1: FirstStage
    stage2: TrainStage


class Instructions(Section):
    """How a language asks what is measured."""

    repeat: Word
    gender: Word
    age: Word
    emotion: Word


class JudgeModels(Section):
    """Which model judges which benchmark, by the endpoint's names."""

    voicebench: Word
    airbench: Word


class Judge(Server):
    """The judge of the benchmarks."""

    models: JudgeModels
    max_attempts: Count  # at an answer that can be read
    budget_tokens: Count  # in one run; estimated where the endpoint counts none


class Evaluate(Section):
    """Settings of the evaluate stage."""

    corpora: Annotated[list[Name], Field(min_length=1)]
    instructions: dict[Word, Instructions]
    max_new_tokens: Count
    batch_size: Count
    judge: Judge


class AzerosSystem(Section):
    """A packaged AZeroS model, which hears."""

    kind: Literal["azeros"]
    path: Word
    dtype: Dtype  # of the language model
    batch_size: Count  # recordings
    max_new_tokens: Count
    choice_suffix: Word | None  # a line after the choices of AIR-Bench Foundation


class TextSystem(Section):
    """A language model that reads the transcript: the ceiling of a speech LLM made from it."""

    kind: Literal["text"]
    llm: Pretrained
    dtype: Dtype
    batch_size: Count  # prompts
    max_new_tokens: Count
    removed: Word | None  # characters that are taken out of the transcript


class HearingSystem(Section):
    """A speech LLM of transformers' own classes."""

    kind: Literal["hearing"]
    model: Pretrained
    dtype: Dtype
    batch_size: Count  # recordings
    max_new_tokens: Count
    system_message: Word | None
    choice_suffix: Word | None


class MoshiSystem(Section):
    """Moshi, which takes speech and no text."""

    kind: Literal["moshi"]
    model: Pretrained
    dtype: Dtype
    max_new_tokens: Count  # one a frame of 80 ms, most of them between words
    seed: Annotated[int, Field(ge=0)]  # of its sampling


class CascadeSystem(Section):
    """A speech recogniser, and a system that reads what it has understood."""

    kind: Literal["cascade"]
    recognizer: Pretrained
    dtype: Dtype  # of the recogniser
    batch_size: Count  # recordings
    reader: Name  # a system that reads: of kind text, or an endpoint with modality text
    choice_suffix: Word | None


class EndpointSystem(Server):
    """A model behind an OpenAI-compatible endpoint that hears, or is shown the transcript."""

    kind: Literal["endpoint"]
    model: Word  # its name there
    modality: Literal["audio", "text"]
    system_message: Word | None
    temperature: Annotated[float, Field(ge=0)] | None  # null: the endpoint's own
    max_new_tokens: Count
    choice_suffix: Word | None


System = Annotated[
    AzerosSystem | TextSystem | HearingSystem | MoshiSystem | CascadeSystem | EndpointSystem,
    Field(discriminator="kind"),
]


@dataclass(frozen=True)
class ListedSystem:
    """A system that needs no entry in params.yaml, and the published rows that it stands for."""

    settings: System
    rows: tuple[str, ...]


_CATALOG = Path(__file__).parent / "evaluation/systems/catalog.yaml"


@cache
def listed_systems() -> dict[str, ListedSystem]:
    """The systems of the published tables, by the names in azeros/evaluation/systems/catalog.yaml."""
    document = read_yaml(_CATALOG)
    adapter: TypeAdapter[System] = TypeAdapter(System)
    listed = {}
    for name, entry in document["systems"].items():
        rows = tuple(entry.pop("rows"))
        settings = document["common"][entry["kind"]] | entry
        listed[name] = ListedSystem(adapter.validate_python(settings), rows)
    return listed


class TinyBenchmark(Section):
    """A stand-in that the tiny world speaks."""

    recipe: Literal["tiny"]
    path: Path  # the world file
    num_rows: Count  # of each set; of AIR-Bench of each task

    @property
    def partial(self) -> bool:
        """It is never all of the set."""
        return True


class BenchmarkCopy(Section):
    """A local copy as the authors publish it."""

    recipe: Literal["folder"]
    path: Path
    partial: bool  # whether a part of the rows will do


BenchmarkData = Annotated[TinyBenchmark | BenchmarkCopy, Field(discriminator="recipe")]


class BenchmarkSet(Section):
    """Both benchmarks' data."""

    voicebench: BenchmarkData
    airbench: BenchmarkData


class BenchmarkSubsets(Section):
    """Sets by their official names; none: the benchmark is left out."""

    voicebench: list[Word]
    airbench: list[Word]


class Benchmark(Section):
    """VoiceBench and AIR-Bench: what is asked, and of whom."""

    data: BenchmarkSet
    sets: BenchmarkSubsets
    asked: Annotated[list[Name], Field(min_length=1)]  # of systems, by the stage
    judged: bool  # by evaluate.judge
    panda_weights: Path | None
    systems: dict[Name, System]

    @property
    def known_systems(self) -> dict[str, System]:
        """`systems`, and those of the published tables that they do not replace."""
        return {name: listed.settings for name, listed in listed_systems().items()} | self.systems

    @model_validator(mode="after")
    def _asked_exist(self) -> Self:
        for name in self.asked:
            if name not in self.systems:
                _known(name, self.known_systems, "asked", "benchmark.systems")
        return self

    @model_validator(mode="after")
    def _readers_read(self) -> Self:
        for name, system in self.systems.items():
            if not isinstance(system, CascadeSystem):
                continue
            reader = self.systems.get(system.reader) or self.known_systems.get(system.reader)
            reads = isinstance(reader, TextSystem) or (
                isinstance(reader, EndpointSystem) and reader.modality == "text"
            )
            if not reads:
                raise ValueError(
                    f"systems.{name}.reader: '{system.reader}' is no system that reads: name one of kind text, or an "
                    "endpoint with modality text"
                )
        return self


class Package(Section):
    """Settings of the package stage."""

    dtype: Dtype  # of the language model; encoders and projectors stay float32


class Release(Section):
    """What a release is judged by."""

    model: Name  # in MLflow's registry
    system: Word  # a column of the report of evaluate
    metric: Word  # a row of it


class Params(Section):
    """The whole of params.yaml."""

    seed: Annotated[int, Field(ge=0)]
    commercial: bool  # whether the weights are to be sold: then every set's corpus must allow it
    foundation: Foundation
    corpora: dict[Name, Corpus]
    prepare: Prepare
    sift: Sift
    filter: Filter
    train: Train
    evaluate: Evaluate
    benchmark: Benchmark
    package: Package
    release: Release

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        for name, targets in self.sift.sets.items():
            _known(targets.corpus, self.corpora, f"sift.sets.{name}.corpus", "corpora")
        for stage in ("stage1", "stage2"):
            for name in getattr(self.train, stage).sets:
                _known(name, self.sift.sets, f"train.{stage}.sets", "sift.sets")
        for name in self.evaluate.corpora:
            _known(name, self.corpora, "evaluate.corpora", "corpora")
        return self

    @model_validator(mode="after")
    def _stages_in_order(self) -> Self:
        if self.train.stage1.start_from is not None:
            raise ValueError("train.stage1.start_from: stage1 is the first stage; write null")
        if self.train.stage2.start_from not in (None, "stage1"):
            raise ValueError("train.stage2.start_from: write stage1, or null for fresh projectors")
        for name in self.train.stage1.sets:
            if self.sift.sets[name].mode != self.train.stage1.mode:
                raise ValueError(
                    f"train.stage1.sets: '{name}' is not of mode {self.train.stage1.mode}, which train.stage1.mode names"
                )
        return self


def _known(name: str, names: Mapping[str, object], field: str, section: str) -> None:
    if name not in names:
        choice = _suggestion(name, names) or f"; there are: {', '.join(names)}"
        raise ValueError(f"{field}: no '{name}' in {section}{choice}")


def load_params(path: Path) -> Params:
    """Read and check params.yaml.

    Raises ParamsError, one line naming the file, the field, the value and the remedy.
    """
    document = read_yaml(path)
    try:
        # By way of JSON: strict typing then still reads text as a path.
        return Params.model_validate_json(json.dumps(document, default=str))
    except TypeError as error:
        raise ParamsError(f"{path}: a key is not a plain word ({error}); mend it") from error
    except ValidationError as error:
        raise ParamsError(f"{path}: {_explain(document, error.errors(include_url=False))}") from error


def parse_corpus(entry: Mapping[str, object]) -> Corpus:
    """Check one entry of `corpora` that does not come from a file.

    Raises ParamsError, one line naming the field, the value and the remedy.
    """
    try:
        corpus: Corpus = TypeAdapter(Corpus).validate_json(json.dumps(entry, default=str))
    except ValidationError as error:
        # The location of an error starts with the recipe, which is no key of the entry.
        raise ParamsError(_explain(entry, error.errors(include_url=False))) from error
    return corpus


def read_yaml(path: Path) -> Any:
    """The content of a settings file.

    Raises ParamsError, one line naming the file, the line and the remedy.
    """
    try:
        # YAML 1.2 as DVC reads it: `no` is a word, 1e-3 a number, a repeated key an error.
        return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ParamsError(
            f"{path}: {error.strerror}; give the path of a params.yaml with --params"
        ) from error
    except UnicodeDecodeError as error:
        raise ParamsError(f"{path}: not UTF-8 text; save it as UTF-8") from error
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or error
        raise ParamsError(
            f"{path}{line}: not valid YAML: {' '.join(str(problem).split())}; mend it"
        ) from error


def _explain(document: Any, errors: list[ErrorDetails]) -> str:
    """One sentence on the most telling error: an unknown key explains the missing one beside it."""
    first = min(errors, key=lambda error: error["type"] != "extra_forbidden")
    place = _keys(document, first["loc"])
    field, value = ".".join(place), json.dumps(first["input"], ensure_ascii=False, default=str)
    message = first["msg"].removeprefix("Value error, ")
    match first["type"]:
        case "extra_forbidden":
            missing = [_keys(document, error["loc"]) for error in errors if error["type"] == "missing"]
            siblings = [keys[-1] for keys in missing if keys[:-1] == place[:-1]]
            hint = _suggestion(place[-1], siblings)
            return f"unknown key '{field}' (value {value}){hint}; correct or remove it"
        case "union_tag_not_found":
            key = first["ctx"]["discriminator"].strip("'")
            return f"'{field}.{key}' is missing; add it, the other settings depend on it"
        case "union_tag_invalid":
            key, known = first["ctx"]["discriminator"].strip("'"), first["ctx"]["expected_tags"]
            return f"'{field}.{key}' is '{first['ctx']['tag']}': no such {key}; write one of {known}"
        case "missing":
            return f"'{field}' is missing; add it, every setting is written out"
        case "value_error":
            return f"{field}: {message}" if field else message
        case _:
            shown = value if len(value) <= 60 else f"{value[:60]}..."
            return f"'{field or 'the file'}' is {shown}: {message[:1].lower()}{message[1:]}; correct it"


def _keys(document: Any, loc: tuple[int | str, ...]) -> list[str]:
    """The keys that lead to an error, as they stand in the file (pydantic adds the recipe of a corpus)."""
    keys: list[str] = []
    for depth, part in enumerate(loc, start=1):
        here = part in document if isinstance(document, dict) else isinstance(document, list)
        if here or (depth == len(loc) and part != "[key]"):
            keys.append(str(part))
        if here:
            document = document[part]
    return keys


def _suggestion(word: str, words: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, words, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""

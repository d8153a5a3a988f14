"""How prompts are written: the ``prompts`` of a recipe."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Discriminator, Field, JsonValue, Tag, field_validator, model_validator

from figment import limits
from figment.errors import FigmentError
from figment.recipe.plugin import PLUGIN, Plugin, kind_of
from figment.task import PathText, Strict, Template, Text, real_folder

if TYPE_CHECKING:
    from figment.recipe.given import Given
    from figment.types import Writer

MANY_PROMPTS = 50  # a class, where a recipe names no number
#: What a task has for writers, beside its classes.
WORDS = frozenset({"synonyms", "templates", "attributes", "contexts"})
COLLECTED = frozenset(
    {"synonyms", "templates"}
)  # of those whose sentences a model writes: it has to name the class, and may fail


class WriterSettings(Strict):
    """What the settings of all writers of prompts have."""

    @property
    def needs(self) -> frozenset[str]:
        """The splits of real images that the words depend on."""
        return frozenset()

    @property
    def reads(self) -> frozenset[str]:
        """Which of the task's WORDS the prompts depend on: two tasks that differ in others have the same prompts."""
        return WORDS

    @property
    def has_classes(self) -> bool:
        """Whether each prompt is of one of the task's classes. Images of others have the label -1, and a backbone can learn from them."""
        return True

    def n_prompts(self, images_per_class: int) -> int:
        """How many prompts of each class the writer is asked for.

        A set of images can grow without its prompts becoming others, so the number does not depend on
        ``images_per_class``; only that of plug-ins does.
        """
        raise NotImplementedError

    def build(self, given: Given) -> Writer:
        """The writer. Raises FigmentError where what it cannot do without is not there."""
        raise NotImplementedError

    def _options(self) -> dict[str, Any]:
        """What the writer itself takes."""
        return self.model_dump(exclude={"kind", "per_class"})


class TemplatesSettings(WriterSettings):
    """Template and class name, nothing else (strategy B of He et al. 2023)."""

    kind: Literal["templates"] = "templates"
    templates: list[Template] | None = Field(None, description="None = the task's")
    articles: Literal["fitting", "exact"] = Field(
        "fitting",
        description="fitting: 'a photo of an apple'; exact: each template to the letter, as tables of papers ask for",
    )

    @property
    def reads(self) -> frozenset[str]:
        return frozenset() if self.templates else frozenset({"templates"})

    def n_prompts(self, images_per_class: int) -> int:
        return sys.maxsize  # one for each template, however many those are

    def build(self, given: Given) -> Writer:
        from figment.prompts.templates import Templates

        return Templates(self.templates, self.articles)


class AttributesSettings(WriterSettings):
    """Class x attributes x context, all different."""

    kind: Literal["attributes"] = "attributes"
    per_class: int | None = Field(
        None,
        ge=1,
        le=limits.PROMPTS_A_CLASS,
        description="different prompts for each class; None = 50, or as many as the task's words make",
    )
    templates: list[Template] | None = Field(None, description="None = the task's")
    synonyms: bool = Field(True, description="also use the task's other words for a class")

    @property
    def reads(self) -> frozenset[str]:
        own = {"templates": bool(self.templates), "synonyms": not self.synonyms}
        return WORDS - {name for name, ignored in own.items() if ignored}

    def n_prompts(self, images_per_class: int) -> int:
        return self.per_class or MANY_PROMPTS

    def build(self, given: Given) -> Writer:
        from figment.prompts.attributes import Attributes

        return Attributes(self.templates, self.synonyms, exactly=self.per_class is not None)


class Seq2SeqSettings(WriterSettings):
    """Sentences from a word-to-sentence model, with the settings of He et al. 2023 ("LE")."""

    kind: Literal["seq2seq"] = "seq2seq"
    model: PathText = Field(
        "mrm8488/t5-base-finetuned-common_gen", description="a sequence-to-sequence model: a folder or Hub id"
    )
    per_class: int = Field(200, ge=1, le=limits.PROMPTS_A_CLASS, description="different sentences for each class")
    template: Template = Field("a photo of {}", description="{} is the sentence")
    article: bool = Field(True, description="give the model 'a forest', not 'forest'")
    temperature: float = Field(1.0, gt=0, le=limits.TEMPERATURE)
    top_k: int = Field(50, ge=0, le=limits.TOP_K, description="tokens to choose from; 0 = all")
    top_p: float = Field(1.0, gt=0, le=1, description="share of the probability to choose from")
    max_length: int | None = Field(
        None, ge=2, le=limits.TOKENS, description="of a sentence, in tokens; None = the model's own"
    )
    max_tries: int = Field(
        10, ge=1, le=limits.TRIES, description="x per_class sentences are drawn at most; then templates fill in"
    )
    require_name: bool = Field(True, description="a sentence has to say its class, or a synonym")
    batch_size: int = Field(64, ge=1, le=limits.BATCH, description="sentences; changes the speed alone")
    allow_pickle: bool = Field(False, description="load weights stored as pickles, which can run code")

    @property
    def reads(self) -> frozenset[str]:
        return COLLECTED

    def n_prompts(self, images_per_class: int) -> int:
        return self.per_class

    def build(self, given: Given) -> Writer:
        from figment.prompts.seq2seq import Seq2Seq

        return Seq2Seq(**self._options())


class ServerSettings(WriterSettings):
    """What writers have whose words come from a language model behind an OpenAI-compatible server."""

    kind: str
    base_url: str = Field(description="such as http://localhost:8000/v1")
    model: str = Field(min_length=1, description="as the server calls it")
    api_key_env: str | None = Field(
        None, description="name of the environment variable that holds the key; the key itself is never stored"
    )
    per_class: int = Field(100, ge=1, le=limits.PROMPTS_A_CLASS, description="different captions for each class")
    temperature: float | None = Field(0.8, ge=0, le=limits.TEMPERATURE, description="None = the server's own")
    top_p: float | None = Field(0.9, gt=0, le=1, description="None = the server's own")
    max_tokens: int | None = Field(2048, ge=1, le=limits.TOP_K, description="of an answer; None = the server's own")
    extra: dict[str, JsonValue] = Field(
        {}, description="further fields of a request; null takes one out, such as seed: null"
    )
    max_tries: int = Field(
        4, ge=1, le=limits.TRIES, description="x the requests that per_class needs, at most; then templates fill in"
    )
    require_name: bool = Field(True, description="a caption has to say its class, or a synonym")
    parallel: int = Field(8, ge=1, le=256, description="requests at a time; changes the speed alone")
    timeout: float = Field(120.0, gt=0, le=86_400, description="in seconds without a byte from the server")
    deadline: float = Field(
        600.0, gt=0, le=86_400, description="in seconds for a whole answer, however slowly it comes"
    )
    retries: int = Field(6, ge=0, le=limits.TRIES, description="of a request, after a lost connection, HTTP 429 or 5xx")

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        # The message does not repeat the address: it may hold a password.
        try:
            parts = urlsplit(url)
            fine = parts.scheme in ("http", "https") and parts.hostname and not (parts.query or parts.fragment)
            _ = parts.port
        except ValueError:
            fine = False
        if not fine or not url.isascii() or any(c.isspace() for c in url):
            raise ValueError("an address such as http://localhost:8000/v1 is needed here")
        if parts.username or parts.password:
            raise ValueError(
                "no user or password goes here: the recipe is stored. Name an environment variable in api_key_env"
            )
        return url

    @field_validator("api_key_env")
    @classmethod
    def _is_a_name(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", name):  # a key would be shown
            raise ValueError(
                "this is the name of an environment variable, such as OPENAI_API_KEY, never the key itself"
            )
        return name

    @field_validator("extra")
    @classmethod
    def _leaves_the_answer(cls, extra: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if taken := sorted(extra.keys() & {"model", "messages", "stream"}):
            raise ValueError(f"{', '.join(taken)} cannot be set here")
        return extra

    def n_prompts(self, images_per_class: int) -> int:
        return self.per_class


class ChatSettings(ServerSettings):
    """Captions from a language model behind an OpenAI-compatible server: vLLM, llama.cpp, Ollama, or a hosted one."""

    kind: Literal["chat"] = "chat"
    per_request: int = Field(20, ge=1, le=200, description="captions asked for at a time")

    def build(self, given: Given) -> Writer:
        from figment.prompts.chat import Chat

        return Chat(**self._options(), cache=given.caches / "chat")


Share = Annotated[float, Field(ge=0, le=1)]


class SynCLRShares(Strict):
    """How often each kind of caption is asked for; what there is nothing for is shared out. As SynCLR's own program has it."""

    plain: Share = 0.4004
    background: Share = 0.4095
    relation: Share = 0.1001
    place: Share = 0.088
    texture: Share = 0.002

    @model_validator(mode="after")
    def _some(self) -> SynCLRShares:
        if not self.plain + self.background + self.relation > 0:
            raise ValueError("plain, background and relation are all 0, so no concept would be written for: raise one")
        return self


class SynCLRSettings(ServerSettings):
    """Captions for the task's classes, or for a bank of concepts, from a language model that is shown three examples (SynCLR)."""

    kind: Literal["synclr"] = "synclr"
    per_class: int = Field(
        100, ge=1, le=limits.PROMPTS, description="different captions for each class; of concepts, in all"
    )
    max_tokens: int | None = Field(256, ge=1, le=limits.TOP_K, description="of an answer; None = the server's own")
    require_name: bool = Field(True, description="a caption has to say its concept")
    concepts: dict[Text, Annotated[float, Field(gt=0, le=limits.WEIGHT)]] = Field(
        {},
        description="where names of concepts come from, and the share of each: built-in tasks (imagenet) or files with a name a line."
        " {} = the task's classes; the captions of others are of no class",
    )
    backgrounds: PathText | None = Field(
        None, description="a file with a phrase a line, for any concept; None = the model names ten that suit each"
    )
    relations: list[Text] | None = Field(None, description="such as 'next to'; None = ten of them")
    places: PathText | None = Field(None, description="names of places: a built-in task (sun397) or a file")
    textures: PathText | None = Field(None, description="names of textures: a built-in task (dtd) or a file")
    shares: SynCLRShares = SynCLRShares()

    @model_validator(mode="after")
    def _have_a_class(self) -> SynCLRSettings:
        if self.has_classes and (self.places or self.textures):
            raise ValueError(
                "captions of places and textures are of none of the task's classes: give concepts as well, such as concepts:"
                " {imagenet: 1}, or leave places and textures out"
            )
        return self

    @model_validator(mode="after")
    def _have_relations(self) -> SynCLRSettings:
        if self.relations == [] and not self.shares.plain + self.shares.background > 0:
            raise ValueError(
                "relations is empty, and shares ask for nothing else of a concept: raise plain or background"
            )
        return self

    @property
    def has_classes(self) -> bool:
        return not self.concepts

    @property
    def reads(self) -> frozenset[str]:
        return COLLECTED

    def build(self, given: Given) -> Writer:
        from figment.prompts.chat_model import ChatModel
        from figment.prompts.name_lists import names_of
        from figment.prompts.server import ChatServer
        from figment.prompts.synclr import RELATIONS, Bank, SynCLR

        server = ChatServer(self.base_url, self.api_key_env, self.timeout, self.deadline, self.retries)
        options = {"temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_tokens}
        model = ChatModel(server, self.model, options, self.extra, self.parallel, given.caches / "chat")
        lists = {
            name: names_of(where)
            for name in ("places", "textures", "backgrounds")
            if (where := getattr(self, name)) is not None
        }
        bank = Bank(
            tuple((share, names_of(where)) for where, share in self.concepts.items()),
            relations=RELATIONS if self.relations is None else self.relations,
            **lists,
        )
        return SynCLR(model, bank, self.shares.model_dump(), max_tries=self.max_tries, require_name=self.require_name)


class CaptionsSettings(WriterSettings):
    """Captions of the real training images by an image-to-text model, varied."""

    kind: Literal["captions"] = "captions"
    model: PathText = Field(
        "microsoft/git-large-coco", description="an image-to-text model (GIT, BLIP, ViT-GPT2): a folder or Hub id"
    )
    per_class: int = Field(50, ge=1, le=limits.PROMPTS_A_CLASS, description="different captions for each class")
    prefix: Template = Field(
        "a photo of {}", description="before captions that do not say their class; {} is its name, with an article"
    )
    vary: bool = Field(True, description="fill up with the task's attributes and contexts put into captions")
    temperature: float = Field(1.0, gt=0, le=limits.TEMPERATURE)
    top_k: int = Field(0, ge=0, le=limits.TOP_K, description="tokens to choose from; 0 = all")
    top_p: float = Field(0.9, gt=0, le=1, description="share of the probability to choose from")
    max_new_tokens: int = Field(40, ge=1, le=limits.TOKENS, description="of a caption")
    max_tries: int = Field(
        3, ge=1, le=limits.TRIES, description="x per_class captions are drawn at most; then vary, then templates"
    )
    batch_size: int = Field(16, ge=1, le=limits.BATCH, description="images; changes the speed alone")
    allow_pickle: bool = Field(False, description="load weights stored as pickles, which can run code")

    @property
    def reads(self) -> frozenset[str]:
        return WORDS if self.vary else COLLECTED

    def n_prompts(self, images_per_class: int) -> int:
        return self.per_class

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"train"})

    def build(self, given: Given) -> Writer:
        from figment.prompts.captions import Captions

        train = given.real("train")
        if train is None:
            raise FigmentError(
                "prompts.kind is 'captions', and there are no images to caption. Set task.real.train to a folder of"
                " yours, or choose prompts.kind: attributes, which needs none."
            )
        return Captions(train, **self._options())


class ContextsSettings(WriterSettings):
    """Each class in the backgrounds and poses of the real training images of all classes, as in BOB (Yang et al., CVPR 2026)."""

    kind: Literal["contexts"] = "contexts"
    contexts: PathText = Field(
        description="a CSV with the file name of each real training image, its background and its pose"
    )
    per_class: int | None = Field(
        None, ge=1, le=limits.PROMPTS_A_CLASS, description="prompts for each class; None = 50, or one for each image"
    )
    template: Template | None = Field(None, description="of the class, before the context; None = the task's first")

    @property
    def reads(self) -> frozenset[str]:
        return frozenset() if self.template else frozenset({"templates"})

    def n_prompts(self, images_per_class: int) -> int:
        return self.per_class or MANY_PROMPTS

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"train"})

    def build(self, given: Given) -> Writer:
        from figment.images_in.contexts import contexts_of
        from figment.prompts.contexts import Contexts

        train = given.real("train")
        if train is None:
            raise FigmentError(
                "prompts.kind is 'contexts', and there are no images whose contexts could be drawn. Set task.real.train to a folder"
                " of yours, or choose prompts.kind: attributes, which needs none."
            )
        contexts = contexts_of(train, self.contexts, "prompts.contexts")
        return Contexts(contexts, self.template, exactly=self.per_class is not None)


class CaptionSetSettings(WriterSettings):
    """Captions that one has: CC3M, CC12M, RedCaps, a subset of LAION, a table of one's own, with classes or without."""

    kind: Literal["caption_set"] = "caption_set"
    source: PathText = Field(
        description="a CSV, TSV, JSON-lines, JSON or Parquet file, a WebDataset tar, a folder of such or of a saved data set, or"
        " datasets:NAME:SPLIT"
    )
    column: Text | None = Field(
        None, description="of the captions; None = caption, text or prompt, in any case; of tars .txt, else .json"
    )
    label_column: Text | None = Field(
        None,
        description="of each caption's class, a name or number of the task's; of tars a field of .json, or cls. None = the captions are of"
        " no class, and a backbone is trained on their images",
    )
    per_class: int | None = Field(
        None,
        ge=1,
        le=limits.PROMPTS,
        description="the first so many different captions of each class, in all where they have no classes; None = all there are",
    )

    @property
    def has_classes(self) -> bool:
        return self.label_column is not None

    @property
    def reads(self) -> frozenset[str]:
        return frozenset()

    def n_prompts(self, images_per_class: int) -> int:
        return self.per_class or sys.maxsize

    def build(self, given: Given) -> Writer:
        from figment.prompts.caption_files import CaptionFiles
        from figment.prompts.caption_set import CaptionSet

        writer = CaptionSet(CaptionFiles(self.source, self.column, self.label_column))
        _ = writer.fingerprint  # what is not there is told before anything is spent
        return writer


class OfImagesSettings(WriterSettings):
    """What the images of ``generate: {kind: folder}`` were made from, where their set says it; else the task's first template."""

    kind: Literal["of_images"] = "of_images"

    def n_prompts(self, images_per_class: int) -> int:
        return sys.maxsize  # one for each image that is there

    def build(self, given: Given) -> Writer:
        from figment.images_in import open_images
        from figment.prompts.of_images import OfImages
        from figment.recipe.generate import FolderSettings

        there = given.recipe.generate
        assert isinstance(there, FolderSettings)  # the recipe has seen to it
        return OfImages(open_images(real_folder(there.path), given.task.class_names, given.task.own_names))


class WriterPlugin(Plugin, WriterSettings):
    """Your own writer of prompts: ``kind: package.module:Name``, called with ``options``; asked for a prompt an image."""

    def n_prompts(self, images_per_class: int) -> int:
        return images_per_class

    def build(self, given: Given) -> Writer:
        from figment.plugins.load import load
        from figment.plugins.writer import PluginWriter

        return PluginWriter(load(self.kind, self.options, given))


Prompts = Annotated[
    Annotated[TemplatesSettings, Tag("templates")]
    | Annotated[AttributesSettings, Tag("attributes")]
    | Annotated[Seq2SeqSettings, Tag("seq2seq")]
    | Annotated[ChatSettings, Tag("chat")]
    | Annotated[CaptionsSettings, Tag("captions")]
    | Annotated[ContextsSettings, Tag("contexts")]
    | Annotated[SynCLRSettings, Tag("synclr")]
    | Annotated[CaptionSetSettings, Tag("caption_set")]
    | Annotated[OfImagesSettings, Tag("of_images")]
    | Annotated[WriterPlugin, Tag(PLUGIN)],
    Discriminator(kind_of),
]

"""One command-line flag per field of a setting, checked with sentences that a user can act on."""

import argparse
import dataclasses
import difflib
import math
import typing
from collections.abc import Sequence
from typing import Any, NoReturn

from study.recipes.contrastive.laws.law import Setting


class UsageError(ValueError):
    """Wrong words on the command line; the message is one sentence that says what to write."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flag:
    """A flag's name and help, and the least value of a number (``is_open``: it must lie above it)."""

    name: str
    help: str
    least: float = 0.0
    is_open: bool = False


def _flag(name: str, help_text: str, least: float = 0.0, is_open: bool = False) -> Flag:
    return Flag(name=name, help=help_text, least=least, is_open=is_open)


FLAGS: dict[str, Flag] = {
    "dim": _flag("d", "dimension of the vectors", 2),
    "num_classes": _flag("num-classes", "classes K", 2),
    "cosine": _flag("cosine", "cosine between the centres of two classes, or the word simplex: -1/(K-1)", -1),
    "sigma": _flag("sigma", "strength of the augmentation: noise of a view over the norm of a centre", is_open=True),
    "batch": _flag("batch", "rows (images x views) of the batch that is judged", 2),
    "train_batch": _flag("train-batch", "rows of a training batch", 2),
    "class_sizes": _flag("class-sizes", "rows of every class of the judged batch where they differ, as 60,30,10", 1),
    "num_blocks": _flag("blocks", "attention blocks L", 1),
    "residual": _flag("residual", "blocks add their input to their output"),
    "centred": _flag("centred", "blocks remove the mean of the batch from queries, keys and values"),
    "layer_norm": _flag("layer-norm", "blocks begin with a LayerNorm"),
    "weights": _flag("weights", "weights of the blocks"),
    "init": _flag("init", "what trained weights start from"),
    "num_views": _flag("views", "views of every image", 1),
    "spread": _flag("spread", "how far the images of a class differ, over the norm of a centre"),
    "mean_norm": _flag("mean-norm", "norm of a mean that all inputs share"),
    "basis": _flag("basis", "whether the centres of the classes lie on coordinate axes"),
    "num_sources": _flag("num-sources", "images (sources) of the data set", 1),
    "steps": _flag("steps", "training steps", 1),
    "num_examples": _flag("examples", "training images seen, where they and not the steps are held fixed", 1),
    "optimizer": _flag("optimizer", "optimiser"),
    "schedule": _flag("schedule", "schedule of the learning rate"),
    "learning_rate": _flag("learning-rate", "learning rate", is_open=True),
    "is_tuned": _flag("tuned", "the learning rate is chosen anew for every value"),
    "temperature": _flag("temperature", "temperature of InfoNCE", is_open=True),
    "oar_weight": _flag("oar-weight", "weight lambda of the anchor regression"),
    "num_labels": _flag("labels", "labelled images", 1),
    "embedding_dim": _flag("embedding-dim", "dimension of the embeddings", 2),
    "first_step_norm": _flag("first-step-norm", "mean norm R1 of embeddings after the first step", is_open=True),
    "first_step_variance": _flag(
        "first-step-variance", "v0: one minus their mean cosine after the first step", is_open=True
    ),
    "data": _flag("data", "vectors of the data model (clusters), or images"),
    "trainer": _flag("trainer", "training method"),
    "precision": _flag("precision", "precision of products"),
    "encoder": _flag("encoder", "encoder before the blocks or the loss"),
    "projection_dim": _flag("projection-dim", "outputs of a projection behind the embeddings, 0 for none"),
    "affinity": _flag("affinity", "how scores become rows of the affinity"),
    "target": _flag("target", "what fusion is trained towards: rows of a class, or views of a source"),
    "contrast": _flag("contrast", "contrast that an encoder is trained by"),
    "oar_from_step": _flag("oar-from-step", "step from which the anchor regression acts, 0 for the first"),
    "labelled": _flag("labelled", "labelled views per step for the anchor regression alone"),
    "labelling": _flag("labelling", "whether labels are drawn at random, or a share of every class"),
    "momentum": _flag("momentum", "momentum of gradient descent"),
    "weight_decay": _flag("weight-decay", "weight decay"),
}

PROGRAM = "python -m study.recipes.contrastive.laws"


def example(program: str = PROGRAM) -> str:
    """A command that asks of a setting."""
    return f"{program} --d 64 --num-classes 5 --sigma 1 --batch 50 --blocks 2 --weights identity"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def build_parser(program: str = PROGRAM) -> argparse.ArgumentParser:
    """The parser; a field that is not given is left out of its result."""
    parser = _Parser(
        prog=program,
        usage=f"{program} [--list] [--json] [--FIELD VALUE ...]",
        description="What the laws say of a setting, and why the others say nothing.",
        epilog=f"example: {example(program)}",
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="store_true", help="show this message")
    parser.add_argument("--list", action="store_true", help="every law in one line")
    parser.add_argument("--json", action="store_true", help="print JSON")
    fields = parser.add_argument_group("the setting")
    hints = typing.get_type_hints(Setting)
    for field in dataclasses.fields(Setting):
        flag, kinds = FLAGS[field.name], _kinds(hints[field.name])
        options: dict[str, Any] = {"dest": field.name, "default": argparse.SUPPRESS, "help": flag.help}
        if bool in kinds:
            options["action"] = argparse.BooleanOptionalAction
        elif words := [kind for kind in kinds if isinstance(kind, str)]:
            options |= {"choices": words}
        elif field.name == "class_sizes":
            options |= {"type": _sizes, "metavar": "N,N,..."}
        else:
            options |= {"type": _number(flag, is_whole=int in kinds), "metavar": "N" if int in kinds else "X"}
        if field.default not in (None, False):
            options["help"] += f" (default {_shown_default(field.default)})"
        fields.add_argument(f"--{flag.name}", **options)
    return parser


def _kinds(hint: Any) -> list[Any]:
    """The types and words that a field allows besides None."""
    parts = typing.get_args(hint) or (hint,)
    return [kind for part in parts if part is not type(None) for kind in (typing.get_args(part) or (part,))]


def _shown_default(value: Any) -> str:
    return "yes" if value is True else f"{value:g}"


def _number(flag: Flag, is_whole: bool) -> Any:
    def read(text: str) -> float | str:
        if flag.name == "cosine" and text == "simplex":
            return text
        try:
            value = int(text) if is_whole else float(text)
        except ValueError:
            kind = "a whole number" if is_whole else "a number"
            raise argparse.ArgumentTypeError(f"takes {kind}, not {text!r}") from None
        if not math.isfinite(value):
            raise argparse.ArgumentTypeError(f"takes a finite number, not {text!r}")
        if value < flag.least or (flag.is_open and value == flag.least):
            bound = f"above {flag.least:g}" if flag.is_open else f"at least {flag.least:g}"
            raise argparse.ArgumentTypeError(f"must be {bound}, not {text}")
        return value

    return read


def _sizes(text: str) -> tuple[int, ...]:
    read = _number(FLAGS["class_sizes"], is_whole=True)
    return tuple(read(part) for part in text.split(","))


def read_setting(arguments: Sequence[str], program: str = PROGRAM) -> tuple[argparse.Namespace, Setting | None]:
    """The options, and the setting that the flags give (None: none is given); :class:`UsageError` says what to fix."""
    options, unknown = build_parser(program).parse_known_args(arguments)
    if unknown:
        known = ["--help", "--list", "--json", *(f"--{flag.name}" for flag in FLAGS.values())]
        near = difflib.get_close_matches(unknown[0].partition("=")[0], known, n=1)
        raise UsageError(f"unknown argument {unknown[0]}: " + (f"did you mean {near[0]}?" if near else "see --help"))
    values = {name: value for name, value in vars(options).items() if name in FLAGS}
    if not values:
        return options, None
    num_classes = values.get("num_classes")
    if values.get("cosine") == "simplex":
        if num_classes is None:
            raise UsageError("--cosine simplex is -1/(K-1): give --num-classes as well")
        values["cosine"] = -1 / (num_classes - 1)
    if "class_sizes" in values and {"num_classes", "batch"} & set(values):
        raise UsageError("--class-sizes says how many classes and rows there are: leave out --num-classes and --batch")
    setting = Setting(**values)
    if setting.cosine >= 1 or (num_classes is not None and setting.cosine < -1 / (num_classes - 1) - 1e-9):
        least = "-1/(K-1)" if num_classes is None else f"-1/(K-1) = {-1 / (num_classes - 1):.4g}"
        raise UsageError(f"--cosine must lie from {least} (simplex) to below 1, not at {setting.cosine:g}")
    if num_classes is not None and setting.dim is not None and setting.dim < num_classes:
        raise UsageError(f"--d must be at least --num-classes, here {num_classes}: the centres need as many dimensions")
    if setting.steps is not None and setting.num_examples is not None:
        raise UsageError("--steps and --examples exclude each other: give the one that is held fixed")
    return options, setting

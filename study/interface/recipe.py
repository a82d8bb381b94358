"""A recipe: what is run with one seed, such as a training method, a simulation or a user's function.

The platform plans, packs, runs, records and judges replicates of a recipe, and knows no model, loss, data set or
trainer. A subclass of :class:`Recipe` gives a configuration class, its metrics, :meth:`Recipe.method` and
:meth:`Recipe.start`; all else has a default that suits a function of a few numbers. ``study.testing`` has the suite
that every recipe must pass.
"""

import dataclasses
import importlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic

from study.designs.values import ConfigT, Scalar, Values, canonical, digest, field_types, flatten
from study.errors import ConfigError, error_sentence
from study.interface.metrics import Metric, Quantity, Reported
from study.interface.run import Context, Data, NoData, Replicate, Run

if TYPE_CHECKING:
    from study.designs.criterion import Criterion
    from study.interface.readings import Reading, SliceView
    from study.interface.theory import Theory


@dataclass(frozen=True, kw_only=True)
class Method:
    """What makes a recipe's numbers, beside the configuration: its name in the ledger and the version of its numbers.

    Keys of replicates hold both: whoever changes the numbers at a fixed configuration and seed raises ``numerics``.
    """

    name: str
    numerics: int


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a pack takes of a worker: estimated bytes of each replicate and once of the pack, and relative work.

    ``largest_pack`` is the number of replicates up to which a pack is faster than its members one after another.
    """

    per_replicate: float = 0.0
    shared: float = 0.0
    work: float = 1.0
    largest_pack: int = 1

    def of_pack(self, num_replicates: int) -> float:
        """Bytes of a pack."""
        return self.shared + num_replicates * self.per_replicate


class Recipe(Generic[ConfigT]):
    """What is run with one seed. ``address`` is where workers find it, such as ``package.module:NAME``.

    ``dataset_path`` is the configuration path of the data set's name, empty where there is none, and ``stand_in`` the
    data set that needs no download; ``split_path`` is the path of the split that a replicate is judged on, and
    ``horizon_path`` that of how long it trains. ``reading_names`` are those of all that :meth:`readings` may give.
    """

    address: ClassVar[str]
    config_class: type
    metrics: Sequence[Metric]
    quantities: Mapping[str, Quantity] = {}
    dataset_path: str = ""
    stand_in: str = ""
    split_path: str = ""
    horizon_path: str = ""
    reading_names: tuple[str, ...] = ()

    def start(self, pack: Sequence[Replicate[ConfigT]], data: Any, context: Context) -> Run:
        """Begin, or go on with, a pack of replicates that may run together."""
        raise NotImplementedError

    def method(self, config: ConfigT) -> Method:
        """What makes the numbers of a configuration."""
        raise NotImplementedError

    def reported(self, config: ConfigT) -> Reported:
        """The metrics of a configuration: all that are declared, where nothing else is said."""
        judged = frozenset(metric.name for metric in self.metrics if metric.has_before)
        return Reported(judged=judged, trained=frozenset(metric.name for metric in self.metrics) - judged)

    def data_key(self, config: ConfigT) -> Hashable:
        """What the data of a configuration depend on: they are loaded once for equal values."""
        return flatten(config)[self.dataset_path] if self.dataset_path else None

    def load(self, config: ConfigT, data_root: str | None) -> Data:
        """The data of a configuration; :class:`ConfigError` where they cannot be had."""
        return NoData()

    def check(self, config: ConfigT, data: Any, num_workers: int) -> None:
        """Raise :class:`ConfigError` where a replicate could not run on these data by so many workers."""

    def of_dataset(self, name: str) -> Values:
        """What a configuration needs to run on a data set, beside its defaults; :class:`ConfigError` without any."""
        if not self.dataset_path:
            raise ConfigError(f"{self.address} has no data sets: leave out --dataset")
        return {self.dataset_path: name}

    def together(self, config: ConfigT) -> str:
        """Replicates with equal values may run as one pack."""
        return digest(flatten(config))

    def order(self, config: ConfigT) -> float:
        """Members of a pack are neighbours in this."""
        return 0.0

    def cost(self, config: ConfigT, data: Any, num_workers: int) -> Cost:
        """What a pack of this configuration takes of each of its workers; ``data`` is None where none are loaded."""
        return Cost()

    def num_workers(self, config: ConfigT, asked: int) -> int:
        """How many workers share a replicate, at most those asked for."""
        return 1

    def shown(self, values: Values) -> dict[str, Scalar]:
        """The values of a configuration that mean anything beside the others, for tables of runs."""
        return dict(values)

    def horizon(self, config: ConfigT) -> str:
        """How long a replicate trains, in words; empty where there is nothing to say."""
        return ""

    def alternatives(self, criterion: "Criterion") -> Iterator["Criterion"]:
        """Criteria of other metrics that ask the same question of the same replicates."""
        yield from ()

    @property
    def presets(self) -> Mapping[str, ConfigT]:
        """Configurations that have a name."""
        return {}

    @property
    def theory(self) -> "Theory | None":
        """The laws that predict limits of this recipe, None where there are none."""
        return None

    @property
    def law_command(self) -> Callable[[Sequence[str], str], int] | None:
        """What answers ``limit-study laws``: of the words after it and of how it was called, the exit code.

        None where there are no laws.
        """
        return None

    def readings(self, view: "SliceView") -> "Iterator[Reading]":
        """What else the replicates of a slice say, beside the limit."""
        yield from ()

    def metric(self, name: str) -> Metric:
        """A declared metric; of one that is not declared (an older ledger's), no more than its name."""
        return next((metric for metric in self.metrics if metric.name == name), Metric(name=name, meaning=""))

    def quantity(self, path: str) -> Quantity:
        """What an axis is called: by its path, where nothing is declared."""
        return self.quantities.get(path, Quantity(label=path, unit=path))

    @property
    def identity(self) -> str:
        """What tells this recipe's keys and designs from those of others with the same configurations."""
        return self.address

    def key(self, config: ConfigT, seed: int, data_digest: str) -> str:
        """The identity of a replicate: equal keys mean equal numbers, so a finished key is never run again."""
        method = self.method(config)
        named = {"recipe": self.identity} if self.identity else {}
        return digest(
            named
            | {
                "trainer": method.name,
                "numerics": method.numerics,
                "config": canonical(config),
                "seed": seed,
                "data": data_digest,
            }
        )

    def replicate(self, config: ConfigT, seed: int, data_digest: str) -> Replicate[ConfigT]:
        """The run of a configuration with a seed."""
        key = self.key(config, seed, data_digest)
        return Replicate(key=key, config=config, seed=seed, data_digest=data_digest)


def find_recipe(address: str) -> Recipe[Any]:
    """The recipe at ``package.module:NAME``; :class:`ConfigError` where there is none."""
    module, _, name = address.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    # Whatever a module of somebody else's does when it is loaded: other recipes do not depend on it.
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"no recipe at {address!r} ({error_sentence(error)}): is its package installed here?"
        ) from None
    if not isinstance(found, Recipe):
        raise ConfigError(
            f"{address} is no recipe: it must be an instance of a subclass of study.interface.recipe.Recipe"
        )
    _check_declared(found, address)
    return found


def _check_declared(recipe: Recipe[Any], address: str) -> None:
    """Raise :class:`ConfigError` where a recipe does not say what every recipe must."""
    lacking = [name for name in ("address", "config_class", "metrics") if not hasattr(recipe, name)]
    lacking += [name for name in ("method", "start") if getattr(type(recipe), name) is getattr(Recipe, name)]
    if lacking:
        raise ConfigError(f"the recipe at {address} is not complete: it lacks {', '.join(lacking)}")
    if not (isinstance(recipe.config_class, type) and dataclasses.is_dataclass(recipe.config_class)):
        raise ConfigError(f"the config_class of {address} must be a dataclass: put @dataclass(frozen=True) before it")
    field_types(recipe.config_class)
    if not isinstance(recipe.metrics, Sequence) or not all(isinstance(metric, Metric) for metric in recipe.metrics):
        raise ConfigError(f"the metrics of {address} must be a sequence of Metric, such as (Metric(...),)")
    names = [metric.name for metric in recipe.metrics]
    if "" in names or len({*names}) < len(names):
        raise ConfigError(f"the metrics of {address} must have names that differ, not {', '.join(map(repr, names))}")

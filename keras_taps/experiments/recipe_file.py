"""Recipes of the user's own, from YAML and TOML files, and values of the command line."""

import re
from pathlib import Path

import yaml

from keras_taps.checks import check_choice, check_text
from keras_taps.experiments.recipe import Recipe, unknown
from keras_taps.training import METHODS

FILES = (".yaml", ".yml", ".toml")


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which also reads `1e-5` as the number it is everywhere else."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def is_recipe_file(name):
    """Whether `name` is meant as a file and not as the name of a recipe."""
    return Path(name).suffix.lower() in FILES


def read_recipe(path, known):
    """A recipe from a YAML or TOML file.

    The file maps names to values. `base` names a recipe to start from; without it, all fields
    that have no default must be there.

    Args:
        path: The file.
        known: Dictionary of recipes by name, for `base`.

    Returns:
        `Recipe`; name and source are the file's unless it says otherwise.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or says something that no recipe may say.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no recipe file '{path}'.")
    content = _parse(path)
    if not isinstance(content, dict):
        raise ValueError(f"'{path}' must map names to values. Received: {type(content).__name__}")
    for name in content:
        check_text("name of a field", name)
    content = {"name": path.stem, "source": str(path), **content}
    base = content.pop("base", None)
    if base is not None:
        check_text("base", base)
        if base not in known:
            raise ValueError(f"'{path}': " + unknown("recipe", base, known))
        return known[base].changed(**content)
    required = ("dataset", "method", "eps")
    absent = [name for name in required if name not in content]
    if absent:
        raise ValueError(
            f"'{path}' must give a `base` recipe, or all of {', '.join(required)}. "
            f"Missing: {', '.join(absent)}"
        )
    start = {name: content.pop(name) for name in (*required, "name", "source")}
    start["train_eps"] = content.pop("train_eps", start["eps"])
    check_choice("method", check_text("method", start["method"]), METHODS)
    return Recipe(**start).changed(**content)


def _parse(path):
    try:
        if path.suffix.lower() == ".toml":
            try:
                import tomllib
            except ImportError:  # Python 3.10
                import tomli as tomllib
            return tomllib.loads(path.read_text(encoding="utf-8"))
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except Exception as error:
        raise ValueError(f"'{path}' cannot be read as a recipe: {error}") from error


def parse_value(text):
    """The value of `--set name=text`, read as YAML: number, truth value, list or text."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"--set cannot read the value {text!r}: {error}") from error
